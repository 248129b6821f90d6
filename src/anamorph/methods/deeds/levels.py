"""The settings of deeds, and the levels made of them: cells, search windows and steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.averaging import Cell
from anamorph.geometry.grid import Grid
from anamorph.methods.base import setting
from anamorph.methods.guide import NONE
from anamorph.methods.pyramid import FEW_SLICES, Pyramid
from anamorph.methods.refinement import RefinementConfig
from anamorph.transforms.files.deeds import control_grid

WORKING_VOXELS = 8.0e6
"""A scan with more voxels is resampled to about so many: the search reaches a number of voxels, not of millimetres."""


@dataclass(frozen=True)
class DeedsConfig(RefinementConfig):
    """Settings of ``deeds``; those of the search have the names and defaults of the published program."""

    compatible: bool = setting(False, "follow the published program in everything; nothing is refined then")
    alpha: float = setting(1.6, "smoothness: larger is stiffer")
    grid_spacing: tuple[int, ...] = setting((8, 7, 6, 5, 4), "control grid per level, coarse to fine", "voxels")
    search_radius: tuple[int, ...] = setting((8, 7, 6, 5, 4), "displacements to each side per level")
    quantisation: tuple[int, ...] = setting((5, 4, 3, 2, 1), "step between displacements per level", "voxels")
    linear_grid_spacing: tuple[int, ...] = setting((7, 6, 5, 4), "as above, linear stage of compatible", "voxels")
    linear_search_radius: tuple[int, ...] = setting((5, 4, 3, 2), "as above, linear stage of compatible")
    linear_quantisation: tuple[int, ...] = setting((4, 3, 2, 1), "as above, linear stage of compatible", "voxels")

    def __post_init__(self) -> None:
        super().__post_init__()
        for prefix in ("", "linear_"):
            lists = [getattr(self, prefix + name) for name in ("grid_spacing", "search_radius", "quantisation")]
            if len({len(values) for values in lists}) != 1 or not lists[0]:
                names = ", ".join(prefix + name for name in ("grid_spacing", "search_radius", "quantisation"))
                raise ValueError(f"{names} need one value per level each")
            if min(min(values) for values in lists) < 1:
                raise ValueError("grid spacings, search radii and quantisations must be at least 1")
        if self.compatible and not self.guide.endswith(NONE):
            raise ValueError("compatible follows the published program, which knows no guide; leave one of them out")
        if self.alpha <= 0:
            raise ValueError("alpha must be positive")

    def pyramid(self, fixed: Grid) -> Pyramid:
        """The grids on which the scans are compared: the search works on the finest, the refinement on the others."""
        return Pyramid.plan(fixed, self.working_spacing_mm, self.descriptor_spacing_mm, WORKING_VOXELS)

    def compared(self, pyramid: Pyramid) -> int:
        return sum(int(np.prod(level.cells) * np.prod(level.labels)) for level in self.levels(pyramid.working))

    def levels(self, working: Grid) -> tuple[DeedsLevel, ...]:
        """The levels of the search, coarse to fine."""
        plan = DeedsLevel.published if self.compatible else DeedsLevel.centred
        lists = zip(self.grid_spacing, self.search_radius, self.quantisation, strict=True)
        return tuple(plan(working, *numbers) for numbers in lists)


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
