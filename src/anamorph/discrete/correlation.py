"""The dense correlation layer, and what is expected of an image under the probabilities of displacements.

Costs say how well points of the fixed image match the moving image at every displacement: Dosovitskiy et al., ICCV 2015
(inner products); Heinrich, MICCAI 2019 (squared differences, expected values). :func:`correlate_locally` compares every
voxel with those around it, as in PWC-Net (Sun et al., CVPR 2018). Nothing is unfolded: only the costs
themselves and one part's samples are ever held, on the way forth and back.

On the CPU fused kernels do squared differences and expected values, unless a gradient is wanted that they do not give.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from anamorph.discrete.in_parts import AT_ONCE, in_parts
from anamorph.geometry.frames import to_grid_sample_order, voxel_to_normalised

if TYPE_CHECKING:
    from torch import Tensor


Kind = Literal["ssd", "sad", "ncc", "dot"]
Padding = Literal["border", "zeros"]


def correlate(
    fixed: Tensor,
    moving: Tensor,
    centres: Tensor,
    displacements: Tensor,
    kind: Kind = "ssd",
    *,
    padding: Padding = "border",
    at_once: int = AT_ONCE,
) -> Tensor:
    """Compare ``fixed(x)`` with ``moving(x + d)`` for every point x and displacement d; 0 or little is a good match.

    The costs, with sums over the channels: ``ssd`` sum (F - M)^2; ``sad`` sum |F - M|; ``ncc`` 1 minus the correlation
    coefficient of the two feature vectors, in [0, 2]; ``dot`` minus the inner product. Both images are read linearly
    between voxels. Differentiable in all four tensors.

    Args:
        fixed: ``(C, I, J)`` or ``(C, I, J, K)`` features.
        moving: ``(C, *S)``, on the same grid; the spatial shapes may differ.
        centres: ``(N, dims)`` voxel coordinates, order (i, j) or (i, j, k).
        displacements: ``(L, dims)`` in voxels.
        kind: what is compared.
        padding: what lies outside the moving image: its border, or zeros as in the two-dimensional tutorial, which
            invent matches for features near 0.
        at_once: samples held at a time.

    Returns:
        ``(N, L)`` costs.

    Raises:
        ValueError: unknown ``kind``.
    """
    if kind not in ("ssd", "sad", "ncc", "dot"):
        raise ValueError(f"kind must be 'ssd', 'sad', 'ncc' or 'dot', not {kind!r}")

    from anamorph.discrete import fused

    if kind == "ssd" and padding == "border" and fused.suits(fixed, moving, constant=(centres, displacements)):
        here = sample_features(fixed, centres, "border").T
        return fused.squared_differences(here, moving, centres, displacements)
    return correlate_torch(fixed, moving, centres, displacements, kind, padding=padding, at_once=at_once)


def correlate_torch(
    fixed: Tensor,
    moving: Tensor,
    centres: Tensor,
    displacements: Tensor,
    kind: Kind = "ssd",
    *,
    padding: Padding = "border",
    at_once: int = AT_ONCE,
) -> Tensor:
    """The readable twin of :func:`correlate`, differentiable, on any device."""

    def costs(points: Tensor) -> Tensor:
        here = sample_features(fixed, points, "border")[:, :, None]
        there = sample_features(moving, points[:, None] + displacements, padding)
        return _compare(here, there, kind)

    return in_parts(costs, centres, len(fixed) * len(displacements), at_once=at_once)


def _compare(here: Tensor, there: Tensor, kind: Kind) -> Tensor:
    """Costs over the first axis of two arrays that broadcast."""
    if kind == "ssd":
        return (here - there).square().sum(dim=0)
    if kind == "sad":
        return (here - there).abs().sum(dim=0)
    if kind == "ncc":
        return 1 - (normalised_features(here) * normalised_features(there)).sum(dim=0)
    return -(here * there).sum(dim=0)


def normalised_features(features: Tensor, channels: int = 0) -> Tensor:
    """Feature vectors with mean 0 and length 1; those all but constant become 0 and correlate with nothing.

    Args:
        features: any shape.
        channels: the axis along which a vector lies.
    """
    centred = features - features.mean(dim=channels, keepdim=True)
    return centred * (centred.square().sum(dim=channels, keepdim=True) + 1e-8).rsqrt()


def sample_features(volume: Tensor, positions_vox: Tensor, padding: Padding = "border") -> Tensor:
    """Read a 2D or 3D volume linearly between its voxels.

    Args:
        volume: ``(C, *S)`` with two or three spatial axes.
        positions_vox: ``(..., dims)`` voxel coordinates, order (i, j) or (i, j, k).
        padding: what lies outside.

    Returns:
        ``(C, ...)``.
    """
    from torch.nn.functional import grid_sample

    dims = positions_vox.shape[-1]
    flat = to_grid_sample_order(voxel_to_normalised(positions_vox, tuple(volume.shape[1:])))
    places = flat.reshape(*(1,) * dims, -1, dims).to(volume.dtype)
    out = grid_sample(volume[None], places, mode="bilinear", padding_mode=padding, align_corners=True)
    return out.reshape(volume.shape[0], *positions_vox.shape[:-1])


EXPECTED_AT_ONCE = 2**24


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
    dims = points.shape[1]

    def expected(part: Tensor) -> Tensor:
        where, share = part[:, :dims], part[:, dims:]
        return torch.einsum("cnl,nl->nc", sample_features(volume, where[:, None] + labels), share)

    both = torch.cat([points, probabilities], dim=1)
    return in_parts(expected, both, len(volume) * len(labels), at_once=EXPECTED_AT_ONCE)


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
