"""What a map of uncertainty says: its size inside the body, and the place to look at first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anamorph.geometry.averaging import box_smooth
from anamorph.geometry.grid import Grid
from anamorph.image.background import background_value, looks_like_ct
from anamorph.image.image import Image
from anamorph.transforms.maps import Affine

CALIBRATION = (
    "mm within which the right place of a point lies in about two of three cases: on phantoms and five sets of scans "
    "50 to 87 of 100 lay within it, 86 to 99 within twice that, but between hearts of different people 39 to 43 and "
    "67 to 72 (docs/results.md); of other kinds of scans nothing is known"
)
NOT_ESTIMATED = "not estimated: nothing was deformed, or the method compares no displacements"
BODY_HU = -500.0
BODY_SHARE = 0.15
"""Of the range of values, above which a voxel of a scan that is no CT belongs to the body."""
REGION_MM = 10.0
"""Half the side of a region whose mean counts; at least one cell, at most three."""


@dataclass(frozen=True)
class Uncertainty:
    """A map of uncertainty and its numbers inside the body.

    Args:
        map: in mm on a grid of its own, NaN where nothing was compared.
        median_mm: half of the body is more certain than that.
        p95_mm: 95 % of the body are more certain than that.
        look_first_ras_mm: centre of the most uncertain region.
        look_first_voxel: the same place in voxel indices of the fixed scan.
        look_first_mm: mean of the map in that region.
    """

    map: Image
    median_mm: float
    p95_mm: float
    look_first_ras_mm: tuple[float, float, float]
    look_first_voxel: tuple[int, int, int]
    look_first_mm: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``result.json``."""
        return {
            "median_mm": round(self.median_mm, 3),
            "p95_mm": round(self.p95_mm, 3),
            "look_first_ras_mm": [round(value, 2) for value in self.look_first_ras_mm],
            "look_first_voxel": list(self.look_first_voxel),
            "look_first_mm": round(self.look_first_mm, 3),
            "calibration": CALIBRATION,
        }


def judge_uncertainty(found: Image | None, fixed: Image) -> Uncertainty | None:
    """Look a map over; None if there is none, or it has no value anywhere.

    Args:
        found: one channel in mm on any grid of the fixed frame.
        fixed: the fixed scan.
    """
    if found is None or not np.isfinite(found.data).any():
        return None
    values = found.data[0]
    known = np.isfinite(values)
    body = known & inside_body(fixed, found.grid)
    body = body if body.any() else known
    shown = np.where(body, values, 0).astype(np.float32)
    i, j, k = np.clip(np.rint(REGION_MM / found.grid.spacing_mm), 1, 3).astype(int)
    around = box_smooth(np.stack([shown, body.astype(np.float32)]), (int(i), int(j), int(k)))
    # Cells outside count as certain, so that a region lies inside rather than along the skin.
    place = np.unravel_index(int(np.where(body, around[0], -1).argmax()), body.shape)
    x, y, z = found.grid.voxel_to_world(np.array(place))
    voxel = np.clip(np.rint(fixed.grid.world_to_voxel(np.array([x, y, z]))), 0, np.array(fixed.grid.shape) - 1)
    a, b, c = voxel.astype(int)
    median, p95 = np.percentile(values[body], [50, 95])
    mean = float(around[0][place] / around[1][place])
    return Uncertainty(found, float(median), float(p95), (float(x), float(y), float(z)), (int(a), int(b), int(c)), mean)


def inside_body(scan: Image, grid: Grid) -> np.ndarray:
    """Which points ``(I, J, K)`` of a grid lie in the body that a scan shows, its cavities included."""
    values = Affine.identity().warp_image(Image(scan.data[:1], scan.grid), grid).data[0].astype(np.float32)
    if looks_like_ct(scan):
        above = BODY_HU
    else:
        low, known = background_value(scan), values[np.isfinite(values)]
        above = low + BODY_SHARE * (float(np.percentile(known, 98)) - low) if known.size else low
    along = int(np.abs(grid.directions[2]).argmax())
    return np.moveaxis(_filled(np.moveaxis(values > above, along, 0)), 0, along)


def _filled(slices: np.ndarray) -> np.ndarray:
    """The same slices ``(N, rows, columns)`` without holes: what is empty and reaches no side of its slice."""
    from scipy.ndimage import label

    within = np.zeros((3, 3, 3), bool)  # neighbours of a pixel lie in its slice
    within[1, 1] = within[1, :, 1] = True
    regions, count = label(~slices, within)  # all slices at once, many times as fast as holes filled one by one
    outside = np.zeros(count + 1, bool)
    for side in (regions[:, 0], regions[:, -1], regions[:, :, 0], regions[:, :, -1]):
        outside[side] = True
    outside[0] = False
    return ~outside[regions]
