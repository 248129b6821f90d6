"""The discrete search of ``convex``, coarse to fine and its settings; learned methods look around a field with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from anamorph.discrete.cost_volume import CostVolume
from anamorph.discrete.coupled_convex import coupled_convex
from anamorph.geometry.averaging import Cell
from anamorph.geometry.grid import Grid
from anamorph.methods.base import setting
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.pyramid import Level, Pyramid
from anamorph.methods.refinement import Array, RefinementConfig, check_scales, moved
from anamorph.transforms.fields import compose, exponential, inverse_consistent, logarithm, upsample, warp_descriptor

AUTOMATIC_REACH = (2, 3, 5)
"""Voxels searched to each side by the finest level, the one before it and all coarser ones."""
LEAST_FOR_COSTS = 64 * 2**20
"""Enough for a few rows of cells, and left to the costs however little memory is allowed."""


@dataclass(frozen=True)
class SearchConfig(RefinementConfig):
    """Settings of the search and of the refinement after it. Distances are in mm, so they hold for any voxel size."""

    search_scales: tuple[int, ...] = setting((4, 2, 1), "levels of the discrete search, in descriptor spacings")
    search_cells: tuple[int, ...] = setting((2, 2, 2), "cell size per level", "descriptor voxels of the level")
    search_radius_mm: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0), "reach per level; 0: 5, 3 and 2 voxels of the coarsest, middle and finest level", "mm"
    )
    max_memory_mb: int = setting(
        1500, "bound on the memory of a run; cost volumes are computed in chunks below it", "MB"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = {len(self.search_scales), len(self.search_cells), len(self.search_radius_mm)}
        if len(levels) != 1:
            raise ValueError("search_scales, search_cells and search_radius_mm need one value per level each")
        if not self.search_scales:
            raise ValueError("the search needs at least one level")
        check_scales(self.search_scales)
        if min(self.search_cells) < 1:
            raise ValueError("search_cells must be at least 1")
        if min(self.search_radius_mm) < 0:
            raise ValueError("search_radius_mm must not be negative")

    def within_memory(self, limit_bytes: int) -> Self:
        return dataclasses.replace(self, max_memory_mb=max(limit_bytes // 2**20, 1))

    def held_bytes(self, pyramid: Pyramid, fixed: Grid, moving: Grid) -> int:
        """Memory of descriptors and fields, of a guide and of features."""
        return pyramid.held_bytes + self.seen_bytes(pyramid.base, fixed, moving)

    def costs_bytes(self, pyramid: Pyramid, held_bytes: int) -> int:
        """Memory that the costs take at their largest, beside what the rest of the run holds."""
        return min(4 * max(_compared(self, pyramid)), _budget(self, held_bytes))

    def compared(self, pyramid: Pyramid) -> int:
        return sum(_compared(self, pyramid))


def search(
    pair: DescribedPair,
    pyramid: Pyramid,
    config: SearchConfig,
    held_bytes: int,
    known: tuple[Array, Grid] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Array, Grid]:
    """Find the field from the fixed to the moving scan.

    Args:
        pair: both scans, described.
        pyramid: of their grids.
        config: levels, cells and reach.
        held_bytes: what the rest of the run holds; costs are computed in chunks that fit beside it.
        known: a field ``(3, I, J, K)`` in voxels of a grid of the fixed frame, around which to look; without one, the
            scans are taken to lie upon each other.
        progress: called with the fraction done.

    Returns:
        the field ``(3, I, J, K)`` in voxels of the finest level, and its grid.
    """
    levels = _levels(config, pyramid)
    budget = _budget(config, held_bytes)
    previous = levels[0][0]
    forward: Array = None
    backward: Array = None
    if known is not None:
        velocity = logarithm(moved(*known, previous.grid), previous.neighbours)
        forward, backward = exponential(velocity), exponential(-velocity)
    for number, (level, cells, radius) in enumerate(levels):
        at = pair.pooled(level.cell)
        shape = level.grid.shape
        if forward is None:
            fixed, moving = at.fixed, at.moving
        else:
            ratio = level.ratio_to(previous)
            if max(ratio) > 1:
                forward, backward = upsample(forward, ratio, shape), upsample(backward, ratio, shape)
            fixed, moving = warp_descriptor(at.fixed, backward), warp_descriptor(at.moving, forward)
        window = (cells, (1, 1, 1), radius, budget, level.neighbours)
        onward = upsample(coupled_convex(CostVolume(at.fixed, at.fixed_weight, moving, *window)), cells, shape)
        progress((number + 0.5) / len(levels))
        back = upsample(coupled_convex(CostVolume(at.moving, at.moving_weight, fixed, *window)), cells, shape)
        if forward is not None:
            onward, back = compose(onward, forward), compose(back, backward)
        forward, backward = inverse_consistent(onward, back)
        previous = level
        progress((number + 1) / len(levels))
    return forward, previous.grid


def _budget(config: SearchConfig, held_bytes: int) -> int:
    return max(config.max_memory_mb * 2**20 - held_bytes, LEAST_FOR_COSTS)


def _compared(config: SearchConfig, pyramid: Pyramid) -> list[int]:
    """How many displacements of cells each level compares."""
    counts = []
    for level, cells, radius in _levels(config, pyramid):
        count = np.prod([-(-n // c) for n, c in zip(level.grid.shape, cells, strict=True)])
        counts.append(int(count * np.prod([2 * r + 1 for r in radius])))
    return counts


def _levels(config: SearchConfig, pyramid: Pyramid) -> list[tuple[Level, Cell, Cell]]:
    """The levels of the discrete search, coarsest first, each with its cell and its window in voxels."""
    reach = [AUTOMATIC_REACH[min(finer, 2)] for finer in reversed(range(len(config.search_scales)))]
    settings = zip(config.search_scales, config.search_cells, config.search_radius_mm, reach, strict=True)
    levels = []
    for scale, cell, radius_mm, automatic in settings:
        level = pyramid.level(scale)
        levels.append((level, level.cells(cell), level.radius(radius_mm, automatic)))
    return levels
