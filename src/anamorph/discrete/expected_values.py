"""What is expected of an image at points whose displacement is only probable (Heinrich, MICCAI 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anamorph.discrete.correlation import sample_features
from anamorph.discrete.in_parts import in_parts

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 2**24


def expected_values(volume: Tensor, probabilities: Tensor, points: Tensor, labels: Tensor) -> Tensor:
    """The mean of an image around points, under the probabilities of their displacements.

    Differentiable in image and probabilities. On the CPU a fused kernel does it unless the image wants a gradient.

    Args:
        volume: ``(C, I, J)`` or ``(C, I, J, K)``, read linearly between voxels, its border repeated.
        probabilities: ``(N, L)``.
        points: ``(N, dims)`` voxel coordinates.
        labels: ``(L, dims)``: displacements in voxels.

    Returns:
        ``(N, C)``.
    """
    from anamorph.discrete import fused

    if fused.suits(probabilities, constant=(volume, points, labels)):
        return fused.expected_values(volume, probabilities, points, labels)
    return expected_values_torch(volume, probabilities, points, labels)


def expected_values_torch(volume: Tensor, probabilities: Tensor, points: Tensor, labels: Tensor) -> Tensor:
    """The readable twin of :func:`expected_values`, differentiable, on any device."""
    import torch

    dims = points.shape[1]

    def expected(part: Tensor) -> Tensor:
        where, share = part[:, :dims], part[:, dims:]
        return torch.einsum("cnl,nl->nc", sample_features(volume, where[:, None] + labels), share)

    both = torch.cat([points, probabilities], dim=1)
    return in_parts(expected, both, len(volume) * len(labels), at_once=AT_ONCE)
