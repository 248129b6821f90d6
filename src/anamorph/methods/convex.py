"""``convex``: discrete search by coupled convex optimisation, then symmetric refinement of a velocity field.

1. A linear start (:mod:`anamorph.methods.initialise`), after which both scans are described on one grid, the fixed one.
2. Coarse to fine: for every cell the cost of every displacement in a window, a smooth field through them by coupled
   convex optimisation, in both directions, made inverse to each other.
3. The logarithm of that field, refined by Adam on both data terms at once; its exponential is one direction, the
   inverse of that the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from anamorph.discrete.cost_volume import CostVolume
from anamorph.discrete.coupled_convex import coupled_convex
from anamorph.features.intensity import IntensityKind, comparable_intensities
from anamorph.geometry import Grid
from anamorph.geometry.pooling import Cell
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result, setting
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.device import resolve_device
from anamorph.methods.guide import Guide, guide_bytes
from anamorph.methods.linear_start import comparable_after, linear_start
from anamorph.methods.presets import with_own
from anamorph.methods.pyramid import Level, Pyramid
from anamorph.methods.refinement import RefinementConfig, both_directions, check_scales, refine
from anamorph.methods.stages import Stages
from anamorph.methods.working_frame import Scan, Side
from anamorph.transforms import Transform
from anamorph.transforms.fields import (
    compose,
    inverse_consistent,
    upsample,
    warp_descriptor,
)

Array = Any
"""A NumPy array on the CPU, a torch tensor on another device: every operation below takes either."""

AUTOMATIC_REACH = (2, 3, 5)
"""Voxels searched to each side by the finest level, the one before it and all coarser ones."""


@dataclass(frozen=True)
class ConvexConfig(RefinementConfig):
    """Settings of ``convex``. Distances are in mm, so they hold for any voxel size."""

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


class Convex(Method):
    """MIND-SSC, coupled convex search and symmetric velocity refinement; needs no training."""

    name = "convex"
    summary = "discrete search by coupled convex optimisation, then symmetric refinement; no training (default)"
    Config = ConvexConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(
        {"small-mr": {"search_scales": (2, 1), "search_cells": (2, 2), "search_radius_mm": (0.0, 0.0)}}
    )
    config: ConvexConfig

    def __call__(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Mask | None = None,
        moving_mask: Mask | None = None,
        init: Transform | None = None,
        device: Device = "auto",
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Result:
        return _Run(self.config, resolve_device(device), progress).register(
            fixed, moving, fixed_mask, moving_mask, init
        )

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        pyramid = self.config.pyramid(fixed)
        held = _held(self.config, pyramid, fixed, moving)
        costs = 0
        for level, cells, radius in _search_levels(self.config, pyramid):
            count = np.prod([-(-n // c) for n, c in zip(level.grid.shape, cells, strict=True)])
            costs = max(costs, int(count * np.prod([2 * r + 1 for r in radius]) * 4))
        scans = 4 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        return scans + held + min(costs, _cost_budget(self.config, held))


def _held(config: ConvexConfig, pyramid: Pyramid, fixed: Grid, moving: Grid) -> int:
    """Memory of descriptors and fields, and of a guide, in bytes."""
    return pyramid.held_bytes + guide_bytes(config.guide, fixed, moving, pyramid.base)


def _cost_budget(config: ConvexConfig, held: int) -> int:
    """What is left for costs, but enough for a few rows of cells however little is allowed."""
    return max(config.max_memory_mb * 2**20 - held, 64 * 2**20)


def _search_levels(config: ConvexConfig, pyramid: Pyramid) -> list[tuple[Level, Cell, Cell]]:
    """The levels of the discrete search, coarsest first, each with its cell and its window in voxels."""
    reach = [AUTOMATIC_REACH[min(finer, 2)] for finer in reversed(range(len(config.search_scales)))]
    settings = zip(config.search_scales, config.search_cells, config.search_radius_mm, reach, strict=True)
    levels = []
    for scale, cell, radius_mm, automatic in settings:
        level = pyramid.level(scale)
        levels.append((level, level.cells(cell), level.radius(radius_mm, automatic)))
    return levels


class _Run:
    """One registration: its settings, where it computes, and what it has measured so far."""

    def __init__(self, config: ConvexConfig, device: Literal["cpu", "cuda"], progress: Progress | None) -> None:
        self.config = config
        self.device = device
        self.stages = Stages(progress)
        self.trace: dict[str, list[float]] = {}
        self.provenance: dict[str, Any] = {}

    def register(
        self, fixed: Image, moving: Image, fixed_mask: Mask | None, moving_mask: Mask | None, init: Transform | None
    ) -> Result:
        with self.stages.stage("initialise", 0.0):
            fixed_scan, moving_scan = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
            start, kind = self._start(fixed_scan, moving_scan, init)
        with self.stages.stage("describe", 0.2):
            pyramid = self.config.pyramid(fixed.grid)
            pair = self._describe(fixed_scan, moving_scan, start, kind, pyramid)
            guide = Guide.of(self.config.guide, fixed, moving, self.device)
            pair = pair.guided(guide, self.config.guide_weight, pyramid, start)
        with self.stages.stage("search", 0.35):
            budget = _cost_budget(self.config, _held(self.config, pyramid, fixed.grid, moving.grid))
            forward, grid = self._search(pair, pyramid, budget)
        with self.stages.stage("refine", 0.6):
            deformation, trace = refine(pair, pyramid, self.config, forward, grid, self._tell_refined)
            self.trace |= trace
        with self.stages.stage("finish", 0.98):
            fixed_to_moving, moving_to_fixed = both_directions(deformation, start, pyramid.base)
        self.provenance["intensities"] = kind
        if guide is not None:
            self.provenance["guide"] = guide.model
        return Result(fixed_to_moving, moving_to_fixed, self.stages.seconds, self.trace, provenance=self.provenance)

    def _start(self, fixed: Scan, moving: Scan, init: Transform | None) -> tuple[Transform, IntensityKind]:
        """The transform that brings the moving scan to the fixed frame, and how intensities compare after it."""
        if init is not None:
            kind = comparable_intensities(fixed.image, moving.image)
            return init, comparable_after(fixed, moving, init, kind)
        found, kind = linear_start(fixed, moving, self.config.init, self.config.intensity_weight)
        self.trace["initialise"] = found.costs
        self.provenance["start"] = found.steps
        return found.transform, kind

    def _describe(
        self, fixed: Scan, moving: Scan, start: Transform, kind: IntensityKind, pyramid: Pyramid
    ) -> DescribedPair:
        scans = fixed.onto(pyramid.working), moving.onto(pyramid.working, start)
        here, there = (Side.of(scan, kind == "ct", self.config.air_weight) for scan in scans)
        return DescribedPair.of(here, there, self.config.descriptor(), kind, pyramid, self.device)

    def _search(self, pair: DescribedPair, pyramid: Pyramid, budget: int) -> tuple[Array, Grid]:
        forward: Array = None
        backward: Array = None
        levels = _search_levels(self.config, pyramid)
        previous = levels[0][0]
        for level, cells, radius in levels:
            at = pair.pooled(level.cell)
            shape = level.grid.shape
            if forward is None:
                fixed, moving = at.fixed, at.moving
            else:
                ratio = level.ratio_to(previous)
                forward, backward = upsample(forward, ratio, shape), upsample(backward, ratio, shape)
                fixed, moving = warp_descriptor(at.fixed, backward), warp_descriptor(at.moving, forward)
            search = (cells, (1, 1, 1), radius, budget, level.neighbours)
            onward = upsample(coupled_convex(CostVolume(at.fixed, at.fixed_weight, moving, *search)), cells, shape)
            back = upsample(coupled_convex(CostVolume(at.moving, at.moving_weight, fixed, *search)), cells, shape)
            if forward is not None:
                onward, back = compose(onward, forward), compose(back, backward)
            forward, backward = inverse_consistent(onward, back)
            previous = level
        return forward, previous.grid

    def _tell_refined(self, fraction: float) -> None:
        self.stages.progress("refine", 0.6 + 0.38 * fraction)
