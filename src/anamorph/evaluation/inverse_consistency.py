from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.sampling import advance_affine, identity_positions
from anamorph.transforms import Transform

SLAB_VOXELS = 1 << 20


def inverse_consistency_mm(
    fixed_to_moving: Transform, moving_to_fixed: Transform, fixed_grid: Grid, moving_grid: Grid
) -> np.ndarray:
    """Distance between each fixed voxel and where it lands after going to the moving scan and back.

    Returns:
        ``(I, J, K)`` float32 millimetres on the fixed grid; NaN where the mapped point leaves the field of view of the
        moving scan, as the way back is extrapolated there. Computed slab by slab, so memory stays small.
    """
    error = np.empty(fixed_grid.shape, np.float32)
    last = np.array(moving_grid.shape, np.float32).reshape(3, 1, 1, 1) - np.float32(0.5)
    step = max(1, SLAB_VOXELS // (fixed_grid.shape[1] * fixed_grid.shape[2]))
    for start in range(0, fixed_grid.shape[0], step):
        slab = _slab(fixed_grid, start, min(step, fixed_grid.shape[0] - start))
        positions = fixed_to_moving.moving_positions(slab, moving_grid)
        outside = ((positions < -0.5) | (positions > last)).any(axis=0)
        flat = positions.reshape(3, -1)
        moving_to_fixed.advance(flat, moving_grid)
        advance_affine(flat, moving_grid.voxel_to_voxel(slab))
        flat -= identity_positions(slab.shape).reshape(3, -1)
        distance = np.linalg.norm(slab.affine[:3, :3].astype(np.float32) @ flat, axis=0).reshape(slab.shape)
        distance[outside] = np.nan
        error[start : start + slab.shape[0]] = distance
    return error


def summary(error_mm: np.ndarray) -> dict[str, float]:
    """Mean, 95th percentile and maximum of an error map, without its NaN voxels; NaN when nothing is left."""
    values = error_mm[np.isfinite(error_mm)]
    if values.size == 0:
        return {"mean": float("nan"), "p95": float("nan"), "max": float("nan")}
    return {
        "mean": float(values.mean(dtype=np.float64)),
        "p95": float(np.percentile(values, 95)),
        "max": float(values.max()),
    }


def _slab(grid: Grid, start: int, length: int) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.voxel_to_world(np.array([start, 0, 0]))
    return Grid((length, *grid.shape[1:]), affine)
