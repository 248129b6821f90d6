"""The settings of ``deeds``."""

from __future__ import annotations

from dataclasses import dataclass

from anamorph.geometry import Grid
from anamorph.methods.base import setting
from anamorph.methods.deeds_levels import DeedsLevel
from anamorph.methods.guide import NONE
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import RefinementConfig

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
        if self.compatible and self.guide != NONE:
            raise ValueError("compatible follows the published program, which knows no guide; leave one of them out")
        if self.alpha <= 0:
            raise ValueError("alpha must be positive")

    def pyramid(self, fixed: Grid) -> Pyramid:
        """The grids on which the scans are compared: the search works on the finest, the refinement on the others."""
        return Pyramid.plan(fixed, self.working_spacing_mm, self.descriptor_spacing_mm, WORKING_VOXELS)

    def levels(self, working: Grid) -> tuple[DeedsLevel, ...]:
        """The levels of the search, coarse to fine."""
        plan = DeedsLevel.published if self.compatible else DeedsLevel.centred
        lists = zip(self.grid_spacing, self.search_radius, self.quantisation, strict=True)
        return tuple(plan(working, *numbers) for numbers in lists)
