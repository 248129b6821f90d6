from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.discrete.hamming_cost import hamming_costs, popcount_torch
from arrays import random_weight


def codes(channels, shape, seed):
    """Random words of 60 bits, some of them alike."""
    words = np.random.default_rng(seed).integers(0, 2**60, (channels, *shape), np.uint64)
    words[:, ::3] = words[0, 0, 0, 0]
    return words


def by_definition(fixed, weight, moving, cells, cell, radius, step, stride):
    """Sample by sample, in exact numbers."""
    shape = weight.shape
    labels = [2 * r + 1 for r in radius]
    out = np.zeros((*cells, *labels))
    for place in np.ndindex(*cells):
        samples = []
        for inside in np.ndindex(*cell):
            voxel = tuple(p * c + i for p, c, i in zip(place, cell, inside, strict=True))
            on_stride = all(i % s == 0 for i, s in zip(inside, stride, strict=True))
            if on_stride and all(v < n for v, n in zip(voxel, shape, strict=True)) and weight[voxel] > 0:
                samples.append(voxel)
        if not samples:
            continue
        mean_weight = np.mean([float(weight[voxel]) for voxel in samples])
        for label in np.ndindex(*labels):
            bits = 0
            for voxel in samples:
                there = tuple(
                    min(max(v + (d - r) * s, 0), n - 1)
                    for v, d, r, s, n in zip(voxel, label, radius, step, shape, strict=True)
                )
                for one, other in zip(fixed, moving, strict=True):
                    bits += (int(one[voxel]) ^ int(other[there])).bit_count()
            out[place + label] = mean_weight * bits / (len(samples) * len(fixed))
    return out.reshape(int(np.prod(cells)), -1)


CASES = {
    "published": ((13, 10, 21), (3, 2, 5), (4, 4, 4), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
    "coarse": ((12, 13, 14), (2, 2, 2), (6, 6, 6), (1, 1, 1), (3, 3, 3), (1, 2, 2)),
    "hanging": ((9, 10, 11), (3, 3, 4), (4, 4, 3), (1, 2, 1), (2, 1, 2), (1, 1, 1)),
    "anisotropic": ((10, 12, 7), (2, 3, 7), (5, 4, 1), (2, 1, 3), (3, 2, 1), (2, 2, 1)),
    "many cells": ((3, 4, 40), (1, 2, 20), (3, 2, 2), (1, 1, 3), (1, 1, 5), (1, 1, 1)),
    "odd strides": ((11, 12, 13), (2, 2, 2), (5, 6, 7), (1, 1, 1), (2, 2, 2), (2, 4, 3)),
    "slice": ((9, 8, 1), (2, 2, 1), (5, 4, 1), (2, 1, 0), (2, 3, 1), (1, 2, 1)),
    "one label": ((6, 5, 4), (2, 2, 2), (3, 3, 2), (0, 0, 0), (1, 1, 1), (1, 1, 1)),
    "far beyond": ((5, 6, 7), (1, 2, 2), (5, 3, 4), (3, 3, 3), (4, 4, 4), (1, 1, 1)),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_costs_are_those_of_the_definition(case, channels):
    shape, *window = CASES[case]
    fixed, moving = (codes(channels, shape, seed) for seed in (0, 1))
    weight = random_weight(shape)
    costs = hamming_costs(fixed, weight, moving, *window)
    assert costs.dtype == np.float32
    np.testing.assert_allclose(costs, by_definition(fixed, weight, moving, *window), rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_tensors_give_the_same_costs(case):
    shape, *window = CASES[case]
    fixed, moving = (codes(2, shape, seed) for seed in (2, 3))
    weight = random_weight(shape)
    costs = hamming_costs(fixed, weight, moving, *window)
    tensors = [torch.from_numpy(array.view(np.int64)) for array in (fixed, moving)]
    twin = hamming_costs(tensors[0], torch.from_numpy(weight), tensors[1], *window)
    np.testing.assert_array_equal(twin.numpy(), costs)


def test_cells_of_no_weight_cost_nothing_and_their_codes_do_not_matter():
    shape, window = (8, 8, 12), ((2, 2, 3), (4, 4, 4), (1, 1, 1), (2, 2, 2), (1, 1, 1))
    fixed, moving = (codes(1, shape, seed) for seed in (4, 5))
    weight = np.ones(shape, np.float32)
    weight[:4, 4:, 8:] = weight[5, 5, 5] = 0
    costs = hamming_costs(fixed, weight, moving, *window).reshape(2, 2, 3, -1)
    assert not costs[0, 1, 2].any()
    assert (costs.max(axis=-1) > 0).sum() == 11
    other = fixed.copy()
    other[0, weight == 0] ^= np.uint64(2**60 - 1)
    np.testing.assert_array_equal(hamming_costs(other, weight, moving, *window).reshape(2, 2, 3, -1), costs)


def test_a_shift_is_found_where_it_is():
    moving = codes(1, (16, 16, 16), 6)
    moving[:, ::3] = np.random.default_rng(7).integers(0, 2**60, moving[:, ::3].shape, np.uint64)
    fixed = np.roll(moving, (-2, 4, 0), axis=(1, 2, 3))
    costs = hamming_costs(
        fixed, np.ones((16, 16, 16), np.float32), moving, (4, 4, 4), (4, 4, 4), (2, 2, 2), (2, 2, 2), (1, 1, 1)
    ).reshape(4, 4, 4, 5, 5, 5)
    # fixed(p) = moving(p + (2, -4, 0)): labels (1, -2, 0), counted from -2.
    assert not costs[:3, 1:, :, 3, 0, 2].any()
    assert np.count_nonzero(costs[:3, 1:] == 0) == 3 * 3 * 4


def test_every_bit_is_counted():
    words = np.random.default_rng(8).integers(0, 2**60, 500, np.uint64)
    counted = popcount_torch(torch.from_numpy(words.view(np.int64)))
    np.testing.assert_array_equal(counted.numpy(), np.bitwise_count(words))
    assert popcount_torch(torch.tensor([0, 1, 2**60 - 1, 2**62, 5 << 40])).tolist() == [0, 1, 60, 1, 2]


def test_the_sign_is_a_bit_like_others():
    words = np.random.default_rng(9).integers(-(2**63), 2**63 - 1, 500, np.int64)
    words[:3] = -1, -(2**63), 2**63 - 1
    assert (words < 0).sum() > 100
    np.testing.assert_array_equal(popcount_torch(torch.from_numpy(words)).numpy(), np.bitwise_count(words.view("u8")))
