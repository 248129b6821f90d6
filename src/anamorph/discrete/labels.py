"""Displacement labels: regular windows, points to try them at, and from their costs to a displacement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from anamorph.discrete.in_parts import AT_ONCE, in_parts

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def label_window(size: Sequence[int], reach_vox: Sequence[float], device: torch.device | str | None = None) -> Tensor:
    """The displacements of a window from ``-reach_vox`` to ``+reach_vox``, both included.

    Args:
        size: labels per axis; an axis of one label has the displacement 0.
        reach_vox: voxels per axis, order (i, j) or (i, j, k).
        device: where the result lives.

    Returns:
        ``(L, dims)`` float32, the last axis fastest: ``.reshape(*size, dims)`` is the window.
    """
    import torch

    axes = [torch.linspace(-r, r, n) if n > 1 else torch.zeros(1) for n, r in zip(size, reach_vox, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).to(device)


def grid_points(shape: Sequence[int], size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """The centres of ``size`` equal cells that fill a volume: the voxels themselves if ``size == shape``.

    Args:
        shape: voxels per axis.
        size: cells per axis.
        device: where the result lives.

    Returns:
        ``(N, dims)`` float32 voxel coordinates, the last axis fastest.
    """
    import torch

    axes = [(torch.arange(n) + 0.5) * (s / n) - 0.5 for s, n in zip(shape, size, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).to(device)


class LabelUncertainty(NamedTuple):
    """How sure the labels of N points are."""

    entropy: Tensor
    """``(...)`` nats, from 0 (one label) to log L (all alike)."""
    deviation: Tensor
    """``(..., dims)``: standard deviation of the displacement along each axis, in its unit."""


def label_probabilities(costs: Tensor, temperature: Tensor | float = 1.0, *, in_place: bool = False) -> Tensor:
    """``softmax(-costs / temperature)`` over the last axis.

    Args:
        costs: ``(..., L)``.
        temperature: above 0; near 0 the cheapest label takes all.
        in_place: overwrite the costs if no gradient is wanted.

    Returns:
        ``(..., L)``.
    """
    import torch

    def probabilities(part: Tensor) -> Tensor:
        return (part / -temperature).softmax(dim=-1)

    if not in_place or torch.is_grad_enabled():
        return probabilities(costs)
    return in_parts(probabilities, costs, costs[0].numel(), at_once=AT_ONCE, out=costs)


def expectation(probabilities: Tensor, displacements: Tensor) -> Tensor:
    """The mean displacement ``(..., dims)`` of probabilities ``(..., L)`` over displacements ``(L, dims)``."""
    return probabilities @ displacements


def soft_argmin(costs: Tensor, displacements: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """The expected displacement under ``softmax(-costs / temperature)``: differentiable, finer than the labels.

    Args:
        costs: ``(..., L)``.
        displacements: ``(L, dims)``, any unit.
        temperature: above 0; near 0 the cheapest label takes all.

    Returns:
        ``(..., dims)``, in the unit of the displacements.
    """

    def expected(part: Tensor) -> Tensor:
        return expectation(label_probabilities(part, temperature), displacements)

    flat = costs.reshape(-1, costs.shape[-1])
    mean = in_parts(expected, flat, costs.shape[-1], at_once=AT_ONCE)
    return mean.reshape(*costs.shape[:-1], displacements.shape[1])


def label_uncertainty(costs: Tensor, displacements: Tensor, temperature: Tensor | float = 1.0) -> LabelUncertainty:
    """Entropy and spread of the labels under ``softmax(-costs / temperature)``.

    Args:
        costs: ``(..., L)``.
        displacements: ``(L, dims)``, any unit.
        temperature: above 0, as in :func:`soft_argmin`.

    Returns:
        Entropy ``(...)`` in nats and standard deviation ``(..., dims)`` in the unit of the displacements.
    """
    import torch

    def measured(part: Tensor) -> Tensor:
        logarithms = (part / -temperature).log_softmax(dim=-1)
        probabilities = logarithms.exp()
        # A label that cannot be has p = 0 and log p = -inf; its share of the entropy is 0.
        entropy = -(probabilities * logarithms.clamp(min=torch.finfo(part.dtype).min)).sum(dim=-1, keepdim=True)
        mean = expectation(probabilities, displacements)
        # About the mean, not as a difference of squares, which would lose the digits of small spreads.
        apart = displacements - mean[:, None]
        variance = torch.einsum("nl,nld->nd", probabilities, apart.square())
        # A slope of the root at 0 would be infinite.
        return torch.cat([entropy, variance.clamp(min=torch.finfo(part.dtype).tiny).sqrt()], dim=-1)

    flat = costs.reshape(-1, costs.shape[-1])
    held = costs.shape[-1] * (1 + displacements.shape[1])
    both = in_parts(measured, flat, held, at_once=AT_ONCE).reshape(*costs.shape[:-1], -1)
    return LabelUncertainty(both[..., 0], both[..., 1:])
