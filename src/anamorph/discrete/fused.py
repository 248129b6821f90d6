"""The fused CPU kernels over displacements as differentiable operations; the readable twins are where they are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import over_slabs

PARTS = 4
"""Points are split for the gradient of the image, always alike: it does not depend on the number of threads."""


def suits(*tensors: Tensor, constant: tuple[Tensor, ...]) -> bool:
    """Whether a kernel can do it: built, float32 in main memory, and no gradient wanted of what is ``constant``."""
    moves = torch.is_grad_enabled() and any(t.requires_grad for t in constant)
    plain = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (*tensors, *constant))
    return kernels is not None and plain and not moves


def squared_differences(here: Tensor, moving: Tensor, centres: Tensor, displacements: Tensor) -> Tensor:
    """``(N, L)``: how far ``here (N, C)`` is from ``moving (C, *S)`` at every displacement, with both gradients."""
    costs: Tensor = _SquaredDifferences.apply(here, _channels_last(moving), *_in_3d(centres, displacements))
    return costs


def expected_values(volume: Tensor, probabilities: Tensor, points: Tensor, labels: Tensor) -> Tensor:
    """``(N, C)``: the mean of ``volume (C, *S)`` around points, with the gradient of the probabilities alone."""
    mean: Tensor = _ExpectedValues.apply(_channels_last(volume), probabilities, *_in_3d(points, labels))
    return mean


def _channels_last(volume: Tensor) -> Tensor:
    """``(I, J, K, C)``; a 2D image is one plane of a volume."""
    return volume.reshape(len(volume), *(1,) * (4 - volume.ndim), *volume.shape[1:]).permute(1, 2, 3, 0)


def _in_3d(*positions: Tensor) -> list[Tensor]:
    return [pad(t, (3 - t.shape[1], 0)) for t in positions]


def arrays(*tensors: Tensor) -> list[Any]:
    """What a kernel takes; it writes into the last ones, which must be contiguous."""
    return [t.detach().contiguous().numpy() for t in tensors]


class _SquaredDifferences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        costs = torch.empty(len(tensors[2]), len(tensors[3]))
        over_slabs(kernels.squared_differences, len(costs), *arrays(*tensors, costs))
        return costs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> Any:
        here, moving = ctx.saved_tensors[:2]
        d_here, d_moving = torch.zeros(here.shape), torch.zeros(PARTS, *moving.shape)
        given = arrays(*ctx.saved_tensors, gradients, d_here, d_moving)
        over_slabs(kernels.squared_difference_gradients, PARTS, *given)
        return d_here, d_moving.sum(dim=0), None, None


class _ExpectedValues(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        volume, _, points, labels = tensors
        ctx.save_for_backward(volume, points, labels)
        mean = torch.empty(len(points), volume.shape[3])
        over_slabs(kernels.expected_values, len(points), *arrays(*tensors, mean))
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> Any:
        volume, points, labels = ctx.saved_tensors
        d_probabilities = torch.empty(len(points), len(labels))
        given = arrays(volume, gradients, points, labels, d_probabilities)
        over_slabs(kernels.probability_gradients, len(points), *given)
        return None, d_probabilities, None, None
