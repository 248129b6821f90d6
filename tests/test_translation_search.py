from __future__ import annotations

import numpy as np
import pytest

from anamorph.similarity.translation_search import overlap_cost, search_translation
from arrays import smooth_descriptor

PRICE = 0.8


def ones(array):
    return np.ones(array.shape[:3], np.float32)


@pytest.mark.parametrize("shift", [(9, 4, -7), (-12, 0, 3)])
def test_two_cuts_of_one_scene_are_brought_together(shift):
    scene = smooth_descriptor((40, 36, 34), sigma=0.8)
    start = np.array([14, 8, 9])
    fixed = scene[14:32, 8:26, 9:25]
    low = start - np.array(shift)
    size = (20, 17, 19)
    low_cut, high_cut = np.maximum(low, 0), np.minimum(low + size, scene.shape[:3])
    moving = scene[tuple(slice(a, b) for a, b in zip(low_cut, high_cut, strict=True))]
    found = search_translation(fixed, ones(fixed), moving, ones(moving), 0.1, PRICE)
    np.testing.assert_array_equal(found.shift_vox, start - low_cut)


def test_the_cost_is_that_of_trying_every_translation():
    rng = np.random.default_rng(0)
    fixed, moving = rng.random((5, 4, 1, 16)), rng.random((4, 6, 1, 16))
    fixed_weight, moving_weight = rng.random((5, 4, 1)), rng.random((4, 6, 1))
    smaller = min(fixed_weight.sum(), moving_weight.sum())
    tried = {}
    for di in range(-4, 4):
        for dj in range(-3, 6):
            mismatch = overlap = 0.0
            for i, j in np.ndindex(5, 4):
                if 0 <= i + di < 4 and 0 <= j + dj < 6:
                    both = fixed_weight[i, j, 0] * moving_weight[i + di, j + dj, 0]
                    overlap += both
                    mismatch += both * ((fixed[i, j, 0] - moving[i + di, j + dj, 0]) ** 2).sum()
            if overlap > 0.25 * smaller:
                tried[di, dj, 0] = mismatch, overlap
    typical = np.median([mismatch / overlap for mismatch, overlap in tried.values()])
    cost = {t: (m + PRICE * typical * max(smaller - o, 0)) / smaller for t, (m, o) in tried.items()}
    found = search_translation(fixed, fixed_weight, moving, moving_weight, 0.25, PRICE)
    assert tuple(found.shift_vox) == min(cost, key=cost.get)
    assert found.cost == pytest.approx(min(cost.values()), rel=1e-6)
    assert found.typical == pytest.approx(typical, rel=1e-6)


def test_what_lies_outside_the_weights_does_not_count():
    scene = smooth_descriptor((30, 20, 20), sigma=1.5)
    fixed, moving = scene[5:25].copy(), scene[:20].copy()
    fixed_weight, moving_weight = ones(fixed), ones(moving)
    fixed[:, 14:] = 50.0
    fixed_weight[:, 14:] = 0
    moving[:, :, 16:] = -50.0
    moving_weight[:, :, 16:] = 0
    found = search_translation(fixed, fixed_weight, moving, moving_weight, 0.25, PRICE)
    np.testing.assert_array_equal(found.shift_vox, (5, 0, 0))


def test_flat_images_are_left_where_they_overlap_most():
    flat = np.ones((8, 7, 6, 16), np.float32)
    found = search_translation(flat, ones(flat), flat, ones(flat), 0.25, PRICE)
    np.testing.assert_array_equal(found.shift_vox, 0)
    assert np.isfinite([found.cost, found.typical]).all()


def test_overlap_cost_prices_what_has_no_partner():
    fixed, moving = smooth_descriptor((6, 6, 6)), smooth_descriptor((6, 6, 6), seed=1)
    half = ones(fixed)
    half[:3] = 0
    squared = ((fixed - moving) ** 2).sum(axis=-1)
    expected = (squared[3:].sum() + PRICE * 2.0 * 108) / 216
    assert overlap_cost(fixed, ones(fixed), moving, half, 2.0 * PRICE) == pytest.approx(expected, rel=1e-5)
    assert overlap_cost(fixed, ones(fixed), fixed, ones(fixed), 2.0 * PRICE) == 0
