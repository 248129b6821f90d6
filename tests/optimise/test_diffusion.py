from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.optimise.velocity import add_diffusion, add_diffusion_torch, diffusion_strength
from arrays import SHAPES

SPACING = np.array([0.8, 1.5, 5.0])


def field_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal((3, *shape)).astype(np.float32)


@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_equals_twin(shape, varies):
    field, strength = field_of(shape), diffusion_strength(0.7, SPACING)
    stiffness = np.exp(field_of(shape, 2)[0]) if varies else None
    gradient = field_of(shape, 1)
    twin = torch.from_numpy(gradient.copy())
    loss = add_diffusion(field, strength, gradient, stiffness)
    factors = None if stiffness is None else torch.from_numpy(stiffness)
    assert loss == pytest.approx(add_diffusion(torch.from_numpy(field), strength, twin, factors), rel=1e-5)
    np.testing.assert_allclose(gradient, twin, rtol=1e-4, atol=1e-4)


def test_a_stiffness_of_three_counts_three_times_inside_and_twice_at_its_border():
    field = np.zeros((3, 6, 1, 1), np.float32)
    field[0, :, 0, 0] = np.arange(6)
    stiffness = np.array([1, 1, 3, 3, 3, 1], np.float32).reshape(6, 1, 1)
    loss = add_diffusion(field, diffusion_strength(1.0, np.ones(3)), np.zeros_like(field), stiffness)
    assert loss == pytest.approx(1 + 2 + 3 + 3 + 2)


def test_it_is_the_diffusion_of_millimetres():
    field = field_of((6, 5, 4)).astype(float)
    vectors = field * SPACING.reshape(3, 1, 1, 1)
    expected = sum(0.7 * ((np.diff(vectors, axis=a + 1) / SPACING[a]) ** 2).sum() for a in range(3))
    loss = add_diffusion(field.astype(np.float32), diffusion_strength(0.7, SPACING), np.zeros(field.shape, np.float32))
    assert loss == pytest.approx(expected, rel=1e-5)


def test_gradient_is_that_of_finite_differences():
    field = torch.from_numpy(field_of((4, 5, 3))).double()
    strength, stiffness = diffusion_strength(0.7, SPACING), torch.from_numpy(np.exp(field_of((4, 5, 3), 1)[0]).copy())
    gradient = torch.zeros_like(field)
    add_diffusion_torch(field, strength, gradient, stiffness)
    for place in [(0, 0, 0, 0), (1, 2, 3, 1), (2, 3, 4, 2), (1, 0, 2, 2)]:
        step = torch.zeros_like(field)
        step[place] = 1e-4
        after, before = (
            add_diffusion_torch(field + s * step, strength, torch.zeros_like(field), stiffness) for s in (1, -1)
        )
        assert (after - before) / 2e-4 == pytest.approx(float(gradient[place]), rel=1e-6, abs=1e-6)


def test_a_shift_is_smooth():
    gradient = np.zeros((3, 4, 4, 4), np.float32)
    assert add_diffusion(np.full((3, 4, 4, 4), 3, np.float32), diffusion_strength(1.0, SPACING), gradient) == 0
    assert not gradient.any()
