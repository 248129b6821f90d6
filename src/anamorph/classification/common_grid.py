"""One frame for the scans of all patients: the same box, of the same cells, along the axes of the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Labels


@dataclass(frozen=True)
class CommonGrid:
    """A box of cells that is laid over every fixed scan.

    Args:
        shape: ``(I, J, K)`` cells along right, anterior and superior.
        spacing_mm: of the cells, the same along all axes.
        by_labels: it is centred on the labels of each scan, not on the middle of its field of view.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    by_labels: bool

    def points_on(self, grid: Grid, labels: Labels | None) -> np.ndarray:
        """``(I * J * K, 3)`` RAS mm: where the cells lie over a fixed scan.

        A cell outside the field of view is moved to its border: it repeats what is there, and the features do not tell
        how far the scan reached.
        """
        steps = np.indices(self.shape).reshape(3, -1).T - (np.array(self.shape) - 1) / 2
        centre = grid.centre_mm
        if self.by_labels and labels is not None:
            centre = grid.voxel_to_world(np.argwhere(labels.data[0]).mean(axis=0))
        inside = np.clip(grid.world_to_voxel(centre + steps * self.spacing_mm), 0, np.array(grid.shape) - 1)
        return grid.voxel_to_world(inside)


def common_grid(grids: Sequence[Grid], cells: int, box_mm: float | None, by_labels: bool) -> CommonGrid:
    """A grid that covers the largest of the fixed scans.

    Args:
        grids: of the fixed scans.
        cells: along the longest side.
        box_mm: no side is longer than this.
        by_labels: whether to centre on the labels.
    """
    sides = np.max([np.ptp(grid.corners_mm(), axis=0) for grid in grids], axis=0)
    sides = sides if box_mm is None else np.minimum(sides, box_mm)
    spacing = float(sides.max() / cells)
    i, j, k = (int(n) for n in np.maximum(np.round(sides / spacing), 1))
    return CommonGrid((i, j, k), spacing, by_labels)
