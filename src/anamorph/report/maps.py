"""The maps of a registered pair: its deformation and how sure it is, in colours that mean what their legend says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from anamorph.evaluation.change import Change
from anamorph.evaluation.metrics.inverse_consistency import inverse_consistency_mm
from anamorph.evaluation.no_partner import NoPartner
from anamorph.evaluation.seen_labels import SeenLabels
from anamorph.evaluation.uncertainty import Uncertainty
from anamorph.geometry.lengths import length_text
from anamorph.report import colours
from anamorph.report.figures import Figure, Grey, Layer, Line, Panel, label_outlines
from anamorph.report.lines import anatomy, deformed_grid, line_distance_mm, outline
from anamorph.report.pictures import data_uri, exact_uri
from anamorph.report.views import View
from anamorph.transforms.affine import AffineParts, closest_affine
from anamorph.transforms.maps import Transform

if TYPE_CHECKING:
    from anamorph.report.pair import PairReport

LEAST_DEFORMATION_MM = 1e-3
"""A map that leaves an affine one nowhere by more is linear but for rounding."""

Arrangement = list[list[View]]
Greys = Mapping[str, Grey]
Values = Mapping[str, np.ndarray]


def map_panels(report: PairReport, arrangement: Arrangement, greys: Greys) -> list[Panel]:
    """A panel for each map of the fixed grid that a report has.

    Args:
        report: of the pair.
        arrangement: views in columns.
        greys: slices of the scans by the name of the view.
    """
    views = [view for column in arrangement for view in column]
    panels = []
    there, back = report.fixed_to_moving, report.moving_to_fixed
    if there is not None:
        panels.append(_grid_panel({v.name: v.displacement(there).disp_vox for v in views}, arrangement, greys))
        panels.append(_deformation_panel(there, report, arrangement, greys))
        determinant = {view.name: view.take(view.determinants(there)) for view in views}
        scale = colours.jacobian_scale(list(determinant.values()))
        caption = "White: same volume. Red: larger in the moving scan, blue: smaller. Green: folded (det J ≤ 0)."
        panels.append(_painted("Change of volume (det J)", caption, arrangement, determinant, greys, scale, "×", True))
    if there is not None and back is not None:
        moving = report.moving.grid
        error = {view.name: view.take(inverse_consistency_mm(there, back, view.slice_grid, moving)) for view in views}
        scale = colours.magnitude_scale(list(error.values()), "magma", 0.5)
        caption = "Distance after mapping to the moving scan and back. Grey: mapped outside the moving scan."
        panels.append(_painted("Inverse consistency", caption, arrangement, error, greys, scale, "mm"))
    if report.uncertainty is not None:
        panels.append(_uncertainty_panel(report.uncertainty, arrangement, greys))
    return panels


def _deformation_panel(there: Transform, report: PairReport, arrangement: Arrangement, greys: Greys) -> Panel:
    """How far the map leaves the affine map that is closest to it, which headers and patients' positions decide."""
    grid = report.fixed.grid
    linear = closest_affine(there, grid)
    left, moved = {}, []
    for view in (view for column in arrangement for view in column):
        by_linear, by_all = (view.displacement(transform).disp_vox for transform in (linear, there))
        left[view.name] = _magnitude_mm(by_all - by_linear, view)
        moved.append(_magnitude_mm(by_linear, view).ravel())
    far = length_text(float(np.median(np.concatenate(moved))), 1)
    shift, turn, scale = AffineParts.of(linear, grid.centre_mm).in_words(grid.finest_mm)
    caption = (
        "Distance of a mapped point from where the affine map closest to the result puts it. That map is taken out: "
        f"shift of the middle {shift}, turn {turn}, stretches {scale}. Alone it moves points by {far} (median)."
    )
    largest = max(float(np.nanmax(values, initial=0.0)) for values in left.values())
    if largest < LEAST_DEFORMATION_MM:
        caption = f"The map is linear: without its affine part nothing is left. {caption}"
    colour = colours.magnitude_scale(list(left.values()), "viridis", 1.0)
    return _painted("Deformation without the linear part", caption, arrangement, left, greys, colour, "mm")


def _uncertainty_panel(found: Uncertainty, arrangement: Arrangement, greys: Greys) -> Panel:
    values = {v.name: v.take_image(found.map, fill=float("nan")) for column in arrangement for v in column}
    ras = ", ".join(f"{value:.0f}" for value in found.look_first_ras_mm)
    voxel = ", ".join(str(value) for value in found.look_first_voxel)
    caption = (
        "Distance within which the right place lies in about two of three cases (39 to 87 of 100, where it is known), "
        "by how sharply the scans match. Grey: not compared. "
        f"Look first at RAS {ras} mm (voxel {voxel}): {found.look_first_mm:.1f} mm around there."
    )
    scale = colours.magnitude_scale(list(values.values()), "magma", 0.5)
    return _painted("Uncertainty", caption, arrangement, values, greys, scale, "mm")


def no_partner_panel(found: NoPartner, arrangement: Arrangement, greys: Greys) -> Panel:
    """What the fixed scan alone shows, outlined on it."""
    shown = found.maps[0]

    def figure(view: View) -> Figure:
        mask = np.zeros(view.pixels, bool) if shown is None else view.take_image(shown) > 0
        return Figure(view, [Layer(data_uri(greys[view.name]["fixed"]))], [Line(outline(mask, view), "mask")])

    caption = "Outlined: what the fixed scan shows and the moving one does not; it did not count. "
    caption += ". ".join(line[0].upper() + line[1:] for line in found.lines()) + "."
    return Panel("No partner", caption, _arranged(arrangement, figure))


def seen_panel(found: SeenLabels, least: int, arrangement: Arrangement, greys: Greys) -> Panel:
    """The labels that a guide sees in the fixed scan, and those of the moving scan as the result lays them there.

    Args:
        found: the labels.
        least: the number of the one through which the views go.
        arrangement: views in columns.
        greys: slices of the fixed scan by the name of the view.
    """
    painted = {n: colours.label_colour(n - 1) for n, row in enumerate(found.rows, start=1) if row.after is not None}

    def figure(view: View) -> Figure:
        lines = label_outlines(found.fixed, view, "fixed", painted) + label_outlines(
            found.warped, view, "warped", painted
        )
        return Figure(view, [Layer(data_uri(greys[view.name]["fixed"]))], lines)

    caption = (
        f"What {found.model} sees in the fixed scan (solid) and in the moving one, warped (dashed). The views go "
        f"through {found.rows[least - 1].name}, which agrees least. Where they part, the images said otherwise, or the "
        "network is wrong in one scan."
    )
    return Panel("What the guide sees", caption, _arranged(arrangement, figure))


def change_panel(found: Change, arrangement: Arrangement, greys: Greys) -> Panel:
    """Where two dates of a patient differ, over the fixed scan."""
    scale = colours.CHANGE

    def figure(view: View) -> Figure:
        values = view.take_image(found.map)
        values = np.where(np.abs(values) >= colours.SHOWN_SD, values, np.float32(np.nan))
        return Figure(view, [Layer(exact_uri(scale.paint(values, greys[view.name]["fixed"])))])

    line = found.line
    caption = (
        "Difference in standard deviations of the pair's own noise. Red: the moving scan is brighter, blue: darker; "
        f"smaller ones than {colours.SHOWN_SD:g} are not coloured. {line[0].upper()}{line[1:]}."
    )
    return Panel("Change", caption, _arranged(arrangement, figure), scale, "sd")


def _grid_panel(fields: Values, arrangement: Arrangement, greys: Greys) -> Panel:
    distance_mm = line_distance_mm([(view, fields[view.name]) for column in arrangement for view in column])

    def figure(view: View) -> Figure:
        picture = Layer(data_uri((greys[view.name]["after"] * 0.6).astype(np.uint8)))
        return Figure(view, [picture], [Line(deformed_grid(fields[view.name], view, distance_mm), "grid")])

    caption = f"A regular grid of {distance_mm:g} mm on the moving scan, warped with it."
    return Panel("Deformed grid", caption, _arranged(arrangement, figure))


def _magnitude_mm(disp_vox: np.ndarray, view: View) -> np.ndarray:
    parts = np.stack([view.take(disp_vox[axis]) for axis in range(3)], axis=-1)
    return np.linalg.norm(parts @ view.grid.affine[:3, :3].T.astype(np.float32), axis=-1)


def _painted(
    title: str,
    caption: str,
    arrangement: Arrangement,
    values: Values,
    greys: Greys,
    scale: colours.ColourScale,
    unit: str,
    folds: bool = False,
) -> Panel:
    def figure(view: View) -> Figure:
        picture = scale.paint(values[view.name])
        if folds:
            picture = colours.mark_folds(picture, values[view.name])
        lines = [Line(anatomy(greys[view.name]["fixed"], view), "anatomy")]
        return Figure(view, [Layer(exact_uri(picture))], lines)

    told = f"{caption} Thin lines: edges of the fixed scan."
    return Panel(title, told, _arranged(arrangement, figure), scale, unit)


def _arranged(arrangement: Arrangement, figure: Callable[[View], Figure]) -> list[list[Figure]]:
    return [[figure(view) for view in column] for column in arrangement]
