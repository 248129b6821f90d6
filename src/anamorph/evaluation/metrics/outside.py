from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from anamorph.evaluation.gates import Gate
from anamorph.evaluation.metrics.metric import Metric
from anamorph.geometry import Grid
from anamorph.transforms import Transform

SLAB_VOXELS = 1 << 20


def slabs_of(grid: Grid) -> Iterator[tuple[slice, Grid]]:
    """Parts of a grid along its first axis, so that what is computed on each needs little memory."""
    step = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], step):
        part = slice(start, min(start + step, grid.shape[0]))
        yield part, grid.cropped((part, slice(0, grid.shape[1]), slice(0, grid.shape[2])))


def outside_percent(fixed_to_moving: Transform, fixed_grid: Grid, moving_grid: Grid) -> float:
    """Share of the voxels of the fixed scan that are mapped outside the field of view of the moving scan, per cent."""
    count = sum(
        np.count_nonzero(outside(fixed_to_moving.moving_positions(slab, moving_grid), moving_grid))
        for _, slab in slabs_of(fixed_grid)
    )
    return 100 * count / int(np.prod(fixed_grid.shape))


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
    measure=lambda pair: outside_percent(pair.forward, pair.fixed_grid, pair.moving_grid),
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
