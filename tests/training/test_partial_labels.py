from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from anamorph.training.losses import (
    box_sums,
    diffusion,
    gradient_l1,
    local_cross_correlation,
    mean_squared_error,
    partial_dice,
    soft_dice,
)

SHAPE = (6, 5, 4)


def maps(batch: int = 3, labels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand((batch, labels, *SHAPE), generator=generator)
    target = (torch.rand((batch, labels, *SHAPE), generator=generator) > 0.6).float()
    return predicted, target


ANNOTATED = torch.tensor([[True, False, True, False], [True, True, False, False], [False, True, True, False]])


@pytest.mark.parametrize("loss", [partial_dice, soft_dice])
def test_the_gradient_is_exactly_zero_where_nothing_is_annotated(loss):
    predicted, target = maps()
    predicted.requires_grad_()
    loss(predicted, target, ANNOTATED).backward()
    touched = (predicted.grad != 0).flatten(2).any(-1)
    torch.testing.assert_close(touched, ANNOTATED)


@pytest.mark.parametrize("loss", [partial_dice, soft_dice])
def test_what_is_not_annotated_has_no_influence(loss):
    predicted, target = maps()
    strange = torch.where(ANNOTATED[..., None, None, None], target, 1 - target)
    assert float(loss(predicted, target, ANNOTATED)) == float(loss(predicted, strange, ANNOTATED))


def test_partial_dice_is_the_published_sum():
    predicted, target = maps()
    expected = 0.0
    for label in range(4):
        losses = []
        for scan in range(3):
            if ANNOTATED[scan, label]:
                p, q = predicted[scan, label].numpy(), target[scan, label].numpy()
                losses.append(1 - (2 * (p * q).sum() + 1) / ((p**2).sum() + (q**2).sum() + 1))
        expected += np.mean(losses) if losses else 0.0
    assert float(partial_dice(predicted, target, ANNOTATED)) == pytest.approx(expected / 4, abs=1e-6)


def test_soft_dice_sums_over_the_batch_or_not():
    predicted, target = maps()
    overlap = (predicted * target).sum((0, 2, 3, 4))
    size = predicted.square().sum((0, 2, 3, 4)) + target.square().sum((0, 2, 3, 4))
    batch = (1 - (2 * overlap + 1) / (size + 1)).mean()
    torch.testing.assert_close(soft_dice(predicted, target, over_batch=True), batch)
    single = torch.stack([soft_dice(predicted[n : n + 1], target[n : n + 1]) for n in range(3)]).mean()
    torch.testing.assert_close(soft_dice(predicted, target), single)
    assert float(soft_dice(target, target)) == pytest.approx(0, abs=1e-6)


def test_local_correlation_is_that_of_a_plain_loop():
    generator = np.random.default_rng(0)
    a, b = (generator.random((7, 6, 5)) for _ in range(2))
    window, found = 3, []
    pa, pb = (np.pad(v, 1) for v in (a, b))
    for i in np.ndindex(*a.shape):
        x, y = (p[i[0] : i[0] + 3, i[1] : i[1] + 3, i[2] : i[2] + 3].ravel() for p in (pa, pb))
        cross = ((x - x.mean()) * (y - y.mean())).sum()
        found.append(cross**2 / (((x - x.mean()) ** 2).sum() * ((y - y.mean()) ** 2).sum() + 1e-5))
    tensors = [torch.from_numpy(v)[None, None] for v in (a, b)]
    assert float(local_cross_correlation(*tensors, window=window)) == pytest.approx(-np.mean(found), abs=1e-5)


def test_local_correlation_ignores_contrast_and_what_the_mask_leaves_out():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 1, 16, 14, 12), generator=generator)
    assert float(local_cross_correlation(image, -0.5 * image, window=5)) < -0.999
    mask = torch.zeros_like(image)
    mask[..., 3:12, 3:11, 2:9] = 1
    garbage = torch.where(mask > 0, image, 9.0)
    one, other = (local_cross_correlation(image, view, mask=mask) for view in (image, garbage))
    assert float(one) == float(other)


def test_box_sums_are_those_of_pooling():
    volume = torch.rand((2, 3, 11, 7, 12), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(box_sums(volume, 5), F.avg_pool3d(volume, 5, 1, 2) * 125)


def test_the_correlation_has_the_right_derivative():
    images = [torch.rand((1, 2, 5, 4, 6), generator=torch.Generator().manual_seed(n)) for n in range(2)]
    moved = images[1].clone().requires_grad_()
    local_cross_correlation(images[0], moved, window=3).backward()
    step = torch.zeros_like(moved)
    step[0, 1, 2, 2, 3] = 1e-2
    higher, lower = (float(local_cross_correlation(images[0], images[1] + s, window=3)) for s in (step, -step))
    assert float(moved.grad[0, 1, 2, 2, 3]) == pytest.approx((higher - lower) / 2e-2, rel=0.02)


def test_the_identity_is_smooth():
    assert float(gradient_l1(torch.full((1, 3, *SHAPE), 0.5))) == 0
    assert float(gradient_l1(torch.full((1, 3, *SHAPE), 0.8))) == pytest.approx(0.3)
    assert float(diffusion(torch.full((1, 3, *SHAPE), 4.0))) == 0
    slope = torch.zeros(1, 3, *SHAPE)
    slope[:, 1] = 0.3 * torch.arange(SHAPE[2]).float()
    assert float(diffusion(slope)) == pytest.approx(0.09 / 9)
    assert float(mean_squared_error(torch.zeros(2, 1, 2, 2, 2), torch.full((2, 1, 2, 2, 2), 3.0))) == 9
