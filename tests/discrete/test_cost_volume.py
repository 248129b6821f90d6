from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from anamorph.discrete.cost_volume import CostVolume
from arrays import random_descriptor, random_weight

SHAPE = (9, 8, 13)
CELL, STEP, RADIUS = (2, 3, 2), (1, 2, 1), (1, 2, 3)


def make(shape=SHAPE, channels=16, as_torch=False, max_bytes=2**30, neighbours=(1, 1, 1), radius=RADIUS, cell=CELL):
    arrays = random_descriptor(shape, channels, 0), random_weight(shape), random_descriptor(shape, channels, 3)
    if as_torch:
        arrays = tuple(torch.from_numpy(a) for a in arrays)
    return CostVolume(*arrays, cell, STEP, radius, max_bytes, neighbours)


def whole(costs):
    return np.concatenate([np.asarray(chunk) for _, chunk in costs.chunks()])


def by_loops(shape=SHAPE, neighbours=(1, 1, 1)):
    fixed, weight, moving = random_descriptor(shape, 16, 0), random_weight(shape), random_descriptor(shape, 16, 3)
    places = np.moveaxis(np.indices(shape), 0, -1)
    volumes = []
    for di in range(-RADIUS[0], RADIUS[0] + 1):
        for dj in range(-RADIUS[1], RADIUS[1] + 1):
            for dk in range(-RADIUS[2], RADIUS[2] + 1):
                target = np.clip(places + np.array([di, dj, dk]) * STEP, 0, np.array(shape) - 1)
                cost = weight * ((fixed - moving[tuple(np.moveaxis(target, -1, 0))]) ** 2).sum(axis=-1)
                counts = [-(-n // c) for n, c in zip(shape, CELL, strict=True)]
                cells = np.empty(counts)
                for a in np.ndindex(*counts):
                    cells[a] = cost[tuple(slice(p * c, (p + 1) * c) for p, c in zip(a, CELL, strict=True))].mean()
                volumes.append(uniform_filter(cells, [2 * n + 1 for n in neighbours], mode="nearest"))
    return np.stack(volumes, axis=-1)


@pytest.mark.parametrize("neighbours", [(1, 1, 1), (1, 1, 0)])
@pytest.mark.parametrize("as_torch", [False, True])
def test_costs_and_the_order_of_labels(neighbours, as_torch):
    costs = make(as_torch=as_torch, neighbours=neighbours)
    assert costs.labels == 3 * 5 * 7
    assert costs.cells == (5, 3, 7)
    np.testing.assert_allclose(whole(costs), by_loops(neighbours=neighbours), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("as_torch", [False, True])
@pytest.mark.parametrize("neighbours", [(1, 1, 1), (0, 1, 1)])
def test_chunks_are_pieces_of_the_whole(as_torch, neighbours):
    pieces = make(as_torch=as_torch, max_bytes=1, neighbours=neighbours)
    assert [first for first, _ in pieces.chunks()] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(whole(pieces), whole(make(as_torch=as_torch, neighbours=neighbours)), rtol=1e-6)


@pytest.mark.parametrize("shape", [(11, 9, 1), (1, 9, 11), (3, 2, 17)])
@pytest.mark.parametrize("channels", [16, 32])
def test_thin_and_single_voxel_axes(shape, channels):
    radius = tuple(2 if n > 1 else 0 for n in shape)
    cell = tuple(min(2, n) for n in shape)
    kernel, twin = (whole(make(shape, channels, t, radius=radius, cell=cell)) for t in (False, True))
    np.testing.assert_allclose(kernel, twin, rtol=1e-4, atol=1e-4)


def test_a_voxel_without_weight_costs_nothing():
    arrays = random_descriptor(SHAPE), np.zeros(SHAPE, np.float32), random_descriptor(SHAPE, seed=3)
    assert not whole(CostVolume(*arrays, CELL, STEP, RADIUS, 2**30)).any()
