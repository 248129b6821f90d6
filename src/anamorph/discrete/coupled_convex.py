"""Coupled convex optimisation: a globally smooth displacement from independent minima of a cost volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.discrete.cost_volume import CostVolume
from anamorph.geometry.averaging import box_smooth
from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Growing strength of the coupling between the label of a cell and the smooth field (ConvexAdam)."""
TIE_BREAK = 1e-5
"""Coupling to no displacement of the first step: cells where all labels cost the same, as in empty background, stay."""


def coupled_convex(costs: CostVolume[Array], smoothing: int = 1, couplings: tuple[float, ...] = COUPLINGS) -> Array:
    """Minimise matching cost plus smoothness by alternating two exact steps (Heinrich, WBIR 2014; Steinbruecker 2009).

    For growing couplings, each cell takes the label of least ``cost + coupling * ||label - u||^2`` and u becomes the
    smoothed label field.

    Args:
        costs: the cost volume.
        smoothing: box averages over neighbouring cells between the steps.
        couplings: the schedule; before it, a step with next to no coupling starts the field.

    Returns:
        ``(3, *cells)`` float32 displacement in voxels of the descriptors.
    """
    if isinstance(costs.fixed, np.ndarray):
        field = np.zeros((3, *costs.cells), np.float32)
        step = np.asarray(costs.step, np.float32).reshape(3, 1, 1, 1)
    else:
        field = costs.fixed.new_zeros((3, *costs.cells))
        step = costs.fixed.new_tensor(costs.step).reshape(3, 1, 1, 1)
    for coupling in (TIE_BREAK, *couplings):
        labels = field * 0
        for first, chunk in costs.chunks():
            _argmin(chunk, costs.radius, field, coupling, first, labels)
        field = box_smooth(labels, costs.neighbours, smoothing)
    return field * step


def _argmin(chunk: Array, radius: tuple[int, int, int], guess: Array, coupling: float, first: int, out: Array) -> None:
    if isinstance(chunk, np.ndarray):
        from anamorph.discrete import _search_numba

        rows = chunk.shape[0] * chunk.shape[1]
        over_slabs(_search_numba.coupled_argmin, rows, chunk, radius, guess, np.float32(coupling), first, out)
    else:
        coupled_argmin_torch(chunk, radius, guess, coupling, first, out)


def coupled_argmin_torch(
    chunk: torch.Tensor,
    radius: tuple[int, int, int],
    guess: torch.Tensor,
    coupling: float,
    first: int,
    out: torch.Tensor,
) -> None:
    """The readable twin of the kernel: writes the best labels of the rows of ``chunk`` into ``out``."""
    import torch

    axes = [torch.arange(-r, r + 1, device=chunk.device, dtype=chunk.dtype) for r in radius]
    labels = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, 1, 1, 1, -1)
    rows = slice(first, first + chunk.shape[0])
    penalty = ((labels - guess[:, rows, ..., None]) ** 2).sum(dim=0)
    best = (chunk + coupling * penalty).argmin(dim=-1)
    out[:, rows] = labels[:, 0, 0, 0][:, best]
