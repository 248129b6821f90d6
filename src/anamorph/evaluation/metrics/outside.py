from __future__ import annotations

import numpy as np

from anamorph.evaluation.gates import Gate
from anamorph.evaluation.metrics.metric import Metric
from anamorph.geometry.grid import Grid
from anamorph.geometry.slabs import over_grid
from anamorph.transforms.maps import Affine, Transform


def outside_percent(fixed_to_moving: Transform, fixed_grid: Grid, moving_grid: Grid) -> float:
    """Share of the voxels of the fixed scan that are mapped outside the field of view of the moving scan, per cent."""
    if isinstance(fixed_to_moving, Affine):
        inside = _rows_inside(fixed_grid, np.linalg.inv(moving_grid.affine) @ fixed_to_moving.matrix, moving_grid.shape)
        return 100 * (1 - inside / int(np.prod(fixed_grid.shape)))

    def count(planes: slice, slab: Grid) -> int:
        return int(np.count_nonzero(outside(fixed_to_moving.moving_positions(slab, moving_grid), moving_grid)))

    return 100 * sum(over_grid(fixed_grid, count)) / int(np.prod(fixed_grid.shape))


def _rows_inside(grid: Grid, to_moving_vox: np.ndarray, shape: tuple[int, int, int]) -> int:
    """How many voxels an affine map leaves inside, row by row: in each they follow one another."""
    matrix = to_moving_vox @ grid.affine
    rows = np.indices(grid.shape[:2]).reshape(2, -1).T @ matrix[:3, :2].T + matrix[:3, 3]
    first, last = np.zeros(len(rows)), np.full(len(rows), grid.shape[2] - 1.0)
    for place, step, length in zip(rows.T, matrix[:3, 2], shape, strict=True):
        if abs(step) < 1e-9:
            last[(place < -0.5) | (place > length - 0.5)] = -1
            continue
        ends = np.sort([(-0.5 - place) / step, (length - 0.5 - place) / step], axis=0)
        first, last = np.maximum(first, ends[0]), np.minimum(last, ends[1])
    return int(np.maximum(np.floor(last + 1e-6) - np.ceil(first - 1e-6) + 1, 0).sum())


def outside(positions_vox: np.ndarray, grid: Grid) -> np.ndarray:
    """Which of the ``(3, ...)`` positions in voxels of a grid lie more than half a voxel outside."""
    found = np.zeros(positions_vox.shape[1:], bool)
    for place, length in zip(positions_vox, grid.shape, strict=True):
        found |= (place < -0.5) | (place > np.float32(length - 0.5))
    return found


OUTSIDE = Metric(
    name="outside_percent",
    title="Fixed field of view mapped outside",
    unit="%",
    better="lower",
    measure=lambda pair: pair.outside_percent,
    meaning="voxels mapped outside the moving image, per cent",
    digits=1,
    group="",
    gates=(
        Gate(
            name="field_of_view",
            question="signs of failure",
            meaning="fixed field of view mapped outside the moving scan",
            warn=60.0,
            fail=95.0,
            good=lambda m, v: f"{100 - v:.0f} % of the fixed field of view is mapped into the moving scan",
            bad=lambda m, v: f"{v:.0f} % of the fixed field of view is mapped outside the moving scan",
        ),
    ),
)
