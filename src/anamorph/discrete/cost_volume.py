"""The dense cost volume: how well each cell of the fixed image matches the moving image at each displacement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import POINTS, over_slabs, rows_worth

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")

Triple = tuple[int, int, int]


@dataclass
class CostVolume(Generic[Array]):
    """The costs of a pair, kept whole when they fit the memory allowed and computed again in chunks of rows when not.

    Labels are displacements ``step * (di, dj, dk)`` with ``|d| <= radius``, dk fastest. The cost of a label at a cell
    is the mean over the cell's voxels of ``weight * ||F(p) - M(p + displacement)||^2``, then averaged over 3^3 cells.

    Args:
        fixed: ``(I, J, K, C)`` descriptor, C a multiple of 16.
        weight: ``(I, J, K)``: 0 takes a voxel out.
        moving: like ``fixed``; its border is repeated.
        cell: voxels per cell and axis.
        step: voxels per label and axis.
        radius: labels to each side and axis.
        max_bytes: of costs held at a time.
        neighbours: 0 for axes along which neighbouring cells are too far away to be averaged, else 1.
    """

    fixed: Array
    weight: Array
    moving: Array
    cell: Triple
    step: Triple
    radius: Triple
    max_bytes: int
    neighbours: Triple = (1, 1, 1)

    def __post_init__(self) -> None:
        ci, cj, ck = (-(-n // c) for n, c in zip(self.fixed.shape[:3], self.cell, strict=True))
        self.cells: Triple = (ci, cj, ck)
        self.labels = int(np.prod([2 * r + 1 for r in self.radius]))
        row_bytes = self.cells[1] * self.cells[2] * self.labels * 4
        self.rows_per_chunk = int(max(1, min(self.cells[0], self.max_bytes // row_bytes - 2)))
        self._whole: Array | None = None
        if isinstance(self.fixed, np.ndarray) and kernels is not None:
            # Channels beyond the last used one would be compared for nothing.
            all_channels = self.fixed.shape[3]
            used = next((c + 1 for c in reversed(range(all_channels)) if self.fixed[..., c].any()), 1)
            ni, nj, nk, _ = self.fixed.shape
            border = self.step[2] * self.radius[2]
            self._fixed = _rows_of_vectors(ni, nj, used, nk)
            self._moving = _rows_of_vectors(ni, nj, used, nk + 2 * border)
            self._weight = _rows_of_vectors(ni, nj, nk)
            self._weight[..., :nk] = self.weight
            least = rows_worth(nk * used)
            over_slabs(kernels.rows_of_channels, ni * nj, _single(self.fixed), 0, self._fixed, least=least)
            over_slabs(kernels.rows_of_channels, ni * nj, _single(self.moving), border, self._moving, least=least)

    def chunks(self) -> Iterator[tuple[int, Array]]:
        """Pairs of a first row and the ``(rows, cells, cells, labels)`` costs from there on."""
        if self.rows_per_chunk >= self.cells[0]:
            if self._whole is None:
                self._whole = self._rows(0, self.cells[0])
            yield 0, self._whole
            return
        for first in range(0, self.cells[0], self.rows_per_chunk):
            yield first, self._rows(first, min(first + self.rows_per_chunk, self.cells[0]))

    def _rows(self, first: int, last: int) -> Array:
        # One more row to each side, for the averages over neighbouring cells.
        low, high = max(first - 1, 0), min(last + 1, self.cells[0])
        if not isinstance(self.fixed, np.ndarray):
            costs = self._rows_torch(self.fixed, self.weight, self.moving, low, high)
        elif kernels is None:
            costs = by_twin(self._rows_torch, self.fixed, self.weight, self.moving, low, high)
        else:
            costs = self._rows_numpy(low, high)
        return costs[first - low : costs.shape[0] - (high - last)]

    def _rows_numpy(self, low: int, high: int) -> np.ndarray:
        costs = np.empty((high - low, *self.cells[1:], self.labels), np.float32)
        voxels = self.fixed.shape[2]
        given = (self._fixed, self._weight, self._moving, self.cell, self.step, self.radius, voxels, low)
        over_slabs(kernels.cost_volume, costs.shape[0] * costs.shape[1], *given, costs)
        for axis in range(3):
            if self.cells[axis] > 1 and self.neighbours[axis]:
                lines = costs[..., 0].size // costs.shape[axis]
                least = rows_worth(self.cells[axis] * self.labels, 4 * POINTS)
                over_slabs(kernels.smooth_cells, lines, costs, axis, least=least)
        return costs

    def _rows_torch(
        self, fixed: torch.Tensor, weight: torch.Tensor, moving: torch.Tensor, low: int, high: int
    ) -> torch.Tensor:
        """The readable twin: one shifted difference, one average over cells and one over their neighbours per label."""
        import torch
        from torch.nn.functional import avg_pool3d, pad

        i0, i1 = low * self.cell[0], min(high * self.cell[0], fixed.shape[0])
        axes = [torch.arange(n, device=fixed.device) for n in fixed.shape[:3]]
        border = [n for n in reversed(self.neighbours) for _ in range(2)]
        window = [2 * n + 1 for n in self.neighbours]
        costs = []
        for label in np.ndindex(*(2 * r + 1 for r in self.radius)):
            shift = [(d - r) * s for d, r, s in zip(label, self.radius, self.step, strict=True)]
            i, j, k = ((a + s).clamp(0, len(a) - 1) for a, s in zip(axes, shift, strict=True))
            difference = fixed[i0:i1] - moving[i[i0:i1]][:, j][:, :, k]
            squared = (difference**2).sum(dim=-1) * weight[i0:i1]
            cells = avg_pool3d(squared[None, None], self.cell, ceil_mode=True, count_include_pad=False)
            costs.append(avg_pool3d(pad(cells, border, mode="replicate"), window, stride=1)[0, 0])
        return torch.stack(costs, dim=-1)


def _single(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _rows_of_vectors(*shape: int) -> np.ndarray:
    """A float32 array of which a whole vector may be read from any number on; its rows may be longer than asked."""
    # At distances of a power of two, all rows would crowd into one part of the cache.
    shape = (*shape[:-1], shape[-1] + (16 if shape[-1] % 64 == 0 else 0))
    size = math.prod(shape)
    return np.empty(size + 16, np.float32)[:size].reshape(shape)
