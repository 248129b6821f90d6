from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.transforms import Affine


def jitter(grid: Grid, sigma: float, rng: np.random.Generator) -> Affine:
    """A random affine map near the identity: every entry of its 3x4 matrix is off by ``N(0, sigma^2)``.

    The matrix acts on coordinates in which the field of view is the cube from -1 to 1, as in SLIC-Reg (Heinrich and
    Hansen 2021, published code).

    Args:
        grid: whose field of view that is.
        sigma: 0.05 in the published layers.
        rng: of the noise.

    Raises:
        UserError: the map is singular, which takes a sigma far too large.
    """
    half = np.array(grid.shape) / 2
    cube_to_voxel = np.eye(4)
    cube_to_voxel[:3, :3] = np.diag(half)
    cube_to_voxel[:3, 3] = half - 0.5
    cube_to_world = grid.affine @ cube_to_voxel
    matrix = np.eye(4)
    matrix[:3] += rng.normal(0, sigma, (3, 4))
    return Affine(cube_to_world @ matrix @ np.linalg.inv(cube_to_world))
