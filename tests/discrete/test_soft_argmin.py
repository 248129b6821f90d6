from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anamorph.discrete import labels as module
from anamorph.discrete.labels import expectation, label_probabilities, label_uncertainty, label_window, soft_argmin


@pytest.mark.parametrize("dims", [2, 3])
def test_the_expectation_is_that_of_the_definition(dims, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 200)
    labels = label_window((3, 4, 5)[:dims], (1.0, 2.0, 3.0)[:dims])
    costs = torch.rand(2, 3, len(labels), generator=torch.Generator().manual_seed(0))
    found, sure = soft_argmin(costs, labels, 0.3), label_uncertainty(costs, labels, 0.3)
    for place in np.ndindex(2, 3):
        p = np.exp(-costs[place].double().numpy() / 0.3)
        p /= p.sum()
        mean = (p[:, None] * labels.numpy()).sum(axis=0)
        spread = np.sqrt((p[:, None] * (labels.numpy() - mean) ** 2).sum(axis=0))
        np.testing.assert_allclose(found[place].numpy(), mean, atol=1e-5)
        np.testing.assert_allclose(sure.deviation[place].numpy(), spread, rtol=1e-5)
        assert float(sure.entropy[place]) == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)


def test_equal_costs_move_nothing_and_know_nothing():
    labels = label_window((15, 15, 15), (4.0, 4.0, 4.0))
    costs = torch.full((2, len(labels)), 7.0)
    assert soft_argmin(costs, labels).abs().max() < 1e-5
    sure = label_uncertainty(costs, labels)
    np.testing.assert_allclose(sure.entropy.numpy(), math.log(3375), rtol=1e-5)
    # 15 even steps from -4 to 4.
    np.testing.assert_allclose(sure.deviation.numpy(), np.linspace(-4, 4, 15).std(), rtol=1e-5)


def test_a_parabola_of_costs_gives_its_apex_between_the_labels():
    labels = label_window((13, 13), (6.0, 6.0))
    costs = ((labels - torch.tensor([1.3, -0.6])) ** 2).sum(dim=-1)[None]
    np.testing.assert_allclose(soft_argmin(costs, labels)[0].numpy(), [1.3, -0.6], atol=1e-3)
    # exp(-x^2) is a normal distribution of variance 1/2.
    np.testing.assert_allclose(label_uncertainty(costs, labels).deviation.numpy(), math.sqrt(0.5), rtol=1e-2)


def test_a_low_temperature_takes_the_cheapest_label_and_is_sure():
    labels = label_window((5, 5), (2.0, 2.0))
    costs = torch.rand(4, 25, generator=torch.Generator().manual_seed(1))
    assert torch.equal(soft_argmin(costs, labels, 1e-5).round(), labels[costs.argmin(dim=1)])
    assert label_uncertainty(costs, labels, 1e-5).entropy.max() < 1e-3


def test_labels_that_cannot_be_take_no_part():
    labels = label_window((1, 3), (0.0, 1.0))
    costs = torch.tensor([[0.0, 0.0, math.inf]])
    assert soft_argmin(costs, labels)[0].tolist() == [0.0, -0.5]
    assert float(label_uncertainty(costs, labels).entropy) == pytest.approx(math.log(2))


def test_gradients_are_those_of_finite_differences_also_of_the_temperature(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 40)
    labels = label_window((3, 4), (1.0, 1.5)).double()
    costs = torch.rand(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, t: soft_argmin(c, labels, t), (costs, temperature))
    assert torch.autograd.gradcheck(lambda c, t: tuple(label_uncertainty(c, labels, t)), (costs, temperature))


def test_probabilities_sum_to_one_and_give_the_same_mean():
    labels = label_window((3, 3), (1.0, 1.0))
    costs = torch.rand(6, 9, generator=torch.Generator().manual_seed(3))
    probabilities = label_probabilities(costs, 0.5)
    np.testing.assert_allclose(probabilities.sum(dim=-1), 1, rtol=1e-6)
    torch.testing.assert_close(expectation(probabilities, labels), soft_argmin(costs, labels, 0.5))
