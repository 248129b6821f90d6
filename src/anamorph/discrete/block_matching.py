"""Correspondences by block matching on descriptors, made smooth by coupled convex optimisation."""

from __future__ import annotations

import numpy as np

from anamorph.discrete.cost_volume import CostVolume
from anamorph.discrete.coupled_convex import coupled_convex
from anamorph.geometry.averaging import pool_volume

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Short of the last coupling of a full search: the linear fit that follows is the stronger smoother."""


def match_blocks(
    fixed: np.ndarray,
    fixed_weight: np.ndarray,
    moving: np.ndarray,
    cell: int,
    step: int,
    radius: int,
    keep: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Find for the clearest blocks of the fixed image where they are in the moving image.

    The displacements are those of a smooth field through all costs, so that blocks that look alike do not scatter. A
    block counts as clear when its best cost is small beside its mean cost over the window; blocks that are mostly
    outside the weight are left out, whatever the intensities are.

    Args:
        fixed: ``(I, J, K, C)`` descriptor.
        fixed_weight: ``(I, J, K)``.
        moving: descriptor on the same grid.
        cell: block size in voxels.
        step: voxels between displacements.
        radius: displacements to each side.
        keep: fraction of the valid blocks returned.

    Returns:
        Two ``(N, 3)`` arrays of voxel positions: block centres and where they go. N may be 0.
    """
    shape = fixed.shape[:3]
    cells = (min(cell, shape[0]), min(cell, shape[1]), min(cell, shape[2]))
    window = tuple(radius if n > 1 else 0 for n in shape)
    costs = CostVolume(fixed, fixed_weight, moving, cells, (step,) * 3, window, max_bytes=2**62)  # type: ignore[arg-type]
    table = next(costs.chunks())[1].reshape(-1, costs.labels)
    weight = pool_volume(fixed_weight[None], cells)[0].ravel()
    valid = weight > 0.5
    if not valid.any():
        return np.empty((0, 3)), np.empty((0, 3))
    clarity = table.min(axis=1) / np.maximum(table.mean(axis=1), 1e-9)
    chosen = valid & (clarity <= np.quantile(clarity[valid], keep))
    displacement = coupled_convex(costs, couplings=COUPLINGS).reshape(3, -1).T[chosen]
    corners = np.stack(np.unravel_index(np.flatnonzero(chosen), costs.cells), axis=-1) * cells
    centres = (corners + np.minimum(corners + cells, shape) - 1) / 2
    return centres, centres + displacement
