"""The report of a registered pair: its content, and its file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anamorph.evaluation.change import Change
from anamorph.evaluation.kept_tissue import KeptPiece
from anamorph.evaluation.label_regions import voxel_counts
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics.inverse_consistency import inverse_consistency_mm
from anamorph.evaluation.no_partner import NoPartner, Region
from anamorph.evaluation.uncertainty import Uncertainty
from anamorph.evaluation.verdict import Verdict
from anamorph.image.background import background_value, looks_like_ct
from anamorph.image.image import Image, Labels
from anamorph.image.points import Points
from anamorph.report import colours
from anamorph.report.colours import label_colour
from anamorph.report.lines import curve, deformed_grid, line_distance_mm, outline
from anamorph.report.page import fill, inline_script, save
from anamorph.report.pictures import checkerboard, ct_window, data_uri, fuse, pair_windows, robust_window, to_grey
from anamorph.report.views import View, columns, focus_voxel, orthogonal_views
from anamorph.transforms.maps import Transform

SHOWN_SD, LIMIT_SD = 3.0, 12.0
"""Change between two dates is coloured from the first to the second, in standard deviations."""


@dataclass(frozen=True)
class PairReport:
    """Everything a report shows; what is None is left out.

    Args:
        title: headline.
        fixed: the fixed scan.
        moving: the moving scan, on its own grid.
        verdict: the label and its reasons.
        warped: the moving scan on the fixed grid; None when the run failed.
        fixed_to_moving: the map, of which slices are looked at.
        moving_to_fixed: the other direction.
        fixed_labels: outlines to draw; any grid.
        moving_labels: outlines before registration, on the grid of the moving labels.
        warped_labels: outlines after registration.
        fixed_points: landmarks, where the views are centred in the absence of labels.
        uncertainty: how far the right places may be from those found, as a map and its numbers.
        no_partner: what one scan alone shows, as maps and regions.
        change: what changed between two dates of one patient.
        kept: pieces that were to move rigidly or keep their volume.
        metrics: the numbers.
        timings: seconds per stage; ``"stage: part"`` is a part of ``"stage"`` and not counted twice.
        trace: objective per iteration of each stage.
        settings: of the method, possibly nested.
        provenance: how to repeat the run, possibly nested.
        start: how the linear start was found, the winner first, one line each.
        warnings: one line each.
        notes: what else is worth knowing about the input, one line each.
        failure: why there is no transform.
    """

    title: str
    fixed: Image
    moving: Image
    verdict: Verdict
    warped: Image | None = None
    fixed_to_moving: Transform | None = None
    moving_to_fixed: Transform | None = None
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    warped_labels: Labels | None = None
    fixed_points: Points | None = None
    uncertainty: Uncertainty | None = None
    no_partner: NoPartner | None = None
    change: Change | None = None
    kept: Sequence[KeptPiece] = ()
    metrics: Measured | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    trace: Mapping[str, Sequence[float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    start: Sequence[str] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    failure: str | None = None


def write_report(path: str | os.PathLike[str], report: PairReport) -> None:
    """Write a report as one HTML file that needs nothing else: pictures, styles and the script are inside.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, render(report))


def render(report: PairReport) -> str:
    """The page as text."""
    return fill("report.html.j2", **_content(report), **inline_script("report.js"))


def _content(report: PairReport) -> dict[str, Any]:
    from anamorph.report import numbers

    metrics = report.metrics
    ranks = label_ranks(report)
    content: dict[str, Any] = {
        "report": report,
        "viewer": None,
        "maps": [],
        "inputs": [],
        "tiles": numbers.tiles(metrics, report.timings) if metrics else [],
        "overview": numbers.overview(metrics) if metrics else [],
        "label_columns": numbers.label_columns(metrics) if metrics else [],
        "label_rows": numbers.label_rows(metrics, ranks) if metrics else [],
        "kept": [numbers.kept_row(piece) for piece in report.kept],
        "checks": [check for check in report.verdict.checks if check.measured is not None],
        "curves": [c for name, values in report.trace.items() if (c := curve(name, values))],
        "timings": [(name, f"{s:.2f}", s / max(report.timings.values())) for name, s in report.timings.items()],
        "geometry": [numbers.geometry_row("fixed", report.fixed), numbers.geometry_row("moving", report.moving)],
        "settings": list(numbers.flat_rows(report.settings)),
        "provenance": list(numbers.flat_rows(report.provenance)),
    }
    if report.warped is None:
        content["inputs"] = inputs(report)
    else:
        content["viewer"], content["maps"] = comparison(report, report_views(report))
    return content


@dataclass(frozen=True)
class Layer:
    """One picture of a view; ``mode`` and ``side`` say when the page shows it."""

    source: str
    mode: str = ""
    side: str = ""


@dataclass(frozen=True)
class Line:
    """One SVG path over a view, in mm."""

    path: str
    kind: str
    colour: str = ""


@dataclass
class Figure:
    """One view with everything that is drawn on it."""

    view: View
    layers: list[Layer] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """The same kind of picture in all views; ``columns`` is how they are arranged."""

    title: str
    caption: str
    columns: list[list[Figure]]
    scale: colours.ColourScale | None = None
    unit: str = ""
    folds: bool = False


Grey = dict[str, np.ndarray]


def comparison(report: PairReport, views: list[View]) -> tuple[Panel, list[Panel]]:
    """The before/after viewer, and the panels of maps that the report has."""
    assert report.warped is not None
    grey = _grey_slices(report, views)
    figures = {view.name: Figure(view, _layers(grey[view.name], view)) for view in views}
    ranks = label_ranks(report)
    for view in views:
        for labels, kind in (
            (report.fixed_labels, "fixed"),
            (report.moving_labels, "before"),
            (report.warped_labels, "after"),
        ):
            if labels is not None:
                figures[view.name].lines += _outlines(labels, view, kind, ranks)
    arrangement = columns(views)
    overlap = any(report.moving.grid.contains(_sites_mm(view)).any() for view in views)
    caption = "" if overlap else "Before: the headers place the two scans apart, so the moving scan is not in view."
    viewer = Panel("", caption, [[figures[view.name] for view in column] for column in arrangement])
    return viewer, _map_panels(report, arrangement, grey)


def inputs(report: PairReport) -> list[Panel]:
    """Both scans, each on its own grid: what can be shown when there is no transform."""
    panels = []
    for role, image, labels in (
        ("Fixed", report.fixed, report.fixed_labels),
        ("Moving", report.moving, report.moving_labels),
    ):
        views = orthogonal_views(image.grid, focus_voxel(image, labels))
        slices = {view.name: view.take(image.data[0]) for view in views}
        window = ct_window(slices.values()) if looks_like_ct(image) else robust_window(slices.values())
        figures = {view.name: Figure(view, [Layer(data_uri(to_grey(slices[view.name], window)))]) for view in views}
        arranged = [[figures[view.name] for view in column] for column in columns(views)]
        panels.append(Panel(f"{role} scan", image.name, arranged))
    return panels


def _grey_slices(report: PairReport, views: list[View]) -> dict[str, Grey]:
    """Fixed, moving before and moving after per view, as 8-bit grey in one window per scan (per pair for CT)."""
    assert report.warped is not None
    fill = background_value(report.moving)
    raw = {
        view.name: {
            "fixed": view.take_image(report.fixed),
            "before": view.take_image(report.moving, fill=fill),
            "after": view.take_image(report.warped),
        }
        for view in views
    }
    fixed, after = ([slices[kind] for slices in raw.values()] for kind in ("fixed", "after"))
    both_ct = looks_like_ct(report.fixed) and looks_like_ct(report.moving)
    windows = dict(zip(("fixed", "after"), pair_windows(fixed, after, both_ct), strict=True))
    windows["before"] = windows["after"]
    return {
        name: {kind: to_grey(values, windows[kind]) for kind, values in slices.items()} for name, slices in raw.items()
    }


def _layers(grey: Grey, view: View) -> list[Layer]:
    fixed = grey["fixed"]
    layers = []
    for side in ("before", "after"):
        layers += [
            Layer(data_uri(fuse(fixed, grey[side])), "overlay", side),
            Layer(data_uri(checkerboard(fixed, grey[side], view.pixel_mm)), "checkerboard", side),
        ]
    return [*layers, Layer(data_uri(fixed), "side", "before"), Layer(data_uri(grey["after"]), "side", "after")]


def label_ranks(report: PairReport) -> dict[int, int]:
    """Which colour each label of the fixed scan has."""
    present = voxel_counts(report.fixed_labels.data[0]) if report.fixed_labels is not None else {}
    return {name: rank for rank, name in enumerate(sorted(present))}


def _sites_mm(view: View) -> np.ndarray:
    """World positions spread over a slice."""
    axes = [np.linspace(0, n - 1, min(n, 40)) for n in view.slice_grid.shape]
    return view.slice_grid.voxel_to_world(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))


def _outlines(labels: Labels, view: View, kind: str, ranks: dict[int, int]) -> list[Line]:
    shown = view.take_image(labels, "nearest")
    names = [int(name) for name in np.unique(shown) if int(name) in ranks]
    return [Line(outline(shown == name, view), kind, label_colour(ranks[name])) for name in names]


def _map_panels(report: PairReport, arrangement: list[list[View]], grey: dict[str, Grey]) -> list[Panel]:
    views = [view for column in arrangement for view in column]
    panels = []
    there, back = report.fixed_to_moving, report.moving_to_fixed
    if there is not None:
        fields = {view.name: view.displacement(there).disp_vox for view in views}
        panels.append(_grid_panel(fields, arrangement, grey))
        size = {view.name: _magnitude_mm(fields[view.name], view) for view in views}
        scale = colours.magnitude_scale(list(size.values()), "viridis", 1.0)
        caption = "Distance between a fixed point and where it is found in the moving scan."
        panels.append(_painted("Displacement", caption, arrangement, size, grey, scale, "mm"))
        determinant = {view.name: view.take(view.determinants(there)) for view in views}
        scale = colours.jacobian_scale(list(determinant.values()))
        caption = "White: same volume. Red: larger in the moving scan, blue: smaller. Green: folded (det J ≤ 0)."
        title = "Change of volume (det J)"
        panels.append(_painted(title, caption, arrangement, determinant, grey, scale, "×", folds=True))
    if there is not None and back is not None:
        moving = report.moving.grid
        error = {view.name: view.take(inverse_consistency_mm(there, back, view.slice_grid, moving)) for view in views}
        scale = colours.magnitude_scale(list(error.values()), "magma", 0.5)
        caption = "Distance after mapping to the moving scan and back. Grey: mapped outside the moving scan."
        panels.append(_painted("Inverse consistency", caption, arrangement, error, grey, scale, "mm"))
    if report.uncertainty is not None:
        panels.append(_uncertainty_panel(report.uncertainty, arrangement, grey))
    if report.no_partner is not None:
        panels.append(_no_partner_panel(report, report.no_partner))
    if report.change is not None:
        panels.append(_change_panel(report, report.change))
    return panels


def _uncertainty_panel(found: Uncertainty, arrangement: list[list[View]], grey: dict[str, Grey]) -> Panel:
    values = {v.name: v.take_image(found.map, fill=float("nan")) for column in arrangement for v in column}
    ras = ", ".join(f"{value:.0f}" for value in found.look_first_ras_mm)
    voxel = ", ".join(str(value) for value in found.look_first_voxel)
    caption = (
        "Distance within which the right place lies in about two of three cases (52 to 89 of 100, where it is known), "
        "by how sharply the scans match. Grey: not compared. "
        f"Look first at RAS {ras} mm (voxel {voxel}): {found.look_first_mm:.1f} mm around there."
    )
    scale = colours.magnitude_scale(list(values.values()), "magma", 0.5)
    return _painted("Uncertainty", caption, arrangement, values, grey, scale, "mm")


def _no_partner_panel(report: PairReport, found: NoPartner) -> Panel:
    """The map of the fixed scan in views of its own, through the middle of the largest region."""
    views = _views_through(report, found.regions[0])
    shown, values = found.maps[0], {}
    for view in views:
        slices = np.zeros(view.pixels, np.float32) if shown is None else view.take_image(shown)
        values[view.name] = np.where(slices > 0, slices, np.float32(np.nan))
    caption = "Coloured: what the fixed scan shows and the moving one does not; it did not count. "
    caption += ". ".join(line[0].upper() + line[1:] for line in found.lines()) + "."
    scale = colours.ColourScale("magma", 0.0, 1.0)
    return _painted("No partner", caption, columns(views), values, _grey_slices(report, views), scale, "")


def _change_panel(report: PairReport, found: Change) -> Panel:
    """The map in views of its own, through the middle of the surest region."""
    views = _views_through(report, found.sure)
    values = {view.name: view.take_image(found.map) for view in views}
    values = {name: np.where(np.abs(one) >= SHOWN_SD, one, np.float32(np.nan)) for name, one in values.items()}
    line = found.line
    caption = (
        "Difference in standard deviations of the pair's own noise. Red: the moving scan is brighter, blue: darker. "
        f"{line[0].upper()}{line[1:]}."
    )
    scale = colours.ColourScale("RdBu_r", -LIMIT_SD, LIMIT_SD)
    return _painted("Change", caption, columns(views), values, _grey_slices(report, views), scale, "sd")


def _views_through(report: PairReport, regions: Sequence[Region]) -> list[View]:
    """Views through the middle of the first region, or the report's own where there is none."""
    if not regions:
        return report_views(report)
    grid = report.fixed.grid
    middle = np.rint(grid.world_to_voxel(np.array(regions[0].middle_ras_mm)))
    i, j, k = np.clip(middle, 0, np.array(grid.shape) - 1).astype(int)
    return orthogonal_views(grid, (int(i), int(j), int(k)))


def _grid_panel(fields: dict[str, np.ndarray], arrangement: list[list[View]], grey: dict[str, Grey]) -> Panel:
    distance_mm = line_distance_mm([(view, fields[view.name]) for column in arrangement for view in column])

    def figure(view: View) -> Figure:
        picture = Layer(data_uri((grey[view.name]["after"] * 0.6).astype(np.uint8)))
        return Figure(view, [picture], [Line(deformed_grid(fields[view.name], view, distance_mm), "grid")])

    arranged = [[figure(view) for view in column] for column in arrangement]
    caption = f"A regular grid of {distance_mm:g} mm on the moving scan, warped with it."
    return Panel("Deformed grid", caption, arranged)


def _magnitude_mm(disp_vox: np.ndarray, view: View) -> np.ndarray:
    parts = np.stack([view.take(disp_vox[axis]) for axis in range(3)], axis=-1)
    return np.linalg.norm(parts @ view.grid.affine[:3, :3].T.astype(np.float32), axis=-1)


def _painted(
    title: str,
    caption: str,
    arrangement: list[list[View]],
    values: dict[str, np.ndarray],
    grey: dict[str, Grey],
    scale: colours.ColourScale,
    unit: str,
    folds: bool = False,
) -> Panel:
    def figure(view: View) -> Figure:
        picture = scale.paint(values[view.name], grey[view.name]["fixed"])
        if folds:
            picture = colours.mark_folds(picture, values[view.name])
        return Figure(view, [Layer(data_uri(picture, quality=90))])

    return Panel(title, caption, [[figure(v) for v in column] for column in arrangement], scale, unit, folds)


def report_views(report: PairReport) -> list[View]:
    """The views of a report, through the places that matter."""
    image: Image = report.fixed
    return orthogonal_views(
        image.grid, focus_voxel(image, report.fixed_labels, report.fixed_points, report.fixed_to_moving)
    )
