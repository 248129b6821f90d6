"""Losses of the learned methods: how alike two scans, label maps or point sets are, and how smooth a field is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anamorph.discrete.correlation import expected_values, sample_features
from anamorph.features.mind_ssc import ENTRIES, mind_ssc_torch
from anamorph.networks.blocks import one_hot

if TYPE_CHECKING:
    from anamorph.networks.pdd_network import Found


def mean_squared_error(fixed: Tensor, warped: Tensor) -> Tensor:
    """The mean of squared differences over batch, channels and voxels of two ``(B, C, I, J, K)``."""
    return (fixed - warped).square().mean()


def local_cross_correlation(
    fixed: Tensor, warped: Tensor, window: int = 9, epsilon: float = 1e-5, mask: Tensor | None = None
) -> Tensor:
    """Minus the mean squared correlation over cubic windows: -1 is perfect.

    ``-mean(cross^2 / (var var' + epsilon))`` with sums over ``window^3`` voxels and zeros outside (Avants et al. 2008;
    the published training of ``symmetric`` on the hippocampus).

    Args:
        fixed: ``(B, C, I, J, K)``.
        warped: the same shape.
        window: side of the cube in voxels, odd.
        epsilon: keeps flat windows at 0.
        mask: ``(B, 1, I, J, K)``; intensities are multiplied by it.
    """
    if mask is not None:
        fixed, warped = fixed * mask, warped * mask
    batch, channels, *shape = fixed.shape
    count = float(window**3)
    # Differences of sums of squares: float32 whatever the precision of the network.
    with torch.autocast(fixed.device.type, enabled=False):
        fixed, warped = fixed.float(), warped.float()
        moments = torch.stack([fixed, warped, fixed * fixed, warped * warped, fixed * warped], dim=1)
        sums = box_sums(moments.reshape(batch, 5 * channels, *shape), window)
        a, b, aa, bb, ab = sums.reshape(batch, 5, channels, *shape).unbind(1)
        cross = ab - a * b / count
        variances = (aa - a * a / count).clamp_min(0) * (bb - b * b / count).clamp_min(0)
        return -(cross * cross / (variances + epsilon)).mean()


def box_sums(volume: Tensor, window: int) -> Tensor:
    """Sums over cubes of ``(B, C, I, J, K)`` with zeros outside, by a banded matrix per axis.

    Products with small matrices are several times faster than pooling on a CPU, forward and back.
    """
    bands = [_band(n, window, volume) for n in volume.shape[2:]]
    volume = bands[1] @ (volume @ bands[2])
    return (bands[0] @ volume.flatten(3)).reshape(volume.shape)


def _band(size: int, window: int, like: Tensor) -> Tensor:
    """``(size, size)``, 1 where two voxels of a line share a window around either, else 0."""
    places = torch.arange(size, device=like.device)
    return ((places[:, None] - places).abs() <= window // 2).to(like.dtype)


def field_of_view(image: Tensor) -> Tensor:
    """``(B, 1, I, J, K)``: 1 in the box around the values above 0, which is what a scan padded by 0 has seen."""
    seen = (image > 0).any(dim=1, keepdim=True)
    box = torch.ones_like(image[:, :1])
    for axis in (2, 3, 4):
        others = tuple(a for a in (2, 3, 4) if a != axis)
        line = seen.any(dim=others[0], keepdim=True).any(dim=others[1], keepdim=True).to(image.dtype)
        # Between the first and the last voxel that holds anything.
        box = box * line.cummax(axis)[0] * line.flip(axis).cummax(axis)[0].flip(axis)
    return box


def mutual_information(fixed: Tensor, warped: Tensor, bins: int = 32) -> Tensor:
    """Minus the mutual information of the intensities in nats, mean over batch and channels.

    The joint histogram has a box window for the fixed image and a cubic B-spline for the warped one, which makes it
    smooth where the field enters (Mattes et al., IEEE TMI 2003).

    Args:
        fixed: ``(B, C, I, J, K)`` in [0, 1]; values beyond count as 0 or 1.
        warped: the same shape.
        bins: of the histogram along each side, at least 5; a spline reaches over 4.
    """
    with torch.autocast(fixed.device.type, enabled=False):
        here, there = (image.float().flatten(2).flatten(0, 1).clamp(0, 1) for image in (fixed, warped))
        row = (here * bins).long().clamp_max(bins - 1)
        # All four knots that a value weighs on lie within the bins.
        place = 1 + there * (bins - 3)
        knot = place.detach().floor().clamp_max(bins - 3)
        image = torch.arange(len(row), device=row.device)[:, None]
        first = (image * bins + row) * bins + knot.long() - 1
        histogram = there.new_zeros(len(row) * bins * bins)
        for n, weight in enumerate(_spline(place - knot)):
            histogram = histogram.index_add(0, (first + n).flatten(), weight.flatten())
        joint = histogram.reshape(-1, bins, bins) / here.shape[1]
        apart = joint.sum(dim=2, keepdim=True) * joint.sum(dim=1, keepdim=True)
        return (
            -torch.where(joint > 0, joint * (joint.clamp_min(TINY) / apart.clamp_min(TINY)).log(), 0).sum((1, 2)).mean()
        )


TINY = 1e-12


def _spline(t: Tensor) -> list[Tensor]:
    """The weights of the four knots around a value, which lies ``t`` in [0, 1] behind the second."""
    rest = 1 - t
    return [rest**3 / 6, 2 / 3 - t**2 * (2 - t) / 2, 2 / 3 - rest**2 * (2 - rest) / 2, t**3 / 6]


def mind_difference(fixed: Tensor, warped: Tensor, radius: int = 1, dilation: int = 2) -> Tensor:
    """The mean squared difference of the MIND-SSC of two ``(B, C, I, J, K)``."""
    return (mind_of(fixed, radius, dilation) - mind_of(warped, radius, dilation)).square().mean()


def mind_of(images: Tensor, radius: int, dilation: int) -> Tensor:
    """``(B, 12 C, I, J, K)``: the descriptor of every channel.

    Args:
        images: ``(B, C, I, J, K)``.
        radius: of the patches, voxels.
        dilation: distance of the neighbours that are compared, voxels.
    """
    steps = (radius,) * 3, (dilation,) * 3, (1, 1, 1)
    described = [torch.cat([mind_ssc_torch(one, *steps)[..., :ENTRIES] for one in image], -1) for image in images]
    return torch.stack(described).movedim(-1, 1)


def soft_dice(predicted: Tensor, target: Tensor, annotated: Tensor | None = None, over_batch: bool = False) -> Tensor:
    """One minus the Dice of soft label maps, mean over the labels.

    ``1 - (2 sum pq + 1) / (sum p^2 + sum q^2 + 1)`` per label (Estienne et al. 2020).

    Args:
        predicted: ``(B, L, I, J, K)`` in [0, 1], without background.
        target: the same shape.
        annotated: ``(B, L)``: a label has no part in the loss of a scan in which it is not annotated. All by default.
        over_batch: sum each label over the batch, as published; else the mean over the scans, which is the same number
            however a batch is split.
    """
    if annotated is not None:
        weight = annotated.to(predicted.dtype)[..., None, None, None]
        predicted, target = predicted * weight, target * weight
    return dice_losses(predicted, target, (0, *VOXELS) if over_batch else VOXELS).mean()


VOXELS = (2, 3, 4)


def dice_losses(predicted: Tensor, target: Tensor, axes: tuple[int, ...]) -> Tensor:
    """``1 - (2 sum pq + 1) / (sum p^2 + sum q^2 + 1)`` with sums over the given axes."""
    overlap = (predicted * target).sum(axes)
    size = predicted.square().sum(axes) + target.square().sum(axes)
    return 1 - (2 * overlap + 1) / (size + 1)


def partial_dice(probabilities: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
    """The Dice loss of a batch whose scans annotate different labels.

    A label's loss is the mean over the scans that annotate it; the sum over labels is divided by their number whether
    or not the batch annotates them (Estienne et al. 2020). A label that is not annotated in a scan gets a gradient of
    exactly zero there.

    Args:
        probabilities: ``(B, L, I, J, K)``, without background.
        target: the same shape; what it holds for labels that are not annotated is not looked at.
        annotated: ``(B, L)``: which labels each scan annotates.
    """
    weight = annotated.to(probabilities.dtype)
    losses = dice_losses(probabilities, target, VOXELS) * weight
    return (losses.sum(0) / weight.sum(0).clamp_min(1)).sum() / weight.shape[1]


def partial_cross_entropy(logits: Tensor, labels: Tensor, values: Sequence[int], annotated: Tensor) -> Tensor:
    """The mean cross entropy of a batch whose scans annotate different labels.

    Where nothing is annotated lies the background or a label that the scan does not annotate: their probabilities are
    summed (the marginal loss of Shi et al., MedIA 2021), so that such a label is neither taught nor unlearned there.

    Args:
        logits: ``(B, 1 + L, I, J, K)``, background first.
        labels: ``(B, I, J, K)``.
        values: of the L labels.
        annotated: ``(B, L)``: which labels each scan annotates.
    """
    target = one_hot(labels[:, None], torch.as_tensor(values, device=labels.device))
    target = target * annotated[..., None, None, None]
    elsewhere = 1 - target.sum(1, keepdim=True)
    unknown = elsewhere * (~annotated)[..., None, None, None]
    possible = torch.cat([elsewhere, target + unknown], dim=1) > 0
    logs = logits.float()
    of_possible = logs.masked_fill(~possible, -torch.inf).logsumexp(1)
    return (logs.logsumexp(1) - of_possible).mean()


def dice_and_cross_entropy(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`partial_dice` and :func:`partial_cross_entropy` of scans that annotate everything, in a third of the time.

    Args:
        logits: ``(B, 1 + L, I, J, K)``, background first.
        classes: ``(B, I, J, K)`` channels of the right labels.
    """
    probabilities, right = logits.softmax(1).flatten(2), classes.long().flatten(1)
    of_right = probabilities.gather(1, right[:, None])[:, 0]
    sums = of_right.new_zeros(logits.shape[:2])
    overlap, size = sums.scatter_add(1, right, of_right), sums.scatter_add(1, right, torch.ones_like(of_right))
    losses = 1 - (2 * overlap + 1) / (probabilities.square().sum(2) + size + 1)
    return losses[:, 1:].mean(), -of_right.clamp_min(1e-30).log().mean()


def nonlocal_error(found: Found, fixed: Tensor, moving: Tensor, weights: Tensor | None = None) -> Tensor:
    """How far what is expected over all displacements is from what is there (Heinrich, MICCAI 2019).

    ``mean over k, c of w_c (sum_d p(d | k) M_c(k + d) - F_c(k))^2``. Unlike a warp through the mean displacement it
    tells two good displacements from the bad one between them.

    Args:
        found: probabilities of B pairs.
        fixed: ``(B, C, I, J, K)``: one-hot labels, or a descriptor.
        moving: of the same kind and shape.
        weights: ``(B, C)`` or ``(C,)``; one by default.
    """

    def expected(pair: int) -> Tensor:
        return expected_values(moving[pair], found.probabilities[pair], found.points, found.labels)

    return _error(found, fixed, expected, weights)


def local_error(found: Found, fixed: Tensor, moving: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared distance of the moving scan at the mean displacement, ``M_c(k + sum_d p(d | k) d)``, from the fixed one.

    The mean over control points and weighted channels; arguments as of :func:`nonlocal_error`.
    """

    def at_the_mean(pair: int) -> Tensor:
        places = found.points + found.control_disp_vox[pair].flatten(1).T
        return sample_features(moving[pair], places).T

    return _error(found, fixed, at_the_mean, weights)


def _error(found: Found, fixed: Tensor, values: Callable[[int], Tensor], weights: Tensor | None) -> Tensor:
    """Squared differences of ``values(pair)``, ``(N, C)``, from the fixed scans at the control points."""
    there = torch.stack([values(pair) for pair in range(len(fixed))])
    here = torch.stack([sample_features(one, found.points).T for one in fixed])
    squared = (there - here).square()
    return squared.mean() if weights is None else (squared * weights.unsqueeze(-2)).mean()


def diffusion(disp_vox: Tensor) -> Tensor:
    """The mean squared difference of neighbouring displacements over all nine derivatives of ``(B, 3, I, J, K)``.

    Gradient integration bounds the three diagonal derivatives alone; this one smooths between the lines of voxels.
    """
    parts = [disp_vox.diff(dim=axis).square().mean() for axis in (2, 3, 4) if disp_vox.shape[axis] > 1]
    return torch.stack(parts).mean() if parts else disp_vox.sum() * 0


def gradient_l1(gradients: Tensor) -> Tensor:
    """The mean distance of ``(B, 3, I, J, K)`` diagonal gradients from 0.5, which is the identity."""
    return (gradients - 0.5).abs().mean()


def summed_l1(excess: Tensor) -> Tensor:
    """The sum of absolute values of each item of a batch, ``(B, ...)``, mean over the batch alone.

    A sum over the voxels, as published: as a mean, a weight of 1e-6 would be none.
    """
    return excess.abs().flatten(1).sum(dim=1).mean()
