"""Grids, smooth maps and images that the tests share."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.testing.pairs import affine_of, rotation
from anamorph.transforms import Affine, Displacement

SHAPE = (21, 18, 15)


GRIDS = {
    "identity": Grid(SHAPE, np.eye(4)),
    "flipped": Grid(SHAPE, affine_of(np.diag([-1.0, 1, -1]), (2, 2, 2), (17, -30, 55))),
    "anisotropic": Grid(SHAPE, affine_of(np.diag([-1.0, -1, 1]), (0.8, 0.8, 5), (100, 80, -300))),
    "permuted": Grid(SHAPE, affine_of(np.eye(3)[[2, 0, 1]], (1.5, 1, 2), (-10, 5, 7))),
    "oblique": Grid(SHAPE, affine_of(rotation((25, -14, 40)), (1.2, 0.9, 2.5), (-40, 12, 90))),
}
SHEARED = Grid(
    SHAPE, affine_of(rotation((5, 10, 0)) @ np.array([[1, 0.2, 0], [0, 1, 0.1], [0, 0, 1]]), (1.2, 1, 2), (3, 4, 5))
)


def other_grid(grid: Grid) -> Grid:
    """A grid of another size, spacing and direction about the same centre."""
    shape = (17, 22, 16)
    linear = rotation((8, -5, 12)) @ grid.affine[:3, :3] * 1.1
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = grid.centre_mm - linear @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def smooth_field(grid: Grid, amplitude_vox: float = 1.5, seed: int = 0) -> Displacement:
    """A smooth random displacement that does not fold."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(n) / max(n, 8) for n in grid.shape), indexing="ij")
    disp = np.zeros((3, *grid.shape))
    for c in range(3):
        for _ in range(3):
            wave = sum(rng.uniform(-1.2, 1.2) * axis for axis in axes) + rng.uniform()
            disp[c] += amplitude_vox / 2 * np.sin(2 * np.pi * wave)
    return Displacement(disp, grid)


def small_affine(grid: Grid, seed: int = 1) -> Affine:
    """A rotation, scaling and shift about the centre of a grid."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((6, -4, 8)) @ np.diag([1.05, 0.95, 1.02])
    matrix[:3, 3] = grid.centre_mm - matrix[:3, :3] @ grid.centre_mm + rng.uniform(-2, 2, 3)
    return Affine(matrix)


def textured_image(grid: Grid, dtype: type = np.float32, seed: int = 2) -> Image:
    """Noise with a smooth part."""
    rng = np.random.default_rng(seed)
    smooth = np.sin(
        np.add.outer(np.add.outer(*(np.arange(n) / 3 for n in grid.shape[:2])), np.arange(grid.shape[2]) / 2)
    )
    return Image((100 * smooth + 10 * rng.standard_normal(grid.shape) + 200).astype(dtype), grid, "texture")


def points_inside(grid: Grid, count: int = 100, seed: int = 3) -> np.ndarray:
    """``(count, 3)`` RAS positions between the outermost voxel centres."""
    rng = np.random.default_rng(seed)
    return grid.voxel_to_world(rng.uniform(0, np.array(grid.shape) - 1, (count, 3)))


def isotropic(shape: tuple[int, int, int], spacing_mm: float = 1.0) -> Grid:
    return Grid(shape, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
