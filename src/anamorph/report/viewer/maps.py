"""The maps of the viewer: numbers at every voxel, the colours they have, and the legend that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph.evaluation.metrics.inverse_consistency import inverse_consistency_mm
from anamorph.features.mind_ssc import ENTRIES, mind_ssc
from anamorph.geometry.averaging import box_smooth
from anamorph.geometry.grid import Grid
from anamorph.report import colours
from anamorph.report.viewer.volumes import map_on
from anamorph.runtime.threads import over_slabs
from anamorph.transforms.affine import closest_affine

if TYPE_CHECKING:
    from anamorph.report.pair import PairReport

STEPS = 64
FOLDED = STEPS + 1
"""Values from 1 to ``STEPS`` stand for the scale of a map, which its legend shows in as many steps; 0 is unknown."""


@dataclass(frozen=True, eq=False)
class ShownMap:
    """One map of the viewer.

    Args:
        key: short name, the same in every report.
        title: what it is called.
        unit: of its numbers.
        caption: one sentence on how to read it.
        values: ``(I, J, K)`` on the grid of the viewer; NaN is unknown.
        scale: from numbers to colours.
        body: ``(I, J, K)``: where there is anatomy; elsewhere the map is not drawn.
        folds: whether numbers of zero and less are marked, everywhere.
    """

    key: str
    title: str
    unit: str
    caption: str
    values: np.ndarray
    scale: colours.ColourScale
    body: np.ndarray
    folds: bool = False

    def quantised(self) -> np.ndarray:
        """``(I, J, K)`` 8-bit: 0 where nothing is known, 1 to 64 along the scale, 65 where folded."""
        known = np.isfinite(self.values) & self.body
        values = np.zeros(self.values.shape, np.uint8)
        values[known] = 1 + np.rint(np.clip(self.scale.place(self.values[known]), 0, 1) * (STEPS - 1))
        if self.folds:
            values[self.values <= 0] = FOLDED
        return values

    def described(self) -> dict[str, Any]:
        """What the page knows of the map."""
        table = np.vstack([np.zeros((1, 3)), self.scale.table(STEPS), [colours.FOLD_COLOUR]]).astype(np.uint8)
        ticks = [f"{tick} {self.unit}" for tick in self.scale.ticks()]
        return {
            "key": self.key,
            "title": self.title,
            "caption": self.caption,
            "ticks": ticks,
            "low": self.scale.low,
            "high": self.scale.high,
            "logarithmic": self.scale.logarithmic,
            "unit": self.unit,
            "colours": table.tobytes().hex(),
            "folds": self.folds,
        }


def shown_maps(
    report: PairReport, grid: Grid, fixed: np.ndarray, warped: np.ndarray, body: np.ndarray
) -> list[ShownMap]:
    """The maps that a report has, on the grid of the viewer.

    Args:
        report: what the page shows.
        grid: of the viewer.
        fixed: ``(I, J, K)`` of the fixed scan there.
        warped: ``(I, J, K)`` of the warped scan.
        body: where there is anatomy.
    """
    maps: list[ShownMap] = []
    there, back = report.fixed_to_moving, report.moving_to_fixed

    def add(key: str, title: str, caption: str, values: np.ndarray, name: str, least: float, unit: str = "mm") -> None:
        scale = colours.magnitude_scale([values[body]], name, least)
        maps.append(ShownMap(key, title, unit, caption, values, scale, body))

    if there is not None:
        field = there.displacement_on(grid)
        determinant = field.jacobian_determinant() if report.jacobian is None else map_on(report.jacobian, grid)
        caption = "White: same volume. Red: larger in the moving scan, blue: smaller. Green: folded (det J ≤ 0)."
        scale = colours.jacobian_scale([determinant[body]])
        maps.append(
            ShownMap("jacobian", "Change of volume (det J)", "×", caption, determinant, scale, body, folds=True)
        )
        vectors_mm = field.vectors_mm()
        apart = "Distance between a fixed point and where it is found in the moving scan"
        linear = closest_affine(there, report.fixed.grid).displacement_on(grid)
        beyond = np.linalg.norm(vectors_mm - linear.vectors_mm(), axis=0)
        caption = f"{apart}, without the affine map that is closest to the result."
        add("deformation", "Displacement without the linear part", caption, beyond, "viridis", 1.0)
        whole = np.linalg.norm(vectors_mm, axis=0)
        caption = f"{apart}: headers, linear part and deformation."
        add("displacement", "Displacement, whole map", caption, whole, "viridis", 1.0)
    left = mismatch(fixed, warped)
    if there is not None and back is not None:
        error = inverse_consistency_mm(there, back, grid, report.moving.grid)
        left[np.isnan(error)] = np.nan
        caption = "Distance after mapping to the moving scan and back."
        add("inverse_consistency", "Inverse consistency", caption, error, "magma", 0.5)
    caption = (
        "How far the local structure of the warped scan differs from that of the fixed one: 0 alike, 1 nothing alike."
    )
    add("mismatch", "Unexplained structure", caption, left, "magma", 0.05, "")
    if report.no_partner is not None and report.no_partner.maps[0] is not None:
        alone = map_on(report.no_partner.maps[0], grid)
        caption = "What the fixed scan shows and the moving one does not; it did not count."
        scale = colours.ColourScale("magma", 0.0, 1.0)
        values = np.where(alone > 0, alone, np.float32(np.nan))
        maps.append(ShownMap("no_partner", "No partner", "", caption, values, scale, body))
    if report.change is not None:
        differs = map_on(report.change.map, grid)
        caption = "Difference in standard deviations of the pair's own noise. Red: the moving scan is brighter."
        values = np.where(np.abs(differs) >= colours.SHOWN_SD, differs, np.float32(np.nan))
        maps.append(ShownMap("change", "Change", "sd", caption, values, colours.CHANGE, body))
    if report.uncertainty is not None:
        values = map_on(report.uncertainty.map, grid)
        caption = (
            "Distance within which the right place lies in about two of three cases, by how sharply the scans match."
        )
        add("uncertainty", "Uncertainty", caption, values, "magma", 0.5)
    return maps


def mismatch(fixed: np.ndarray, warped: np.ndarray) -> np.ndarray:
    """``(I, J, K)`` float32: mean difference of the MIND-SSC descriptors of two scans, averaged over 3 voxels."""
    i, j, k = (int(n > 1) for n in fixed.shape)
    radius = (i, j, k)
    described = [mind_ssc(scan, radius, (1, 1, 1), (1, 1, 1)) for scan in (fixed, warped)]
    apart = np.empty(fixed.shape, np.float32)
    over_slabs(_mean_difference, len(apart), *described, apart)
    return box_smooth(apart[None], radius)[0]


def _mean_difference(begin: int, end: int, one: np.ndarray, other: np.ndarray, out: np.ndarray) -> None:
    """Plane by plane, as those of descriptors fit into the cache."""
    for i in range(begin, end):
        np.abs(np.subtract(one[i], other[i], out=one[i]), out=one[i])
        np.divide(np.einsum("jkc->jk", one[i]), ENTRIES, out=out[i])
