from __future__ import annotations

import pytest
import torch

from anamorph.discrete import correlation as module
from anamorph.discrete.correlation import expected_values, expected_values_torch, sample_features


@pytest.fixture
def around_points():
    """A volume, probabilities of four displacements at five points, points and displacements, some of them outside."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(2, 9, 8, 7, generator=generator)
    share = torch.rand(5, 4, generator=generator).softmax(1)
    return volume, share, 8 * torch.rand(5, 3, generator=generator), torch.randn(4, 3, generator=generator)


@pytest.mark.parametrize("compute", [expected_values, expected_values_torch])
def test_they_are_those_of_a_loop(compute, around_points):
    volume, share, points, labels = around_points
    by_hand = torch.zeros(5, 2)
    for n in range(5):
        for d in range(4):
            by_hand[n] += share[n, d] * sample_features(volume, points[n] + labels[d])
    torch.testing.assert_close(compute(volume, share, points, labels), by_hand)


def test_in_two_dimensions(around_points):
    volume, share, points, labels = around_points
    plane = volume[:, 4], share, points[:, 1:], labels[:, 1:]
    torch.testing.assert_close(expected_values(*plane), expected_values_torch(*plane))


def test_the_gradient_of_the_kernel_is_that_of_the_twin_in_one_and_in_parts(around_points, monkeypatch):
    volume, share, points, labels = around_points
    gradients = []
    for compute, at_once in ((expected_values, 8), (expected_values_torch, 2**20), (expected_values_torch, 8)):
        monkeypatch.setattr(module, "EXPECTED_AT_ONCE", at_once)
        own = share.clone().requires_grad_()
        compute(volume, own, points, labels).square().sum().backward()
        gradients.append(own.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[1], gradients[2])
    assert gradients[0].abs().min() > 0


def test_an_image_that_wants_a_gradient_has_one(around_points):
    volume, share, points, labels = around_points
    volume.requires_grad_()
    expected_values(volume, share, points, labels).sum().backward()
    assert volume.grad.sum() == pytest.approx(
        10, rel=1e-5
    )  # each of two channels is read with a weight of one, five times
