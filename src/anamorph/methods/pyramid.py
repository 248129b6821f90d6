"""The resolutions of a coarse-to-fine method, near to isotropic whatever the voxels are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.averaging import Cell
from anamorph.geometry.grid import Grid

DESCRIPTOR_VOXELS = 1.0e6
"""The automatic descriptor spacing gives about so many descriptors."""
WORKING_VOXELS = 1.6e7
"""A scan with more voxels is resampled to about so many."""
MOST_LABELS_PER_SIDE = 6
FEW_SLICES = 5
"""Along an axis of so few nothing is searched: neighbours differ too little from noise and are half of the scan."""
THICK = 2.0
"""An axis this many times coarser than the finest is left alone by smoothing: neighbours there are far away."""


@dataclass(frozen=True)
class Level:
    """One resolution: ``cell`` voxels of the base grid make one voxel here; ``searched`` are axes of enough slices."""

    grid: Grid
    cell: Cell
    searched: tuple[bool, bool, bool] = (True, True, True)

    def ratio_to(self, coarser: Level) -> Cell:
        """Voxels of this level per voxel of a coarser one."""
        return tuple(c // f for c, f in zip(coarser.cell, self.cell, strict=True))  # type: ignore[return-value]

    def cells(self, size: int) -> Cell:
        """A cell of ``size`` voxels along the fine axes and about as many millimetres along the others."""
        spacing = self.grid.spacing_mm
        wanted = np.maximum(np.rint(size * self.grid.finest_mm / spacing), 1).astype(int)
        return tuple(int(n) for n in np.minimum(wanted, self.grid.shape))  # type: ignore[return-value]

    def radius(self, radius_mm: float, automatic: int) -> Cell:
        """Labels to each side that reach a distance; 0 mm means ``automatic`` voxels of the finest axis."""
        spacing = self.grid.spacing_mm
        reach = radius_mm if radius_mm > 0 else automatic * self.grid.finest_mm
        labels = np.minimum(np.ceil(reach / spacing - 1e-2), MOST_LABELS_PER_SIDE)
        sides = zip(labels, self.grid.shape, self.searched, strict=True)
        return tuple(int(r) if n > 1 and searched else 0 for r, n, searched in sides)  # type: ignore[return-value]

    @property
    def neighbours(self) -> Cell:
        """1 for axes whose neighbouring voxels are close enough to be smoothed over, else 0."""
        spacing = self.grid.spacing_mm
        return tuple(int(s < THICK * self.grid.finest_mm) for s in spacing)  # type: ignore[return-value]


def spacing_for(grid: Grid, voxels: float) -> float:
    """The equal spacing in mm at which the field of view of a grid has about so many voxels."""
    several = np.array(grid.shape) > 1
    extent = np.array(grid.shape) * grid.spacing_mm
    return float((np.prod(extent[several]) / voxels) ** (1 / max(several.sum(), 1)))


def working_grid(fixed: Grid, spacing_mm: float, most_voxels: float) -> Grid:
    """Where scans are described: the fixed grid, or a coarser one if that is asked for or it has too many voxels."""
    finest = max(spacing_mm, spacing_for(fixed, most_voxels))
    spacing = fixed.spacing_mm
    # Axes already coarser than wanted keep their voxels: interpolated slices hold nothing new.
    return fixed if (spacing >= 0.8 * finest).all() else fixed.resampled(np.maximum(spacing, finest))


@dataclass(frozen=True)
class Pyramid:
    """Where images are described (``working``) and the finest grid of descriptors (``base``, cells of ``pool``)."""

    working: Grid
    base: Grid
    pool: Cell

    @classmethod
    def plan(
        cls, fixed: Grid, working_spacing_mm: float, descriptor_spacing_mm: float, most_voxels: float = WORKING_VOXELS
    ) -> Pyramid:
        """Choose the grids for a fixed image; 0 mm leaves a spacing to the size of the image."""
        working = working_grid(fixed, working_spacing_mm, most_voxels)
        wanted = descriptor_spacing_mm or spacing_for(fixed, DESCRIPTOR_VOXELS)
        pool = tuple(
            int(p) if n > 1 else 1
            for p, n in zip(np.maximum(np.rint(wanted / working.spacing_mm), 1), working.shape, strict=True)
        )
        base = working if max(pool) == 1 else working.pooled(pool)  # type: ignore[arg-type]
        return cls(working, base, pool)  # type: ignore[arg-type]

    @property
    def held_bytes(self) -> int:
        """Memory of volumes at the working spacing; of two descriptors, one warped, two planar; of fields."""
        return 16 * int(np.prod(self.working.shape)) + 4 * int(np.prod(self.base.shape)) * (5 * 16 + 8 * 3)

    def level(self, scale: int) -> Level:
        """The grid ``scale`` (a power of two) times coarser along the fine axes, less along thick ones."""
        spacing = self.base.spacing_mm
        cell = []
        for s, n in zip(spacing, self.base.shape, strict=True):
            factor = 1
            while factor < scale and s * factor * 2 <= 1.5 * scale * self.base.finest_mm and n // (factor * 2) >= 4:
                factor *= 2
            cell.append(factor)
        grid = self.base if max(cell) == 1 else self.base.pooled(tuple(cell))  # type: ignore[arg-type]
        return Level(grid, tuple(cell), tuple(n > FEW_SLICES for n in self.working.shape))  # type: ignore[arg-type]
