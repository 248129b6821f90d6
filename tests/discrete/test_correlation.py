from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.discrete.correlation import correlate, correlate_torch
from anamorph.discrete.labels import grid_points, label_window

KINDS = ["ssd", "sad", "ncc", "dot"]


def random_pair(shape, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(channels, *shape, generator=generator) for _ in range(2))


def by_definition(fixed, moving, size, kind, padding="border"):
    """Whole displacements at every voxel, one pair of feature vectors after the other."""
    fixed, moving = fixed.numpy().astype(float), moving.numpy().astype(float)
    shape = fixed.shape[1:]
    out = np.empty((np.prod(shape), np.prod(size)))
    for n, x in enumerate(np.ndindex(*shape)):
        for label, d in enumerate(np.ndindex(*size)):
            y = [a + b - s // 2 for a, b, s in zip(x, d, size, strict=True)]
            inside = [min(max(v, 0), s - 1) for v, s in zip(y, shape, strict=True)]
            f, m = fixed[:, *x], moving[:, *inside]
            if padding == "zeros" and inside != y:
                m = np.zeros_like(f)
            out[n, label] = {
                "ssd": ((f - m) ** 2).sum(),
                "sad": abs(f - m).sum(),
                "ncc": 1 - (np.corrcoef(f, m)[0, 1] if m.any() else 0),
                "dot": -(f * m).sum(),
            }[kind]
    return out


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "size"), [((8, 8), (5, 3)), ((4, 5, 3), (3, 5, 3))])
def test_costs_of_whole_displacements_are_those_of_the_definition(shape, size, kind, padding):
    fixed, moving = random_pair(shape)
    labels = label_window(size, [n // 2 for n in size])
    costs = correlate(fixed, moving, grid_points(shape, shape), labels, kind, padding=padding)
    # A coefficient has no scale: what rounding leaves of a feature vector outside still correlates a little.
    atol = 5e-3 if (kind, padding) == ("ncc", "zeros") else 5e-5
    np.testing.assert_allclose(costs.numpy(), by_definition(fixed, moving, size, kind, padding), atol=atol)


@pytest.mark.parametrize("shift", [(2, 0), (0, 1), (-1, 2), (2, -1, 1)])
def test_the_best_label_is_the_shift_of_the_moving_image(shift):
    """``moving(x + shift) = fixed(x)``: along the first axis means down the rows, not along them."""
    shape = (9, 8, 7)[: len(shift)]
    fixed, _ = random_pair(shape)
    moving = torch.roll(fixed, shift, dims=tuple(range(1, len(shift) + 1)))
    labels = label_window((5,) * len(shift), (2.0,) * len(shift))
    centre = torch.tensor([[n // 2 for n in shape]], dtype=torch.float32)
    for kind in ("ssd", "sad", "ncc"):
        costs = correlate(fixed, moving, centre, labels, kind)
        assert labels[costs.argmin()].tolist() == list(shift)
        assert costs.min() == pytest.approx(0, abs=1e-5)


def test_features_between_voxels_are_read_linearly():
    ramp = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (6, 5, 7)), indexing="ij"))
    labels = torch.tensor([[0.25, -0.5, 1.0], [0.0, 0.0, 0.0]])
    centres = torch.tensor([[2.5, 2.25, 3.75], [5.0, 4.0, 6.0]])
    expected = [[0.25**2 + 0.5**2 + 1, 0], [0.5**2, 0]]  # the second centre is a corner: only inwards is a way
    for compare in (correlate, correlate_torch):
        np.testing.assert_allclose(compare(ramp, ramp, centres, labels).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 6, 5), (1, 6, 5), (7, 6)])
def test_kernel_and_twin_agree_between_voxels_and_outside(shape):
    fixed, moving = random_pair(shape, channels=16)
    labels = label_window((4,) * len(shape), (2.7,) * len(shape))
    centres = grid_points(shape, (3,) * len(shape))
    expected = correlate_torch(fixed, moving, centres, labels)
    torch.testing.assert_close(correlate(fixed, moving, centres, labels), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 6, 5), (1, 6, 5), (7, 6)])
def test_gradients_of_kernel_and_twin_agree(shape):
    pair = [t.requires_grad_() for t in random_pair(shape, channels=16)]
    labels, centres = label_window((4,) * len(shape), (2.7,) * len(shape)), grid_points(shape, (3,) * len(shape))
    weights = torch.rand(len(centres), len(labels), generator=torch.Generator().manual_seed(1))
    gradients = [
        torch.autograd.grad((compare(*pair, centres, labels) * weights).sum(), pair)
        for compare in (correlate, correlate_torch)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_a_position_that_is_not_a_number_is_no_index():
    fixed, moving = random_pair((5, 5, 5))
    centres = torch.tensor([[float("nan"), 1.0, 1.0]])
    assert correlate(fixed, moving, centres, torch.zeros(1, 3)).shape == (1, 1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences_in_all_tensors(kind, dims):
    shape = (5, 4, 3)[:dims]
    fixed, moving = (t.double().requires_grad_() for t in random_pair(shape))
    # Away from whole positions and from the border, where linear interpolation has a kink.
    centres = (grid_points(shape, (2,) * dims) + 0.1).double().clamp(0.6, min(shape) - 1.6).requires_grad_()
    labels = label_window((2,) * dims, (0.37,) * dims).double().requires_grad_()
    parts = 2 * 3 * 2**dims  # two points at a time: parts are computed again on the way back
    assert torch.autograd.gradcheck(
        lambda *tensors: correlate(*tensors, kind=kind, at_once=parts), (fixed, moving, centres, labels), fast_mode=True
    )


def test_what_is_kept_for_the_way_back_does_not_grow_with_the_samples():
    """All samples of the moving image are 16 times the costs; only costs and images may be kept."""
    fixed, moving = (t.requires_grad_() for t in random_pair((8, 8, 8), channels=16))
    labels, centres = label_window((5, 5, 5), (2, 2, 2)), grid_points((8, 8, 8), (6, 6, 6))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        costs = correlate(fixed, moving, centres, labels, at_once=2**16)
    assert max(kept, default=0) <= costs.numel()
    costs.sum().backward()
    assert fixed.grad is not None
    assert fixed.grad.abs().sum() > 0


def test_an_unknown_comparison_is_refused():
    fixed, moving = random_pair((4, 4))
    with pytest.raises(ValueError, match="mutual"):
        correlate(fixed, moving, grid_points((4, 4), (2, 2)), label_window((3, 3), (1, 1)), "mutual")


def test_labels_and_points_come_last_axis_fastest():
    labels = label_window((3, 5), (1.0, 4.0)).reshape(3, 5, 2)
    np.testing.assert_allclose(labels[:, 0, 0], [-1, 0, 1])
    np.testing.assert_allclose(labels[0, :, 1], [-4, -2, 0, 2, 4])
    assert label_window((1, 3), (7.0, 1.0))[:, 0].tolist() == [0, 0, 0]
    points = grid_points((8, 6), (2, 3)).reshape(2, 3, 2)
    np.testing.assert_allclose(points[:, 0, 0], [1.5, 5.5])
    np.testing.assert_allclose(points[0, :, 1], [0.5, 2.5, 4.5])
