from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.discrete.cost_volume import CostVolume
from anamorph.discrete.coupled_convex import coupled_argmin, coupled_argmin_torch, coupled_convex
from arrays import inner, random_descriptor, random_weight, smooth_descriptor

CELL = (2, 2, 2)
RADIUS = (1, 2, 3)


def costs_of(fixed, weight, moving, as_torch=False, step=(1, 1, 1), radius=RADIUS, max_bytes=2**30):
    arrays = (fixed, weight, moving)
    if as_torch:
        arrays = tuple(torch.from_numpy(a) for a in arrays)
    return CostVolume(*arrays, CELL, step, radius, max_bytes)


@pytest.mark.parametrize("coupling", [0.0, 0.05, 1.0])
def test_the_argmin_is_the_best_label(coupling):
    rng = np.random.default_rng(0)
    chunk = rng.random((2, 3, 4, 105), np.float32)
    guess = rng.uniform(-1, 1, (3, 5, 3, 4)).astype(np.float32)
    labels = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in RADIUS), indexing="ij")).reshape(3, -1)
    distance = ((labels[:, None, None, None] - guess[:, 2:4, ..., None]) ** 2).sum(axis=0)
    expected = labels[:, (chunk + coupling * distance).argmin(axis=-1)]
    out = np.full(guess.shape, 9, np.float32)
    coupled_argmin(chunk, RADIUS, guess, coupling, 2, out)
    np.testing.assert_array_equal(out[:, 2:4], expected)
    assert (out[:, [0, 1, 4]] == 9).all()
    twin = torch.full(guess.shape, 9.0)
    coupled_argmin_torch(torch.from_numpy(chunk), RADIUS, torch.from_numpy(guess), coupling, 2, twin)
    np.testing.assert_array_equal(twin, out)


@pytest.mark.parametrize("step", [(1, 1, 1), (2, 1, 1)])
def test_kernel_chunks_and_twin_agree(step):
    shape = (13, 10, 9)
    arrays = random_descriptor(shape), random_weight(shape), random_descriptor(shape, seed=3)
    kernel = coupled_convex(costs_of(*arrays, step=step))
    np.testing.assert_allclose(coupled_convex(costs_of(*arrays, step=step, max_bytes=1)), kernel, atol=1e-5)
    np.testing.assert_allclose(coupled_convex(costs_of(*arrays, as_torch=True, step=step)), kernel, atol=1e-4)


@pytest.mark.parametrize("shift", [(1, -2, 3), (-1, 0, -3), (0, 2, 1)])
def test_a_shift_by_whole_labels_is_found_exactly_inside(shift):
    shape = (20, 22, 24)
    moving = smooth_descriptor(shape, sigma=1.0)
    fixed = np.roll(moving, [-s for s in shift], axis=(0, 1, 2))  # fixed(x) = moving(x + shift)
    found = coupled_convex(costs_of(fixed, np.ones(shape, np.float32), moving))
    np.testing.assert_allclose(found[inner(4)], np.broadcast_to(np.reshape(shift, (3, 1, 1, 1)), found[inner(4)].shape))


def test_voxels_without_weight_do_not_pull():
    shape = (20, 20, 20)
    moving = smooth_descriptor(shape, sigma=1.0)
    fixed = np.roll(moving, (-1, 0, 0), axis=(0, 1, 2))
    fixed[:10] = np.roll(moving, (1, 0, 0), axis=(0, 1, 2))[:10]
    weight = np.ones(shape, np.float32)
    weight[:10] = 0
    found = coupled_convex(costs_of(fixed, weight, moving, radius=(2, 2, 2)))
    np.testing.assert_allclose(found[0, 5:9, 2:-2, 2:-2], 1, atol=0.35)
    assert found[0, :4].min() > -0.1


@pytest.mark.parametrize("as_torch", [False, True])
def test_where_all_labels_cost_the_same_nothing_moves(as_torch):
    flat = np.ones((8, 8, 8, 16), np.float32)
    assert not coupled_convex(costs_of(flat, flat[..., 0].copy(), flat, as_torch)).any()
