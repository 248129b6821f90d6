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
from anamorph.evaluation.no_partner import NoPartner, Region
from anamorph.evaluation.seen_labels import SeenLabels
from anamorph.evaluation.uncertainty import Uncertainty
from anamorph.evaluation.verdict import Verdict
from anamorph.image.background import background_value, looks_like_ct
from anamorph.image.image import Image, Labels
from anamorph.image.points import Points
from anamorph.report.colours import label_colour
from anamorph.report.figures import Figure, Grey, Layer, Panel, label_outlines
from anamorph.report.lines import curve
from anamorph.report.maps import change_panel, map_panels, no_partner_panel, seen_panel
from anamorph.report.page import fill, inline_script, save
from anamorph.report.pictures import checkerboard, ct_window, data_uri, fuse, pair_windows, robust_window, to_grey
from anamorph.report.viewer.page import embedded
from anamorph.report.views import View, columns, focus_voxel, orthogonal_views
from anamorph.transforms.maps import Transform


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
        label_names: names of labels by value.
        label_colours: of labels, as CSS writes them; others get one of ten.
        fixed_points: landmarks, where the views are centred in the absence of labels.
        moving_points: the same landmarks in the moving scan.
        jacobian: determinants of the map, already at hand.
        uncertainty: how far the right places may be from those found, as a map and its numbers.
        seen: what a guide sees in both scans.
        no_partner: what one scan alone shows, as maps and regions.
        change: what changed between two dates of one patient.
        kept: pieces that were to move rigidly or keep their volume.
        metrics: the numbers.
        timings: seconds per stage; ``"stage: part"`` is a part of ``"stage"`` and not counted twice.
        true_error_mm: distance from the map that is known to be true, ``before`` and ``after``, each by name.
        trace: objective per iteration of each stage.
        settings: of the method, possibly nested.
        provenance: how to repeat the run, possibly nested.
        start: how the linear start was found, the winner first, one line each.
        start_map: shift, turn, scale and overlap of that start, each with its name.
        warnings: one line each.
        notes: what else is worth knowing about the input, one line each.
        files: names of the files beside the report, and what each is.
        failure: why there is no transform.
        viewer: whether the page holds the interactive view, and with it the scans in small.
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
    label_names: Mapping[int, str] = field(default_factory=dict)
    label_colours: Mapping[int, str] = field(default_factory=dict)
    fixed_points: Points | None = None
    moving_points: Points | None = None
    jacobian: Image | None = None
    uncertainty: Uncertainty | None = None
    seen: SeenLabels | None = None
    no_partner: NoPartner | None = None
    change: Change | None = None
    kept: Sequence[KeptPiece] = ()
    metrics: Measured | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    true_error_mm: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trace: Mapping[str, Sequence[float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    start: Sequence[str] = ()
    start_map: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    files: Sequence[tuple[str, str]] = ()
    failure: str | None = None
    viewer: bool = True


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
    painted = colours_of_labels(report)
    named = numbers.Named(report.label_names)
    content: dict[str, Any] = {
        "report": report,
        "viewer": None,
        "explorer": None,
        "maps": [],
        "inputs": [],
        "tiles": numbers.tiles(metrics, report.timings, report.true_error_mm) if metrics else [],
        "overview": numbers.overview(metrics) if metrics else [],
        "label_columns": numbers.label_columns(metrics) if metrics else [],
        "label_rows": numbers.label_rows(metrics, painted, report.label_names) if metrics else [],
        "named": named,
        "landmarks": numbers.landmark_rows(report.fixed_points, report.moving_points, report.fixed_to_moving),
        "true_error": numbers.true_error_rows(report.true_error_mm),
        "seen": [] if report.seen is None else numbers.seen_rows(report.seen),
        "kept": [numbers.kept_row(piece) for piece in report.kept],
        "checks": numbers.check_rows(report.verdict.checks, named),
        "curves": [c for name, values in report.trace.items() if (c := curve(name, values))],
        "timings": numbers.timing_rows(report.timings),
        "geometry": [numbers.geometry_row("fixed", report.fixed), numbers.geometry_row("moving", report.moving)],
        "settings": list(numbers.flat_rows(report.settings)),
        "provenance": list(numbers.flat_rows(report.provenance)),
    }
    if report.warped is None:
        content["inputs"] = inputs(report)
    else:
        content["viewer"], content["maps"] = comparison(report, report_views(report))
        content["explorer"] = embedded(report, painted) if report.viewer else None
    return content


def comparison(report: PairReport, views: list[View]) -> tuple[Panel, list[Panel]]:
    """The before/after viewer, and the panels of maps that the report has."""
    assert report.warped is not None
    grey = _grey_slices(report, views)
    figures = {view.name: Figure(view, _layers(grey[view.name], view)) for view in views}
    painted = colours_of_labels(report)
    for view in views:
        for labels, kind in (
            (report.fixed_labels, "fixed"),
            (report.moving_labels, "before"),
            (report.warped_labels, "after"),
        ):
            if labels is not None:
                figures[view.name].lines += label_outlines(labels, view, kind, painted)
    arrangement = columns(views)
    overlap = any(report.moving.grid.contains(_sites_mm(view)).any() for view in views)
    caption = "" if overlap else "Before: the headers place the two scans apart, so the moving scan is not in view."
    viewer = Panel("", caption, [[figures[view.name] for view in column] for column in arrangement])
    panels = map_panels(report, arrangement, grey)
    if report.seen is not None and (amid := report.seen.least_agreed) is not None:
        own = orthogonal_views(report.fixed.grid, focus_voxel(report.fixed, report.seen.alone(amid)))
        panels.append(seen_panel(report.seen, amid, columns(own), _grey_slices(report, own)))
    if report.no_partner is not None:
        own = _views_through(report, report.no_partner.regions[0])
        panels.append(no_partner_panel(report.no_partner, columns(own), _grey_slices(report, own)))
    if report.change is not None:
        own = _views_through(report, report.change.sure)
        panels.append(change_panel(report.change, columns(own), _grey_slices(report, own)))
    return viewer, panels


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


def colours_of_labels(report: PairReport) -> dict[int, str]:
    """The CSS colour of each label of the fixed scan."""
    present = voxel_counts(report.fixed_labels.data[0]) if report.fixed_labels is not None else {}
    return {value: report.label_colours.get(value, label_colour(rank)) for rank, value in enumerate(sorted(present))}


def _sites_mm(view: View) -> np.ndarray:
    """World positions spread over a slice."""
    axes = [np.linspace(0, n - 1, min(n, 40)) for n in view.slice_grid.shape]
    return view.slice_grid.voxel_to_world(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))


def _views_through(report: PairReport, regions: Sequence[Region]) -> list[View]:
    """Views through the middle of the first region, or the report's own where there is none."""
    if not regions:
        return report_views(report)
    grid = report.fixed.grid
    middle = np.rint(grid.world_to_voxel(np.array(regions[0].middle_ras_mm)))
    i, j, k = np.clip(middle, 0, np.array(grid.shape) - 1).astype(int)
    return orthogonal_views(grid, (int(i), int(j), int(k)))


def report_views(report: PairReport) -> list[View]:
    """The views of a report, through the places that matter."""
    image: Image = report.fixed
    return orthogonal_views(
        image.grid, focus_voxel(image, report.fixed_labels, report.fixed_points, report.fixed_to_moving)
    )
