"""``convex``: discrete search by coupled convex optimisation, then symmetric refinement of a velocity field.

1. A linear start (:mod:`anamorph.methods.initialise`), after which both scans are described on one grid, the fixed one.
2. Coarse to fine: for every cell the cost of every displacement in a window, a smooth field through them by coupled
   convex optimisation, in both directions, made inverse to each other.
3. The logarithm of that field, refined by Adam on both data terms at once; its exponential is one direction, the
   inverse of that the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from anamorph.discrete.cost_volume import CostVolume
from anamorph.discrete.coupled_convex import coupled_convex
from anamorph.features.descriptor import DescriptorSettings, describe
from anamorph.features.intensity import IntensityKind, comparable_intensities
from anamorph.geometry import Grid
from anamorph.geometry.pooling import Cell, pool_descriptor, pool_volume
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result, setting
from anamorph.methods.convex_presets import PRESETS
from anamorph.methods.device import resolve_device
from anamorph.methods.initialise import InitModel
from anamorph.methods.linear_start import INTENSITY_WEIGHT, comparable_after, linear_start
from anamorph.methods.pyramid import Level, Pyramid
from anamorph.methods.stages import Stages
from anamorph.methods.working_frame import Scan, body_weight
from anamorph.optimise.velocity import VelocitySettings, optimise_velocity
from anamorph.transforms import Composite, Displacement, Transform, invert
from anamorph.transforms.fields import (
    compose,
    exponential,
    inverse_consistent,
    logarithm,
    upsample,
    warp_descriptor,
)

Array = Any
"""A NumPy array on the CPU, a torch tensor on another device: every operation below takes either."""

AUTOMATIC_REACH = (2, 3, 5)
"""Voxels searched to each side by the finest level, the one before it and all coarser ones."""


@dataclass(frozen=True)
class ConvexConfig:
    """Settings of ``convex``. Distances are in mm, so they hold for any voxel size."""

    init: InitModel = setting("affine", "linear start: none trusts the files' world coordinates")
    intensity_weight: float = setting(
        INTENSITY_WEIGHT, "weight of squared intensity differences beside MIND-SSC; 0 for none"
    )
    mind_radius: int = setting(1, "patch radius of MIND-SSC", "working voxels")
    mind_dilation: int = setting(2, "distance of the neighbours MIND-SSC compares", "working voxels")
    working_spacing_mm: float = setting(0.0, "spacing at which descriptors are computed; 0: the fixed scan's own", "mm")
    descriptor_spacing_mm: float = setting(0.0, "finest spacing at which descriptors are compared; 0: automatic", "mm")
    search_scales: tuple[int, ...] = setting((4, 2, 1), "levels of the discrete search, in descriptor spacings")
    search_cells: tuple[int, ...] = setting((2, 2, 2), "cell size per level", "descriptor voxels of the level")
    search_radius_mm: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0), "reach per level; 0: 5, 3 and 2 voxels of the coarsest, middle and finest level", "mm"
    )
    refine_scales: tuple[int, ...] = setting((2, 1), "levels of the refinement, in descriptor spacings")
    refine_iterations: tuple[int, ...] = setting((20, 20), "iterations per level; 0 leaves the discrete result")
    control_cell: int = setting(2, "control grid of the velocity field", "descriptor voxels")
    diffusion: float = setting(0.2, "weight of the smoothness of the velocity field: larger is stiffer")
    rate: float = setting(0.5, "largest step of an iteration", "descriptor voxels")
    air_weight: float = setting(0.0, "weight of CT air far from the body, 0 to 1")
    max_memory_mb: int = setting(
        1500, "bound on the memory of a run; cost volumes are computed in chunks below it", "MB"
    )

    def __post_init__(self) -> None:
        levels = {len(self.search_scales), len(self.search_cells), len(self.search_radius_mm)}
        if len(levels) != 1:
            raise ValueError("search_scales, search_cells and search_radius_mm need one value per level each")
        if len(self.refine_scales) != len(self.refine_iterations):
            raise ValueError("refine_scales and refine_iterations need one value per level each")
        if not self.search_scales or not self.refine_scales:
            raise ValueError("search and refinement need at least one level; 0 iterations switch the refinement off")
        for scales in (self.search_scales, self.refine_scales):
            if any(s < 1 or s & (s - 1) for s in scales) or list(scales) != sorted(scales, reverse=True):
                raise ValueError("scales must be powers of two, coarsest first")
        if (
            min(self.search_cells, default=1) < 1
            or self.control_cell < 1
            or self.mind_radius < 0
            or self.mind_dilation < 1
        ):
            raise ValueError("cell sizes and mind_dilation must be at least 1, mind_radius at least 0")
        if not 0 <= self.air_weight <= 1:
            raise ValueError("air_weight must be between 0 and 1")
        if min(self.intensity_weight, self.diffusion, *self.search_radius_mm, *self.refine_iterations) < 0:
            raise ValueError("weights, radii and iterations must not be negative")


class Convex(Method):
    """MIND-SSC, coupled convex search and symmetric velocity refinement; needs no training."""

    name = "convex"
    summary = "discrete search by coupled convex optimisation, then symmetric refinement; no training (default)"
    Config = ConvexConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
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
        pyramid = Pyramid.plan(fixed, self.config.working_spacing_mm, self.config.descriptor_spacing_mm)
        held = _held_bytes(pyramid)
        costs = 0
        for level, cells, radius in _search_levels(self.config, pyramid):
            count = np.prod([-(-n // c) for n, c in zip(level.grid.shape, cells, strict=True)])
            costs = max(costs, int(count * np.prod([2 * r + 1 for r in radius]) * 4))
        scans = 4 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        return scans + held + min(costs, _cost_budget(self.config, held))


def _held_bytes(pyramid: Pyramid) -> int:
    """Memory beside the costs: volumes at the working spacing; two descriptors, one warped, two planar; fields."""
    return 16 * int(np.prod(pyramid.working.shape)) + 4 * int(np.prod(pyramid.base.shape)) * (5 * 16 + 8 * 3)


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
            pyramid = Pyramid.plan(fixed.grid, self.config.working_spacing_mm, self.config.descriptor_spacing_mm)
            pair = self._describe(fixed_scan, moving_scan, start, kind, pyramid)
        with self.stages.stage("search", 0.35):
            forward, grid = self._search(pair, pyramid)
        with self.stages.stage("refine", 0.6):
            deformation = self._refine(pair, pyramid, forward, grid)
        with self.stages.stage("finish", 0.98):
            # exp(-v) is the inverse too, but between the points of the control grid this one is closer.
            opposite = invert(deformation, pyramid.base).transform
            fixed_to_moving = Composite.of(deformation, start)
            moving_to_fixed = Composite.of(start.inverse(), opposite)
        self.provenance["intensities"] = kind
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

    def _describe(self, fixed: Scan, moving: Scan, start: Transform, kind: IntensityKind, pyramid: Pyramid) -> _Pair:
        settings = DescriptorSettings(self.config.mind_radius, self.config.mind_dilation, self.config.intensity_weight)
        sides = []
        for scan, transform in ((fixed, None), (moving, start)):
            read = scan.onto(pyramid.working, transform)
            weight = body_weight(read, kind == "ct", 10.0, self.config.air_weight)
            inside = pool_volume(read.weight[None], pyramid.pool)[0]
            descriptor = describe(read.channels, settings, kind, pyramid.pool)
            sides.append((_without_missing(descriptor, inside), pool_volume(weight[None], pyramid.pool)[0]))
        return _Pair(*(self._to_device(a) for side in sides for a in side))

    def _search(self, pair: _Pair, pyramid: Pyramid) -> tuple[Array, Grid]:
        forward: Array = None
        backward: Array = None
        levels = _search_levels(self.config, pyramid)
        budget = _cost_budget(self.config, _held_bytes(pyramid))
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

    def _refine(self, pair: _Pair, pyramid: Pyramid, forward: Array, grid: Grid) -> Displacement:
        velocity: Array = None
        current = grid
        done, planned = 0, max(sum(self.config.refine_iterations), 1)
        for scale, iterations in zip(self.config.refine_scales, self.config.refine_iterations, strict=True):
            level = pyramid.level(scale)
            control = level.cells(self.config.control_cell)
            control_grid = level.grid.pooled(control)
            if velocity is None:
                velocity = logarithm(self._moved(forward, current, control_grid), level.neighbours)
            else:
                velocity = self._moved(velocity, current, control_grid)
            current = control_grid
            at = pair.pooled(level.cell)
            velocity, trace = optimise_velocity(
                at.fixed, at.fixed_weight, at.moving, at.moving_weight, velocity, control, control_grid.spacing_mm,
                level.neighbours,
                VelocitySettings(iterations, self.config.rate, self.config.diffusion, 1),
                partial(self._tell_refined, done / planned, iterations / planned),
            )  # fmt: skip
            done += iterations
            self.trace[f"refine at {level.grid.finest_mm:.3g} mm"] = trace
        return Displacement(_to_numpy(exponential(velocity)), current)

    def _tell_refined(self, before: float, share: float, fraction: float) -> None:
        self.stages.progress("refine", 0.6 + 0.38 * (before + share * fraction))

    def _moved(self, field: Array, source: Grid, target: Grid) -> Array:
        """A field brought to another grid of the same frame."""
        if source == target:
            return field
        return self._to_device(Displacement(_to_numpy(field), source).displacement_on(target).disp_vox)

    def _to_device(self, array: np.ndarray) -> Array:
        if self.device == "cpu":
            return np.ascontiguousarray(array, np.float32)
        import torch

        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)


@dataclass(frozen=True)
class _Pair:
    """Both descriptors and weights on one grid."""

    fixed: Array
    fixed_weight: Array
    moving: Array
    moving_weight: Array

    def pooled(self, cell: Cell) -> _Pair:
        if max(cell) == 1:
            return self
        weights = (pool_volume(w[None], cell)[0] for w in (self.fixed_weight, self.moving_weight))
        fixed_weight, moving_weight = weights
        return _Pair(pool_descriptor(self.fixed, cell), fixed_weight, pool_descriptor(self.moving, cell), moving_weight)


def _without_missing(descriptor: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The descriptor faded to its mean where the scan has no data, which matches nothing well and pulls nothing."""
    if (inside >= 1).all() or not (inside > 0.5).any():
        return descriptor
    mean = descriptor[inside > 0.5].mean(axis=0)
    return (descriptor - mean) * inside[..., None] + mean


def _to_numpy(array: Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
