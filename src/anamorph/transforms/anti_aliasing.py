"""The one reading of a scan on another grid: averaged first where that grid is coarser, then interpolated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.averaging import Cell, pool_volume
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.transforms.maps import Affine, Transform


@dataclass(frozen=True, eq=False)
class Reading:
    """How a scan is read on a grid.

    Interpolation at single points of a fine scan would keep its noise and alias what is finer than the grid.

    Args:
        cell: voxels of the scan that are averaged along each axis.
        positions: ``(3, I, J, K)``: where the voxels of the grid lie among the averages.
    """

    cell: Cell
    positions: np.ndarray

    @classmethod
    def of(cls, scan: Grid, grid: Grid, transform: Transform | None = None, *, averaged: bool = True) -> Reading:
        """The reading of a scan.

        Args:
            scan: the voxels of the scan.
            grid: where the scan is read.
            transform: from points of the grid to those of the scan; the identity by default.
            averaged: whether to average at all.
        """
        factor = np.maximum(np.floor(grid.finest_mm / scan.spacing_mm + 1e-6), 1) if averaged else np.ones(3)
        i, j, k = (int(f) for f in np.minimum(factor, scan.shape))
        source = scan if max(i, j, k) == 1 else scan.pooled((i, j, k))
        return cls((i, j, k), (transform or Affine.identity()).moving_positions(grid, source))

    def read(self, volume: np.ndarray, fill: float | None = None) -> np.ndarray:
        """Channels ``(C, I, J, K)`` float32 on the grid.

        Args:
            volume: ``(C, I, J, K)`` on the voxels of the scan.
            fill: value outside the scan; the nearest one inside by default.
        """
        return sample(pool_volume(volume, self.cell), self.positions, fill=fill)
