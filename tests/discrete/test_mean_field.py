from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, avg_pool3d, max_pool2d, max_pool3d, pad

from anamorph.discrete import mean_field as module
from anamorph.discrete.mean_field import average_points, mean_field, relax_labels


def random_costs(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filtered(array, axes, size, reduce):
    """``reduce`` over every box of ``size`` neighbours that fits, one box after the other."""
    kept = [n - size + 1 if axis in axes else n for axis, n in enumerate(array.shape)]
    out = np.empty(kept)
    for place in np.ndindex(*kept):
        box = tuple(slice(p, p + (size if axis in axes else 1)) for axis, p in enumerate(place))
        out[place] = reduce(array[box])
    return out


def padded(array, axes, border):
    return np.pad(array, [(border, border) if a in axes else (0, 0) for a in range(array.ndim)], mode="edge")


@pytest.mark.parametrize("order", ["minimum first", "average first"])
@pytest.mark.parametrize("window", [(5, 4), (3, 4, 5)])
def test_relaxed_labels_are_those_of_the_definition(window, order):
    costs = random_costs(3, int(np.prod(window)))
    axes = range(1, 1 + len(window))
    expected = padded(costs.numpy().reshape(3, *window), axes, 3)
    steps = [(3, np.min), (3, np.mean), (3, np.mean)]
    for size, reduce in steps if order == "minimum first" else steps[1:] + steps[:1]:
        expected = filtered(expected, axes, size, reduce)
    found = relax_labels(costs, window, order=order)
    np.testing.assert_allclose(found.numpy(), expected.reshape(3, -1), rtol=1e-12)


def test_the_order_matters():
    costs = random_costs(1, 25)
    both = [relax_labels(costs, (5, 5), order=order) for order in ("minimum first", "average first")]
    assert (both[0] - both[1]).abs().max() > 0.01


def test_averages_over_points_are_those_of_the_definition():
    costs = random_costs(4, 5, 3, 2)
    expected = filtered(filtered(padded(costs.numpy(), range(3), 2), range(3), 3, np.mean), range(3), 3, np.mean)
    np.testing.assert_allclose(average_points(costs).numpy(), expected, rtol=1e-12)


def test_two_iterations_are_those_of_the_published_network():
    """The pooling operations of PDD-Net, section 2.3 of Heinrich, MICCAI 2019, in their own layouts."""
    costs, w0, w1 = random_costs(4, 3, 5, 27), 1.539, -0.7
    energy = costs
    for _ in range(2):
        labels = pad(energy.reshape(1, 60, 3, 3, 3), (3,) * 6, mode="replicate")
        labels = avg_pool3d(avg_pool3d(-max_pool3d(-labels, 3, 1), 3, 1), 3, 1)
        points = pad(labels.reshape(4, 3, 5, 27).permute(3, 0, 1, 2)[None], (2,) * 6, mode="replicate")
        smooth = avg_pool3d(avg_pool3d(points, 3, 1), 3, 1)[0].permute(1, 2, 3, 0)
        energy = w0 * costs + w1 * smooth
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = mean_field(costs, (w0, torch.tensor(w1)), (3, 3, 3))
        torch.testing.assert_close(found, smooth)


def test_the_filters_of_the_two_dimensional_tutorial():
    costs = random_costs(6, 7, 81)
    labels = pad(costs.reshape(1, 42, 9, 9), (5,) * 4, mode="replicate")
    labels = -max_pool2d(-avg_pool2d(avg_pool2d(labels, 5, 1), 5, 1), 3, 1)
    points = pad(labels.reshape(6, 7, 81).permute(2, 0, 1)[None], (6,) * 4, mode="replicate")
    for _ in range(3):
        points = avg_pool2d(points, 5, 1)
    found = mean_field(costs, (1, 1), (9, 9), 1, label_average=5, average=5, repeats=3, order="average first")
    torch.testing.assert_close(found, points[0].permute(1, 2, 0))


def test_parts_change_nothing_and_the_costs_are_left_alone(monkeypatch):
    costs = random_costs(3, 4, 2, 45)
    before, whole = costs.clone(), mean_field(costs, (1.0, 0.5), (3, 3, 5), 3)
    monkeypatch.setattr(module, "AT_ONCE", 1000)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(mean_field(costs, (1.0, 0.5), (3, 3, 5), 3), whole)
        assert torch.equal(costs, before)


@pytest.mark.parametrize("order", ["minimum first", "average first"])
def test_gradients_are_those_of_finite_differences(order, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 500)
    costs, weights = random_costs(2, 3, 12).requires_grad_(), torch.tensor([1.2, 0.4]).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c, w: mean_field(c, w, (3, 4), 2, order=order), (costs, weights), fast_mode=True
    )


def test_equal_costs_stay_equal_and_a_lonely_minimum_is_outvoted():
    even = mean_field(torch.full((3, 3, 25), 2.0), (1.0, 1.0), (5, 5), 1)
    torch.testing.assert_close(even, torch.full_like(even, 2.0))
    costs = torch.ones(5, 5, 25)
    costs[..., 7] = 0.0  # all points want label 7
    costs[2, 2] = 1.0
    costs[2, 2, 22] = -0.2  # but for one
    assert costs[2, 2].argmin() == 22
    assert mean_field(costs, (1.0, 1.0), (5, 5))[2, 2].argmin() == 7
