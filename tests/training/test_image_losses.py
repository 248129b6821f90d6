"""Comparisons of images that a training may choose between."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.training.losses import (
    local_cross_correlation,
    mean_squared_error,
    mind_difference,
    mind_of,
    mutual_information,
    summed_l1,
)

SHAPE = (2, 1, 14, 12, 10)


def smooth(seed: int = 0, shape=SHAPE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((*shape[:2], 4, 4, 4), generator=generator)
    return torch.nn.functional.interpolate(coarse, shape[2:], mode="trilinear")


def test_mutual_information_is_that_of_the_joint_histogram():
    fixed, warped = smooth(0), smooth(1)
    bins = 16
    expected = []
    for here, there in zip(fixed.flatten(1).numpy(), warped.flatten(1).numpy(), strict=True):
        joint = np.zeros((bins, bins))
        for a, b in zip(here, there, strict=True):
            centres = np.abs(np.arange(bins) - (1 + b * (bins - 3)))
            near = 2 / 3 - centres**2 + centres**3 / 2
            far = np.clip(2 - centres, 0, None) ** 3 / 6
            joint[min(int(a * bins), bins - 1)] += np.where(centres < 1, near, far)
        joint /= len(here)
        assert joint.sum() == pytest.approx(1)
        apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        expected.append((joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum())
    assert float(mutual_information(fixed, warped, bins)) == pytest.approx(-np.mean(expected), abs=1e-5)


def test_mutual_information_knows_no_difference_between_a_scan_and_its_negative():
    fixed = smooth()
    apart = float(mutual_information(fixed, smooth(1)))
    assert float(mutual_information(fixed, 1 - fixed)) == pytest.approx(
        float(mutual_information(fixed, fixed)), abs=0.02
    )
    assert float(mutual_information(fixed, fixed)) < apart - 1
    assert float(mutual_information(fixed, torch.full_like(fixed, 0.4))) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.5, -0.2])
def test_values_at_the_ends_of_the_range_count(value):
    fixed = smooth()
    warped = smooth(1)
    warped[..., :5] = value
    warped.requires_grad_()
    found = mutual_information(fixed, warped)
    found.backward()
    assert -3 < float(found.detach()) < 0
    assert torch.isfinite(warped.grad).all()


def test_the_gradient_of_the_mutual_information_is_right():
    fixed = smooth(0, (1, 1, 8, 7, 6))
    warped = smooth(1, (1, 1, 8, 7, 6)).requires_grad_()
    mutual_information(fixed, warped).backward()
    direction = torch.randn(warped.shape, generator=torch.Generator().manual_seed(0))
    steps = [float(mutual_information(fixed, (warped + h * direction).detach())) for h in (1e-3, -1e-3)]
    assert float((warped.grad * direction).sum()) == pytest.approx((steps[0] - steps[1]) / 2e-3, rel=0.02)


@pytest.mark.parametrize(
    "loss",
    [mean_squared_error, lambda a, b: local_cross_correlation(a, b, 5), mutual_information, mind_difference],
    ids=["mse", "lcc", "mi", "mind"],
)
def test_every_comparison_is_best_where_the_scans_agree(loss):
    fixed = smooth(0, (1, 1, 24, 22, 20))
    found = [float(loss(fixed, fixed.roll(shift, 2))) for shift in (0, 1, 2, 4)]
    assert found == sorted(found)
    assert found[0] < found[1]


def test_descriptors_are_those_of_every_channel():
    images = torch.cat([smooth(0), smooth(1)], dim=1)
    described = mind_of(images, 1, 2)
    assert described.shape == (2, 24, 14, 12, 10)
    torch.testing.assert_close(described[:, 12:], mind_of(images[:, 1:], 1, 2))
    torch.testing.assert_close(mind_of(images * 3 + 1, 1, 2), described, rtol=1e-3, atol=1e-3)


def test_sums_grow_with_the_voxels_and_not_with_the_batch():
    excess = torch.full((2, 3, 4, 4, 4), -0.5)
    assert float(summed_l1(excess)) == pytest.approx(0.5 * 3 * 64)
    assert float(summed_l1(excess[:1])) == pytest.approx(0.5 * 3 * 64)
