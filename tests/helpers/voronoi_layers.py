"""Layers of random cells in an ellipsoid, which stand for supervoxels where the scan does not matter."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions


def voxels(grid: Grid) -> np.ndarray:
    return identity_positions(grid.shape).reshape(3, -1).T


def ellipsoid(grid: Grid) -> np.ndarray:
    """Which voxels lie inside, flat."""
    middle = (np.array(grid.shape) - 1) / 2
    return (((voxels(grid) - middle) / (0.85 * middle)) ** 2).sum(axis=1) < 1


@cache
def voronoi_layers(grid: Grid, layers: int = 16, supervoxels: int = 127) -> np.ndarray:
    """``(L, I, J, K)`` uint8."""
    rng = np.random.default_rng(0)
    places, inside = voxels(grid), ellipsoid(grid)
    labels = np.zeros((layers, len(places)), np.uint8)
    for layer in labels:
        sites = places[rng.choice(np.flatnonzero(inside), supervoxels, replace=False)]
        layer[inside] = cKDTree(sites).query(places[inside])[1] + 1
    return labels.reshape(layers, *grid.shape)
