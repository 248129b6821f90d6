from __future__ import annotations

from torch import Tensor

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
