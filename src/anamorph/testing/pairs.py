"""Scans of a phantom whose true map is known, grids of many kinds, and distances between maps."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.phantom.pair import PhantomPair, make_pair


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """The 3x3 matrix that turns about the first, then the second, then the third axis."""
    a, b, c = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def affine_of(
    directions: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float]
) -> np.ndarray:
    """The 4x4 matrix from voxels to RAS mm of a grid with these axes."""
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = origin
    return affine


SHAPE = (48, 40, 44)
SHEAR = np.array([[1, 0.15, 0], [0, 1, 0.1], [0, 0, 1]])


def centred(shape: tuple[int, int, int], directions: np.ndarray, spacing: tuple[float, float, float]) -> Grid:
    """A grid whose middle is the origin of the world."""
    affine = affine_of(directions, spacing, (0, 0, 0))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


GRID_PAIRS = {
    "flipped and finer": (
        centred((46, 38, 42), np.diag([-1.0, -1, 1]), (8, 8, 8)),
        centred((60, 44, 50), np.diag([1.0, -1, -1]), (6.2, 6.8, 7)),
    ),
    "permuted and oblique": (
        centred((40, 44, 36), np.eye(3)[[2, 0, 1]], (8.5, 8, 8.5)),
        centred((46, 38, 42), rotation((8, -10, 15)), (8, 8, 8)),
    ),
    "both sheared": (
        centred((46, 40, 42), SHEAR, (8, 8, 8)),
        centred((46, 42, 42), rotation((0, 0, 5)) @ SHEAR.T, (8, 7.5, 8)),
    ),
}


@cache
def pair_of(**options: Any) -> PhantomPair:
    """The phantom pair of some options of :func:`anamorph.phantom.make_pair`, made once."""
    return make_pair(options.pop("shape", SHAPE), **options)


@cache
def smooth_pair() -> PhantomPair:
    """A pair that needs a linear start and a deformation."""
    return pair_of(seed=3)


@cache
def gentle_pair() -> PhantomPair:
    """Within reach of a search without linear start."""
    return pair_of(seed=3, translation_mm=6.0, rotation_deg=2.0, scale=0.03)


def body_points(pair: PhantomPair, count: int = 3000) -> np.ndarray:
    """RAS positions of labelled fixed voxels whose true partner lies in the moving scan."""
    grid = pair.fixed.grid
    places = grid.voxel_to_world(np.argwhere(pair.fixed_labels.data[0] > 0))
    places = places[:: max(len(places) // count, 1)]
    return places[pair.moving.grid.contains(pair.true_fixed_to_moving.map_world(places))]


def error_mm(transform: Any, pair: PhantomPair) -> float:
    """Mean distance to the truth over the labelled organs."""
    places = body_points(pair)
    return float(
        np.linalg.norm(transform.map_world(places) - pair.true_fixed_to_moving.map_world(places), axis=1).mean()
    )


def apart_vox(one: Any, other: Any, grid: Grid, where: np.ndarray | None = None) -> float:
    """Mean distance between two maps in voxels of a grid."""
    distance = np.linalg.norm(one.displacement_on(grid).disp_vox - other.displacement_on(grid).disp_vox, axis=0)
    return float(distance.mean() if where is None else distance[where].mean())
