from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.geometry import Grid
from anamorph.geometry.averaging import pool_descriptor, pool_volume
from arrays import SHAPES, random_descriptor

CELLS = [(2, 2, 2), (3, 1, 2), (4, 5, 3)]


def by_loops(volume, cell):
    counts = [-(-n // c) for n, c in zip(volume.shape[1:], cell, strict=True)]
    out = np.empty((len(volume), *counts))
    for a in np.ndindex(*counts):
        block = tuple(slice(p * c, (p + 1) * c) for p, c in zip(a, cell, strict=True))
        out[(slice(None), *a)] = volume[(slice(None), *block)].mean(axis=(1, 2, 3))
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_cells_average_the_voxels_they_have(shape, cell):
    descriptor = random_descriptor(shape)
    volume = np.ascontiguousarray(np.moveaxis(descriptor, -1, 0))
    expected = by_loops(volume.astype(float), cell)
    np.testing.assert_allclose(pool_volume(volume, cell), expected, rtol=1e-5)
    np.testing.assert_allclose(np.moveaxis(pool_descriptor(descriptor, cell), -1, 0), expected, rtol=1e-5)
    np.testing.assert_allclose(pool_volume(torch.from_numpy(volume), cell), expected, rtol=1e-5)
    twin = pool_descriptor(torch.from_numpy(descriptor), cell)
    np.testing.assert_allclose(np.moveaxis(twin.numpy(), -1, 0), expected, rtol=1e-5)


def test_integers_are_averaged_as_numbers():
    volume = np.array([[[[1, 2], [3, 5]]]], np.int16)
    assert pool_volume(volume, (1, 2, 2)).item() == 2.75
    assert pool_volume(volume, (1, 1, 1)).dtype == np.float32


def test_the_pooled_grid_is_where_the_averages_belong():
    grid = Grid((12, 9, 6), np.diag([1.5, 2.0, 0.5, 1.0]))
    positions = grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1)).transpose(3, 0, 1, 2)
    pooled = grid.pooled((3, 3, 2))
    centres = pooled.voxel_to_world(np.moveaxis(np.indices(pooled.shape), 0, -1)).transpose(3, 0, 1, 2)
    np.testing.assert_allclose(pool_volume(positions, (3, 3, 2)), centres, rtol=1e-5)
