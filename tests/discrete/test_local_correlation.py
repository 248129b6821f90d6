"""Costs of whole displacements: the same as reading each place, and with the same slopes."""

from __future__ import annotations

import pytest
import torch

from anamorph.discrete.correlation import correlate, correlate_locally
from anamorph.discrete.labels import grid_points, label_window


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["ncc", "dot"])
@pytest.mark.parametrize(("shape", "radius"), [((6, 7, 5), 1), ((4, 5, 1), 2), ((9, 8), 3)])
def test_it_is_the_dense_correlation_at_every_voxel(shape, radius, kind):
    fixed, moving = (features(2, 4, *shape, seed=n) for n in range(2))
    found = correlate_locally(fixed, moving, radius, kind)
    dims = len(shape)
    points = grid_points(shape, shape).double()
    labels = label_window([2 * radius + 1] * dims, [radius] * dims).double()
    for n in range(2):
        expected = correlate(fixed[n], moving[n], points, labels, kind)
        torch.testing.assert_close(found[n].flatten(1).T, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["ncc", "dot"])
def test_its_slopes_are_those_of_differences(kind):
    fixed, moving = (features(1, 2, 3, 2, 2, seed=n).requires_grad_() for n in range(2))
    assert torch.autograd.gradcheck(lambda a, b: correlate_locally(a, b, 1, kind), (fixed, moving))


def test_a_shift_costs_least_where_it_is():
    fixed = features(1, 8, 9, 9, 9)
    costs = correlate_locally(fixed, torch.roll(fixed, (2, 0, -1), (2, 3, 4)), 2)
    labels = label_window([5] * 3, [2] * 3)
    inner = costs[0, :, 3:-3, 3:-3, 3:-3]
    assert (labels[inner.argmin(dim=0)] == torch.tensor([2.0, 0.0, -1.0])).all()
    assert inner.amin(dim=0).max() < 1e-6
