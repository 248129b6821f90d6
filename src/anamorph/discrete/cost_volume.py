"""The dense cost volume: how well each cell of the fixed image matches the moving image at each displacement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from anamorph.runtime.threads import over_slabs

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
        if isinstance(self.fixed, np.ndarray):
            from anamorph.discrete import _search_numba

            # Channels beyond the last used one would be compared for nothing.
            used = max((c + 1 for c in range(self.fixed.shape[3]) if self.fixed[..., c].any()), default=1)
            used = -(-used // 4) * 4
            border = self.step[2] * self.radius[2]
            ni, nj, nk, _ = self.fixed.shape
            self._fixed = np.empty((used, ni, nj, nk), np.float32)
            self._moving = np.empty((used, ni, nj, nk + 2 * border), np.float32)
            self._weight = np.ascontiguousarray(self.weight, np.float32)
            over_slabs(_search_numba.planar, ni * nj, self.fixed, used, 0, self._fixed)
            over_slabs(_search_numba.planar, ni * nj, self.moving, used, border, self._moving)

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
        compute = self._rows_numpy if isinstance(self.fixed, np.ndarray) else self._rows_torch
        costs = compute(low, high)
        return costs[first - low : costs.shape[0] - (high - last)]

    def _rows_numpy(self, low: int, high: int) -> np.ndarray:
        from anamorph.discrete import _search_numba

        costs = np.empty((high - low, *self.cells[1:], self.labels), np.float32)
        given = (self._fixed, self._weight, self._moving, self.cell, self.step, self.radius, low)
        over_slabs(_search_numba.cost_volume, costs.shape[0] * costs.shape[1], *given, costs)
        for axis in range(3):
            if self.cells[axis] > 1 and self.neighbours[axis]:
                lines = costs[..., 0].size // costs.shape[axis]
                over_slabs(_search_numba.smooth_cells, lines, costs, axis)
        return costs

    def _rows_torch(self, low: int, high: int) -> torch.Tensor:
        """The readable twin: one shifted difference, one average over cells and one over their neighbours per label."""
        import torch
        from torch.nn.functional import avg_pool3d, pad

        i0, i1 = low * self.cell[0], min(high * self.cell[0], self.fixed.shape[0])
        axes = [torch.arange(n, device=self.fixed.device) for n in self.fixed.shape[:3]]
        border = [n for n in reversed(self.neighbours) for _ in range(2)]
        window = [2 * n + 1 for n in self.neighbours]
        costs = []
        for label in np.ndindex(*(2 * r + 1 for r in self.radius)):
            shift = [(d - r) * s for d, r, s in zip(label, self.radius, self.step, strict=True)]
            i, j, k = ((a + s).clamp(0, len(a) - 1) for a, s in zip(axes, shift, strict=True))
            difference = self.fixed[i0:i1] - self.moving[i[i0:i1]][:, j][:, :, k]
            squared = (difference**2).sum(dim=-1) * self.weight[i0:i1]
            cells = avg_pool3d(squared[None, None], self.cell, ceil_mode=True, count_include_pad=False)
            costs.append(avg_pool3d(pad(cells, border, mode="replicate"), window, stride=1)[0, 0])
        return torch.stack(costs, dim=-1)
