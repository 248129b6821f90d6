"""The levels of deeds: cells, search windows and steps, from the published lists of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.averaging import Cell
from anamorph.methods.pyramid import FEW_SLICES
from anamorph.transforms.files.deeds import control_grid


@dataclass(frozen=True)
class DeedsLevel:
    """One level of the search on a working grid.

    ``spacing`` and ``quantisation`` are the published numbers, in voxels of the finest axis; everything else is per
    axis, in voxels of the working grid (``cell``, ``step``, ``stride``, ``mind_step``) or in labels (``radius``).
    ``unit_vox`` is the length of one quantisation along each axis: distances between labels are counted in it.
    """

    spacing: int
    quantisation: int
    cell: Cell
    radius: Cell
    step: Cell
    stride: Cell
    mind_step: Cell
    unit_vox: np.ndarray
    control: Grid

    @property
    def cells(self) -> Cell:
        """Cells of the control grid per axis."""
        return self.control.shape

    @property
    def labels(self) -> Cell:
        """Labels per axis."""
        i, j, k = (2 * r + 1 for r in self.radius)
        return i, j, k

    @classmethod
    def centred(cls, working: Grid, spacing: int, radius: int, quantisation: int) -> DeedsLevel:
        """Cells of about equal size in mm over the whole image, their control points in their centres.

        Along an axis of coarser voxels there are fewer voxels in a cell and in a step.
        """
        coarser = working.spacing_mm / working.finest_mm
        several = np.array(working.shape) > 1
        cell = np.where(several, np.clip(np.rint(spacing / coarser), 1, working.shape), 1)
        step = np.where(several, np.maximum(np.rint(quantisation / coarser), 1), 1)
        reach = np.clip(np.rint(radius * quantisation / (coarser * step)), 1, radius)
        mind_step = np.where(several, np.maximum(np.rint(_mind_step(quantisation) / coarser), 1), 0)
        return cls(
            spacing,
            quantisation,
            _triple(cell),
            _triple(np.where(np.array(working.shape) > FEW_SLICES, reach, 0)),
            _triple(step),
            _triple(np.where((spacing > 4) & (cell > 2), 2, 1)),
            _triple(mind_step),
            quantisation / coarser,
            working.pooled(_triple(cell)),
        )

    @classmethod
    def published(cls, working: Grid, spacing: int, radius: int, quantisation: int) -> DeedsLevel:
        """As published: as many voxels along all axes, what is left over ignored, the corner rule."""
        cell = np.minimum(spacing, working.shape)
        stride = 1 if spacing <= 4 else 2
        return cls(
            spacing,
            quantisation,
            _triple(cell),
            _triple(np.where(np.array(working.shape) > 1, radius, 0)),
            (quantisation,) * 3,
            (1, stride, stride),
            _triple(np.where(np.array(working.shape) > 1, _mind_step(quantisation), 0)),
            np.full(3, float(quantisation)),
            control_grid(working, _triple(np.array(working.shape) // cell)),
        )


def _mind_step(quantisation: int) -> int:
    return quantisation // 2 + 1


def _triple(values: np.ndarray) -> Cell:
    i, j, k = (int(v) for v in values)
    return i, j, k
