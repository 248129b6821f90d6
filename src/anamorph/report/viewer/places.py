"""The places of a pair to look at first: where a map is largest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.averaging import box_smooth
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import numbers_mm
from anamorph.report.viewer.maps import ShownMap

WORST = {
    "mismatch": "Structure least explained",
    "uncertainty": "Least certain",
    "deformation": "Most deformed",
}
"""The maps whose largest values are worth a look, and what is said of them."""
MOST = 3
REGION_SHARE = 0.02
"""Half the side of a region whose mean counts, as a share of the longest side of the scan."""
APART = 4.0
"""Distance between two places of one kind, in half sides of a region."""


@dataclass(frozen=True)
class Place:
    """A place worth a look.

    Args:
        title: why.
        key: of the map that says so.
        value: mean of the map around there, with its unit.
        ras_mm: the middle of the region.
    """

    title: str
    key: str
    value: str
    ras_mm: tuple[float, float, float]


def worst_places(maps: list[ShownMap], grid: Grid, body: np.ndarray) -> list[Place]:
    """The regions inside the body where maps have their largest means, the worst of each map first."""
    return [
        Place(
            WORST[one.key],
            one.key,
            f"{numbers_mm([value], 1)[0] if one.unit else f'{value:.2f}'} {one.unit}".strip(),
            at,
        )
        for one in maps
        if one.key in WORST
        for value, at in _largest(one.values, grid, body)
    ]


def _largest(values: np.ndarray, grid: Grid, body: np.ndarray) -> list[tuple[float, tuple[float, float, float]]]:
    half_mm = REGION_SHARE * grid.longest_mm
    known = np.isfinite(values) & body
    cells = np.maximum(np.rint(half_mm / grid.spacing_mm), 1).astype(int)
    i, j, k = (int(min(c, (n - 1) // 2)) for c, n in zip(cells, grid.shape, strict=True))
    parts = np.stack([np.where(known, values, 0), known]).astype(np.float32)
    total, count = box_smooth(parts, (i, j, k))
    for axis, margin in enumerate((i, j, k)):  # a region that the border of the scan cuts tells little
        along = np.arange(known.shape[axis])
        rim = np.minimum(along, along[::-1]) < 2 * margin
        np.moveaxis(known, axis, 0)[rim] = False
    means = np.where(known & (count > 0.5), total / np.maximum(count, 1e-6), -np.inf)
    found = []
    # No voxel so far along an axis, whatever the angles between them, lies within the distance.
    reach = np.ceil(APART * half_mm * np.linalg.norm(np.linalg.inv(grid.affine[:3, :3]), axis=1))
    for _ in range(MOST):
        where = np.unravel_index(int(means.argmax()), means.shape)
        value = float(means[where])
        if not value > 0:
            break
        x, y, z = grid.voxel_to_world(np.array(where, float))
        found.append((value, (float(x), float(y), float(z))))
        near = tuple(slice(max(int(at - r), 0), int(at + r) + 1) for at, r in zip(where, reach, strict=True))
        offsets = np.meshgrid(
            *(np.arange(n)[s] - at for n, s, at in zip(means.shape, near, where, strict=True)), indexing="ij"
        )
        apart_mm = np.linalg.norm(np.tensordot(grid.affine[:3, :3], np.stack(offsets), 1), axis=0)
        means[near][apart_mm < APART * half_mm] = -np.inf
    return found
