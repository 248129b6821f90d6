from __future__ import annotations

import numpy as np
import pytest

from anamorph.discrete.coupled_convex import match_blocks
from arrays import smooth_descriptor


def shifted(shape, shift, seed=0):
    moving = smooth_descriptor(shape, sigma=1.5, seed=seed)
    return np.roll(moving, [-s for s in shift], axis=(0, 1, 2)), moving  # fixed(x) = moving(x + shift)


def far_from_border(centres, shape, margin):
    inside = (centres >= margin) & (centres <= np.array(shape) - 1 - margin)
    return (inside | (np.array(shape) == 1)).all(axis=1)


@pytest.mark.parametrize("shape", [(24, 28, 25), (32, 29, 1)])
def test_blocks_move_by_the_shift(shape):
    shift = (2, -3, 0)
    fixed, moving = shifted(shape, shift)
    centres, targets = match_blocks(fixed, np.ones(shape, np.float32), moving, 4, 1, 4, keep=0.8)
    chosen = far_from_border(centres, shape, 7)
    assert chosen.sum() >= 4
    np.testing.assert_allclose((targets - centres)[chosen], np.broadcast_to(shift, (chosen.sum(), 3)), atol=0.35)


def test_the_last_smaller_blocks_have_their_own_centres():
    shape = (10, 8, 8)
    fixed, moving = shifted(shape, (0, 0, 0))
    centres, targets = match_blocks(fixed, np.ones(shape, np.float32), moving, 4, 1, 1, keep=1.0)
    assert sorted(set(centres[:, 0])) == [1.5, 5.5, 8.5]
    np.testing.assert_array_equal(centres, targets)


def test_only_blocks_inside_the_weight_and_the_clearest_of_them():
    shape = (24, 24, 24)
    fixed, moving = shifted(shape, (0, 0, 0))
    fixed[12:] = smooth_descriptor((12, 24, 24), seed=9)  # no partner in the moving image
    weight = np.ones(shape, np.float32)
    weight[:, :, :12] = 0
    centres, _ = match_blocks(fixed, weight, moving, 4, 1, 2, keep=0.5)
    assert len(centres) == pytest.approx(54, abs=2)
    assert centres[:, 2].min() > 12
    assert (centres[:, 0] < 12).mean() > 0.9


def test_no_weight_no_blocks():
    fixed, moving = shifted((12, 12, 12), (0, 0, 0))
    centres, targets = match_blocks(fixed, np.zeros((12, 12, 12), np.float32), moving, 4, 1, 2, keep=0.5)
    assert centres.shape == targets.shape == (0, 3)
