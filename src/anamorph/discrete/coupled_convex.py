"""Coupled convex optimisation: a smooth displacement from the minima of a cost volume, and block matching."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.discrete.cost_volume import CostVolume
from anamorph.geometry.averaging import box_smooth, pool_volume
from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import POINTS, over_slabs, rows_worth

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
            coupled_argmin(chunk, costs.radius, field, coupling, first, labels)
        field = box_smooth(labels, costs.neighbours, smoothing)
    return field * step


def coupled_argmin(
    chunk: Array, radius: tuple[int, int, int], guess: Array, coupling: float, first: int, out: Array
) -> None:
    """Write into `out`, from row `first` on, the labels of least ``cost + coupling * ||label - guess||^2``."""
    if not isinstance(chunk, np.ndarray):
        coupled_argmin_torch(chunk, radius, guess, coupling, first, out)
    elif kernels is None:
        by_twin(coupled_argmin_torch, chunk, radius, guess, coupling, first, out)
    else:
        rows = chunk.shape[0] * chunk.shape[1]
        least = rows_worth(chunk[0, 0].size, 4 * POINTS)
        over_slabs(kernels.coupled_argmin, rows, chunk, radius, guess, coupling, first, out, least=least)


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


BLOCK_COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Short of the last coupling of a full search: the linear fit that follows is the stronger smoother."""


def match_blocks(
    fixed: np.ndarray,
    fixed_weight: np.ndarray,
    moving: np.ndarray,
    cell: int,
    step: int,
    radius: int,
    keep: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Find for the clearest blocks of the fixed image where they are in the moving image.

    The displacements are those of a smooth field through all costs, so that blocks that look alike do not scatter. A
    block counts as clear when its best cost is small beside its mean cost over the window; blocks that are mostly
    outside the weight are left out, whatever the intensities are.

    Args:
        fixed: ``(I, J, K, C)`` descriptor.
        fixed_weight: ``(I, J, K)``.
        moving: descriptor on the same grid.
        cell: block size in voxels.
        step: voxels between displacements.
        radius: displacements to each side.
        keep: fraction of the valid blocks returned.

    Returns:
        Two ``(N, 3)`` arrays of voxel positions: block centres and where they go. N may be 0.
    """
    shape = fixed.shape[:3]
    cells = (min(cell, shape[0]), min(cell, shape[1]), min(cell, shape[2]))
    window = tuple(radius if n > 1 else 0 for n in shape)
    costs = CostVolume(fixed, fixed_weight, moving, cells, (step,) * 3, window, max_bytes=2**62)  # type: ignore[arg-type]
    table = next(costs.chunks())[1].reshape(-1, costs.labels)
    weight = pool_volume(fixed_weight[None], cells)[0].ravel()
    valid = weight > 0.5
    if not valid.any():
        return np.empty((0, 3)), np.empty((0, 3))
    clarity = table.min(axis=1) / np.maximum(table.mean(axis=1), 1e-9)
    chosen = valid & (clarity <= np.quantile(clarity[valid], keep))
    displacement = coupled_convex(costs, couplings=BLOCK_COUPLINGS).reshape(3, -1).T[chosen]
    corners = np.stack(np.unravel_index(np.flatnonzero(chosen), costs.cells), axis=-1) * cells
    centres = (corners + np.minimum(corners + cells, shape) - 1) / 2
    return centres, centres + displacement
