from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.discrete import tree_inference
from anamorph.discrete.tree_inference import min_convolve, min_convolve_torch

SIZES = [(6, 5), (5, 5, 5), (3, 5, 7), (9, 4, 1), (1, 1, 6), (1, 1, 1), (2, 3, 11)]
WEIGHTS = [(1.0, 1.0, 1.0), (0.8, 1.7, 0.31), (0.0, 1.0, 2.5)]


def random_case(size, nodes=4, seed=0):
    rng = np.random.default_rng(seed)
    costs = rng.gamma(1, 4, (nodes, *size)).astype(np.float32)
    offset = rng.normal(0, 2, (nodes, len(size))).astype(np.float32)
    offset[0] = 0
    return costs, offset


def by_definition(costs, weight, offset):
    """Every label against every other."""
    labels = np.stack(np.meshgrid(*(np.arange(n) for n in costs.shape[1:]), indexing="ij"), -1)
    labels = labels.reshape(-1, labels.shape[-1])
    out = np.empty(costs.shape)
    for n in range(len(costs)):
        way = np.array(weight) * (labels[:, None] - labels[None]) + offset[n].astype(float)
        out[n] = (costs[n].reshape(-1).astype(float) + (way**2).sum(axis=-1)).min(axis=1).reshape(costs.shape[1:])
    return out


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("size", SIZES)
def test_the_minimum_is_over_all_labels(size, weight):
    weight = weight[: len(size)]
    costs, offset = random_case(size)
    expected = by_definition(costs, weight, offset)
    np.testing.assert_allclose(min_convolve(costs, weight, offset), expected, rtol=1e-5, atol=1e-5)
    twin = min_convolve(torch.from_numpy(costs), weight, torch.from_numpy(offset)).numpy()
    np.testing.assert_allclose(twin, expected, rtol=1e-5, atol=1e-5)


def test_kernel_and_twin_give_the_same_bits():
    costs, offset = random_case((5, 7, 6), nodes=20)
    twin = min_convolve(torch.from_numpy(costs), (1.0, 1.0, 1.0), torch.from_numpy(offset)).numpy()
    np.testing.assert_allclose(min_convolve(costs, (1.0, 1.0, 1.0), offset), twin, rtol=1e-6)


def test_the_costs_are_left_alone():
    costs, offset = random_case((3, 4, 5))
    before = costs.copy()
    min_convolve(costs, (1.0, 2.0, 1.0), offset)
    np.testing.assert_array_equal(costs, before)


def test_one_cheap_label_makes_a_parabola_and_the_offset_moves_it():
    costs = np.full((1, 7, 5, 3), 1e6, np.float32)
    costs[0, 2, 3, 1] = 0.5
    out = min_convolve(costs, (2.0, 1.0, 0.5), np.array([[1.0, -2.0, 0.25]], np.float32))
    a, b, c = np.indices(costs.shape[1:])
    parabola = 0.5 + (2 * (a - 2) + 1) ** 2 + ((b - 3) - 2.0) ** 2 + (0.5 * (c - 1) + 0.25) ** 2
    np.testing.assert_allclose(out[0], parabola, rtol=1e-6)


def test_nodes_in_parts_are_nodes_at_once(monkeypatch):
    costs, offset = (torch.from_numpy(array) for array in random_case((3, 4, 5), nodes=7))
    whole = min_convolve_torch(costs, (1.0, 1.5, 1.0), offset)
    monkeypatch.setattr(tree_inference, "AT_ONCE", 2 * 60 * 5)
    assert torch.equal(min_convolve_torch(costs, (1.0, 1.5, 1.0), offset), whole)


def test_gradients_are_those_of_finite_differences():
    costs, offset = (
        torch.from_numpy(array).double().requires_grad_() for array in random_case((3, 2, 4), nodes=3, seed=1)
    )
    assert torch.autograd.gradcheck(lambda c, o: min_convolve_torch(c, (0.8, 1.7, 0.31), o), (costs, offset))
    costs.grad = None
    min_convolve_torch(costs, (0.8, 1.7, 0.31), offset).sum().backward()
    assert costs.grad is not None
    np.testing.assert_allclose(costs.grad.sum(dim=(1, 2, 3)).numpy(), 24)
