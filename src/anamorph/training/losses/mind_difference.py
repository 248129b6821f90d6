from __future__ import annotations

import torch
from torch import Tensor

from anamorph.features.mind_ssc import ENTRIES, mind_ssc_torch


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
