from __future__ import annotations

from torch import Tensor

from anamorph.training.losses.partial_dice import VOXELS, dice_losses


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
