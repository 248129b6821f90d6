"""Costs of whole displacements at every voxel: the small cost volumes of PWC-Net, the large one of FlowNet-C.

Dosovitskiy et al., ICCV 2015; Sun et al., CVPR 2018. Nothing is read between voxels and nothing unfolded: the features
and the costs themselves are all that is held, on the way forth and back.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from anamorph.discrete.correlation import normalised_features

if TYPE_CHECKING:
    from torch import Tensor


def correlate_locally(fixed: Tensor, moving: Tensor, radius: int, kind: Literal["ncc", "dot"] = "ncc") -> Tensor:
    """Compare every voxel with all voxels of the moving features that are at most ``radius`` away along each axis.

    The same as :func:`~anamorph.discrete.correlation.correlate` with all voxels as points and
    ``label_window([2 * radius + 1] * dims, [radius] * dims)`` as displacements, up to rounding, for a whole batch.

    Args:
        fixed: ``(B, C, *S)`` features with two or three spatial axes.
        moving: the same shape; its border is repeated outside.
        radius: voxels.
        kind: ``ncc``, 1 minus the correlation coefficient of the feature vectors, or ``dot``, minus the inner product.

    Returns:
        ``(B, L, *S)`` costs, ``L = (2 * radius + 1) ** dims``.
    """
    if kind == "ncc":
        fixed, moving = normalised_features(fixed, 1), normalised_features(moving, 1)
    around = pad(moving, [radius] * 2 * (moving.ndim - 2), mode="replicate")
    products: Tensor = _Products.apply(fixed, around, radius)
    return 1 - products if kind == "ncc" else -products


class _Products(Function):
    """Inner products of ``(B, C, *S)`` with every window of that shape in features that are larger by the radius."""

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, around: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(fixed, around)
        windows = ctx.windows = list(_windows(fixed.shape[2:], radius))
        products = fixed.new_empty(len(fixed), len(windows), *fixed.shape[2:])
        for label, window in enumerate(windows):
            torch.sum(fixed * around[window], dim=1, out=products[:, label])
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        fixed, around = ctx.saved_tensors
        slope_fixed, slope_around = torch.zeros_like(fixed), torch.zeros_like(around)
        for label, window in enumerate(ctx.windows):
            own = slope[:, label, None]
            slope_fixed.addcmul_(own, around[window])
            slope_around[window].addcmul_(own, fixed)
        return slope_fixed, slope_around, None


def _windows(shape: torch.Size, radius: int) -> Any:
    """Where the window of each displacement lies, the last axis fastest."""
    for starts in product(range(2 * radius + 1), repeat=len(shape)):
        yield (..., *(slice(start, start + n) for start, n in zip(starts, shape, strict=True)))
