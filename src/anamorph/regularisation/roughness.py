"""How rough a field of control points is, whatever their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED_CONTROL = 32
"""Control points along an axis for which PDD-Net's weights of smoothness were chosen."""


def roughness(field: Tensor) -> Tensor:
    """The sum over the axes of the mean squared difference of neighbours that are 1/31 of the extent apart.

    With 32 points along each axis these are the neighbours themselves, as published; the slope between fewer points is
    the same one seen from further away, so a weight means the same for any number.

    Args:
        field: ``(..., I, J, K)``.
    """
    import torch

    parts = [
        (field.diff(dim=axis) * ((field.shape[axis] - 1) / (PUBLISHED_CONTROL - 1))).square().mean()
        for axis in (-3, -2, -1)
    ]
    return torch.stack(parts).sum()
