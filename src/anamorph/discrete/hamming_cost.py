"""The cost of every displacement of every cell, as the number of bits in which quantised descriptors differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anamorph.geometry.averaging import Cell
from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


def hamming_costs(
    fixed: Array, weight: Array, moving: Array, cells: Cell, cell: Cell, radius: Cell, step: Cell, stride: Cell
) -> Array:
    """Compare every cell of the fixed image with the moving image at every displacement in a window.

    The cost is the mean number of differing bits over the samples of a cell whose weight is not 0, times their mean
    weight; a cell without samples costs nothing. Displacements are ``step * (di, dj, dk)`` with ``|d| <= radius``, dk
    fastest; the border of the moving image is repeated.

    Args:
        fixed: ``(C, I, J, K)`` codes of :func:`anamorph.features.quantised_mind_ssc.quantised_mind_ssc`, per channel.
        weight: ``(I, J, K)`` float32 in [0, 1].
        moving: codes on the same grid.
        cells: cells per axis; the last ones may hang over the edge.
        cell: voxels per cell.
        radius: labels to each side.
        step: voxels per label.
        stride: every how many voxels a sample is taken.

    Returns:
        ``(number of cells, labels)`` float32.
    """
    scale = _scale(weight if isinstance(weight, np.ndarray) else weight.cpu().numpy(), cells, cell, stride) / len(fixed)
    window = (cell, radius, step, stride)
    if not isinstance(fixed, np.ndarray):
        return _hamming_costs_torch(fixed, weight, scale, moving, *window)
    if kernels is None:
        return by_twin(_hamming_costs_torch, fixed.view(np.int64), weight, scale, moving.view(np.int64), *window)
    out = np.empty((*cells, int(np.prod([2 * r + 1 for r in radius]))), np.float32)
    arrays = [np.ascontiguousarray(array) for array in (fixed, weight > 0, scale, moving)]
    over_slabs(kernels.hamming_costs, cells[0], *arrays, *window, out)
    return out.reshape(-1, out.shape[-1])


def _scale(weight: np.ndarray, cells: Cell, cell: Cell, stride: Cell) -> np.ndarray:
    """What one differing bit costs in each cell: the mean weight of its samples over their number."""
    padded = np.zeros([n * c for n, c in zip(cells, cell, strict=True)], np.float32)
    kept = tuple(slice(0, min(n, m)) for n, m in zip(padded.shape, weight.shape, strict=True))
    padded[kept] = weight[kept]
    (na, nb, nc), (gi, gj, gk) = cells, cell
    samples = padded.reshape(na, gi, nb, gj, nc, gk)[:, :: stride[0], :, :: stride[1], :, :: stride[2]]
    count = np.maximum((samples > 0).sum(axis=(1, 3, 5), dtype=np.float32), 1)
    return samples.sum(axis=(1, 3, 5)) / count**2


def _hamming_costs_torch(
    fixed: torch.Tensor,
    weight: torch.Tensor,
    scale: np.ndarray,
    moving: torch.Tensor,
    cell: Cell,
    radius: Cell,
    step: Cell,
    stride: Cell,
) -> torch.Tensor:
    """The readable twin: all samples at one displacement after the other."""
    import torch

    places = [
        (torch.arange(n)[:, None] * c + torch.arange(0, c, s)).flatten().to(fixed.device)
        for n, c, s in zip(scale.shape, cell, stride, strict=True)
    ]
    groups = [n for axis in zip(scale.shape, cell, stride, strict=True) for n in (axis[0], -(-axis[1] // axis[2]))]

    def at(volume: torch.Tensor, shift: list[int]) -> torch.Tensor:
        i, j, k = ((p + d).clamp(0, n - 1) for p, d, n in zip(places, shift, volume.shape[-3:], strict=True))
        return volume[..., i, :, :][..., j, :][..., k]

    inside = [p < n for p, n in zip(places, weight.shape, strict=True)]
    counted = (at(weight, [0, 0, 0]) > 0) & inside[0][:, None, None] & inside[1][:, None] & inside[2]
    here = at(fixed, [0, 0, 0])
    costs = []
    for label in np.ndindex(*(2 * r + 1 for r in radius)):
        shift = [(d - r) * s for d, r, s in zip(label, radius, step, strict=True)]
        differing = popcount_torch(here ^ at(moving, shift)) * counted
        costs.append(differing.sum(dim=0).reshape(groups).sum(dim=(1, 3, 5)).flatten())
    return torch.stack(costs, dim=-1) * torch.as_tensor(scale).to(fixed.device).reshape(-1, 1)


def popcount_torch(codes: torch.Tensor) -> torch.Tensor:
    """The number of bits set in each int64, by adding neighbouring groups of bits; PyTorch has no such operation."""
    codes = codes - ((codes >> 1) & 0x5555555555555555)
    codes = (codes & 0x3333333333333333) + ((codes >> 2) & 0x3333333333333333)
    codes = (codes + (codes >> 4)) & 0x0F0F0F0F0F0F0F0F
    return (codes * 0x0101010101010101) >> 56
