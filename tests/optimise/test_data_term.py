from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.optimise.velocity import data_term, data_term_torch, data_terms
from arrays import SHAPES, random_descriptor, random_weight, smooth_descriptor


def arguments(shape, channels=16, reach=2.5):
    rng = np.random.default_rng(5)
    disp = rng.uniform(-reach, reach, (3, *shape)).astype(np.float32)
    disp[[axis for axis in range(3) if shape[axis] == 1]] = 0
    return random_descriptor(shape, channels), random_weight(shape), random_descriptor(shape, channels, 3), disp


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [16, 32])
def test_kernel_equals_twin(shape, channels):
    arrays = arguments(shape, channels)
    loss, gradient = data_term(*arrays)
    twin_loss, twin = data_term(*(torch.from_numpy(a) for a in arrays))
    assert loss == pytest.approx(twin_loss, rel=1e-4)
    axes = [axis for axis in range(3) if shape[axis] > 1]
    np.testing.assert_allclose(gradient[axes], twin.numpy()[axes], atol=2e-3)
    assert not gradient[:, arrays[1] == 0].any()


def test_gradient_is_that_of_finite_differences():
    fixed, weight, moving, disp = (torch.from_numpy(a).double() for a in arguments((5, 6, 4)))
    _, gradient = data_term_torch(fixed, weight, moving, disp)
    rng = np.random.default_rng(0)
    for _ in range(40):
        place = tuple(int(rng.integers(n)) for n in disp.shape)
        step = torch.zeros_like(disp)
        step[place] = 1e-6
        slope = (
            data_term_torch(fixed, weight, moving, disp + step)[0]
            - data_term_torch(fixed, weight, moving, disp - step)[0]
        )
        assert slope / 2e-6 == pytest.approx(float(gradient[place]), abs=1e-5)


def test_the_kernels_own_gradient_predicts_its_own_loss():
    shape = (12, 11, 10)
    fixed, moving = smooth_descriptor(shape), smooth_descriptor(shape, seed=1)
    disp = np.full((3, *shape), 0.3, np.float32)
    weight = random_weight(shape)
    loss, gradient = data_term(fixed, weight, moving, disp)
    step = -1e-3 * gradient / np.abs(gradient).max()
    later, _ = data_term(fixed, weight, moving, disp + step)
    assert later - loss == pytest.approx(float((gradient * step).sum()), rel=0.02)


def test_identical_images_cost_nothing_unmoved():
    descriptor = random_descriptor((6, 5, 4))
    loss, gradient = data_term(
        descriptor, np.ones((6, 5, 4), np.float32), descriptor, np.zeros((3, 6, 5, 4), np.float32)
    )
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_both_directions_at_once_are_those_one_after_the_other(shape):
    fixed, weight, moving, onward = arguments(shape)
    other, back = random_weight(shape)[::-1].copy(), -0.5 * onward
    found = data_terms(fixed, weight, moving, other, onward, back)
    expected = data_term(fixed, weight, moving, onward), data_term(moving, other, fixed, back)
    for (loss, slope), (own_loss, own_slope) in zip(found, expected, strict=True):
        assert loss == own_loss
        np.testing.assert_array_equal(slope, own_slope)
