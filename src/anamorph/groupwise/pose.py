"""Where a scan lies and how it is turned is no part of its shape, and is taken out before shapes are averaged."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions
from anamorph.transforms import Affine, Displacement

MOST_SITES = 50_000


def pose_of(field: Displacement, weight: np.ndarray) -> Affine:
    """The rigid part of a map of the template to a scan: weighted least squares over the template's voxels.

    Rigid alignment before averaging is the generalised Procrustes mean (Gower, Psychometrika 1975). Averaging turned
    shapes instead would shrink the mean by the cosine of the angles.

    Args:
        field: maps points of the template to points of the scan.
        weight: ``(I, J, K)`` on the grid of the field, not negative: how much a voxel counts.

    Returns:
        A rotation and translation, RAS mm.
    """
    step = max(1, int(np.ceil((weight.size / MOST_SITES) ** (1 / 3))))
    thin = (slice(None, None, step),) * 3
    here = world_positions(field.grid)[(slice(None), *thin)].reshape(3, -1)
    there = here + field.vectors_mm()[(slice(None), *thin)].reshape(3, -1)
    share = weight[thin].ravel().astype(np.float64) + 1e-6
    share /= share.sum()
    centre, goal = here @ share, there @ share
    left, _, right = np.linalg.svd(((there - goal[:, None]) * share) @ (here - centre[:, None]).T)
    turn = np.eye(4)
    turn[:3, :3] = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    turn[:3, 3] = goal - turn[:3, :3] @ centre
    return Affine(turn)


def world_positions(grid: Grid) -> np.ndarray:
    """``(3, I, J, K)`` float64: RAS mm of every voxel."""
    voxels = identity_positions(grid.shape).reshape(3, -1).astype(np.float64)
    positions = grid.affine[:3, :3] @ voxels + grid.affine[:3, 3:]
    return positions.reshape(3, *grid.shape)
