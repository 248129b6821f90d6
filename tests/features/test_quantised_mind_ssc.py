"""The 60-bit descriptor against the published one, written down here voxel by voxel from its description."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.features.quantised_mind_ssc import BITS, quantised_mind_ssc
from arrays import SHAPES

SHIFTS = [(1, 1, 0), (-1, 1, 0), (0, -1, 1), (-1, 0, 1), (0, 1, 1), (1, 0, 1)]
ENTRIES = [
    (0, (0, -1, 0)), (0, (-1, 0, 0)), (1, (0, -1, 0)), (1, (1, 0, 0)), (2, (0, 0, -1)), (2, (0, 1, 0)),
    (3, (0, 0, -1)), (3, (1, 0, 0)), (4, (0, 0, -1)), (4, (0, -1, 0)), (5, (0, 0, -1)), (5, (-1, 0, 0)),
]  # fmt: skip
THRESHOLDS = [1.3862943611, 0.8754687374, 0.5389965007, 0.2876820724, 0.0870113770]


def integers(shape, seed=0):
    """Noise in ten steps over a plane that is constant, so that empty patches and ties occur."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 10, shape)
    image[: shape[0] // 3] = 4
    return image


def published_levels(image, step):
    """``(12, I, J, K)`` levels 0 to 5 of an image of whole numbers, exact until the last division."""
    shape, step = image.shape, np.array(step)

    def inside(place):
        return all(0 <= p < n for p, n in zip(place, shape, strict=True))

    distances = np.zeros((6, *shape), np.int64)
    for n, shift in enumerate(np.array(SHIFTS) * step):
        squared = np.zeros(shape, np.int64)
        for place in np.ndindex(shape):
            other = tuple(place + shift)
            squared[place] = (int(image[other]) - int(image[place])) ** 2 if inside(other) else 0
        for place in np.ndindex(shape):
            box = tuple(slice(max(p - r, 0), p + r + 1) for p, r in zip(place, step, strict=True))
            distances[(n, *place)] = squared[box].sum()
    levels = np.zeros((12, *shape), int)
    for place in np.ndindex(shape):
        entries = []
        for n, offset in ENTRIES:
            start = tuple(np.array(place) + np.array(offset) * step)
            entries.append(distances[(n, *(start if inside(start) else place))])
        entries = np.array(entries) - min(entries)
        ratio = entries / max(entries.mean(), 1e-6)
        levels[(slice(None), *place)] = [sum(r < threshold for threshold in THRESHOLDS) for r in ratio]
    return levels


def code_of(levels):
    """Thermometers of five bits, the first entry in the lowest."""
    code = np.zeros(levels.shape[1:], np.uint64)
    for t, level in enumerate(levels):
        code |= np.uint64(2) ** (level.astype(np.uint64)) - np.uint64(1) << np.uint64(5 * t)
    return code


def levels_of(code):
    return np.stack([np.bitwise_count(code >> np.uint64(5 * t) & np.uint64(31)) for t in range(12)]).astype(int)


CASES = [
    ((9, 8, 7), (1, 1, 1)),
    ((8, 9, 11), (2, 2, 2)),
    ((10, 9, 12), (3, 3, 3)),
    ((9, 11, 1), (2, 2, 0)),
    ((1, 10, 9), (0, 1, 2)),
    ((10, 9, 6), (3, 2, 1)),
    ((4, 5, 8), (3, 3, 3)),
]


@pytest.mark.parametrize("threads", [1, 3, 11])
@pytest.mark.parametrize(("shape", "step"), CASES)
def test_every_bit_is_the_published_one(shape, step, threads, monkeypatch):
    image = integers(shape)
    monkeypatch.setattr("anamorph.features.quantised_mind_ssc.thread_count", lambda: threads)
    code = quantised_mind_ssc(image.astype(np.float32), step)
    levels = published_levels(image, step)
    assert code.dtype == np.uint64
    np.testing.assert_array_equal(code, code_of(levels))
    assert len(np.unique(levels)) == 6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [1, 2, 3])
def test_tensors_give_the_same_bits(shape, step):
    steps = tuple(step if n > 1 else 0 for n in shape)
    image = integers(shape, seed=1).astype(np.float32)
    tensor = quantised_mind_ssc(torch.from_numpy(image), steps)
    assert tensor.dtype == torch.int64
    np.testing.assert_array_equal(tensor.numpy().view(np.uint64), quantised_mind_ssc(image, steps))


def test_tensors_differ_by_rounding_alone():
    image = np.random.default_rng(2).normal(0, 300, (20, 18, 22)).astype(np.float32)
    tensor = quantised_mind_ssc(torch.from_numpy(image), (2, 2, 2)).numpy().view(np.uint64)
    assert (tensor != quantised_mind_ssc(image, (2, 2, 2))).mean() < 1e-3


@pytest.mark.parametrize("changed", [lambda x: 4 * x, lambda x: x / 8, lambda x: x - 1024, lambda x: 100 - x])
def test_scale_offset_and_inversion_change_nothing(changed):
    image = integers((9, 10, 8)).astype(np.float32)
    np.testing.assert_array_equal(quantised_mind_ssc(changed(image), (2, 2, 2)), quantised_mind_ssc(image, (2, 2, 2)))


def test_bits_that_differ_count_the_levels_between():
    one, other = (quantised_mind_ssc(integers((9, 10, 8), seed).astype(np.float32), (1, 1, 1)) for seed in (3, 4))
    apart = np.abs(levels_of(one) - levels_of(other)).sum(axis=0)
    np.testing.assert_array_equal(np.bitwise_count(one ^ other), apart)
    assert apart.max() > 20
    assert max(one.max(), other.max()) < 2**BITS


def test_where_nothing_is_seen_every_level_is_the_highest():
    code = quantised_mind_ssc(np.full((6, 7, 5), -1024, np.float32), (2, 2, 2))
    assert (code == np.uint64(2**BITS - 1)).all()


def test_what_is_shifted_is_described_alike():
    image = np.random.default_rng(5).normal(size=(18, 17, 19)).astype(np.float32)
    whole = quantised_mind_ssc(image, (1, 1, 1))
    part = quantised_mind_ssc(image[3:, 2:, 4:], (1, 1, 1))
    inner = (slice(4, -4),) * 3
    assert (whole[3:, 2:, 4:][inner] == part[inner]).mean() > 0.999
