from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.optimise.adam import Adam


@pytest.mark.parametrize("as_torch", [False, True])
def test_steps_are_those_of_pytorch(as_torch):
    rng = np.random.default_rng(0)
    start = rng.standard_normal((3, 5, 4, 6)).astype(np.float32)
    reference = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = torch.optim.Adam([reference], lr=0.1, eps=1e-12)
    parameters = torch.from_numpy(start.copy()) if as_torch else start.copy()
    adam = Adam(parameters)
    for _ in range(12):
        gradient = rng.standard_normal(start.shape).astype(np.float32)
        reference.grad = torch.from_numpy(gradient)
        optimiser.step()
        adam.step(torch.from_numpy(gradient) if as_torch else gradient, 0.1)
    np.testing.assert_allclose(parameters, reference.detach(), atol=2e-5)


def test_it_descends():
    goal = np.random.default_rng(1).uniform(-1, 1, (3, 4, 4, 4)).astype(np.float32)
    parameters = np.zeros_like(goal)
    adam = Adam(parameters)
    losses = []
    for _ in range(60):
        losses.append(float(((parameters - goal) ** 2).sum()))
        adam.step(2 * (parameters - goal), 0.1)
    assert losses[-1] < 0.02 * losses[0]


def test_no_entry_moves_further_than_the_rate_at_first():
    parameters = np.zeros((3, 2, 2, 2), np.float32)
    gradient = np.full_like(parameters, 1e4)
    gradient[0] = 0
    Adam(parameters).step(gradient, 0.25)
    np.testing.assert_allclose(parameters[1:], -0.25, rtol=1e-5)
    assert not parameters[0].any()
