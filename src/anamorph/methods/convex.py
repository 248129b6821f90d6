"""``convex``: discrete search by coupled convex optimisation, then symmetric refinement of a velocity field.

1. A linear start (:mod:`anamorph.methods.linear_start`), after which both scans are described on one grid, that of the
   scan that leads.
2. The discrete search (:mod:`anamorph.methods.search`).
3. The logarithm of that field, refined by Adam on both data terms at once; its exponential is one direction, the
   inverse of that the other.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from anamorph.features.intensity import IntensityKind, comparable_intensities
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.guide import Guide
from anamorph.methods.linear_start import comparable_after, leads, linear_start
from anamorph.methods.presets import with_own
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import both_directions, refine
from anamorph.methods.search import SearchConfig, search
from anamorph.methods.stages import Stages
from anamorph.methods.working_frame import Scan, Side
from anamorph.methods.worth import LEAST_EXPLAINED, NOT_DEFORMED, noise_followed
from anamorph.runtime.device import resolve_device
from anamorph.transforms import Transform


class Convex(Method):
    """MIND-SSC, coupled convex search and symmetric velocity refinement; needs no training."""

    name = "convex"
    summary = "discrete search by coupled convex optimisation, then symmetric refinement; no training (default)"
    Config = SearchConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(
        {"small-mr": {"search_scales": (2, 1), "search_cells": (2, 2), "search_radius_mm": (0.0, 0.0)}}
    )
    config: SearchConfig

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
        run = _Run(self.config, resolve_device(device), progress)
        with run.stages.timed("initialise"):
            scans = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
        if leads(*scans):
            return run.register((fixed, moving), scans, init)
        return run.register((moving, fixed), scans[::-1], None if init is None else init.inverse()).exchanged()

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        # Channels and weights. Either scan may lead.
        scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        return scans + max(self._led_by(fixed, moving), self._led_by(moving, fixed))

    def _led_by(self, first: Grid, second: Grid) -> int:
        pyramid = self.config.pyramid(first)
        held = self.config.held_bytes(pyramid, first, second)
        return max(held + self.config.costs_bytes(pyramid, held), self.config.start_bytes(first, second))


class _Run:
    """One registration: its settings, where it computes, and what it has measured so far."""

    def __init__(self, config: SearchConfig, device: Literal["cpu", "cuda"], progress: Progress | None) -> None:
        self.config = config
        self.device = device
        self.stages = Stages(progress)
        self.trace: dict[str, list[float]] = {}
        self.provenance: dict[str, Any] = {}
        self.warnings: list[str] = []

    def register(self, images: tuple[Image, Image], scans: tuple[Scan, Scan], init: Transform | None) -> Result:
        """Register the second scan to the first, in whose frame the fields are."""
        fixed, moving = scans
        with self.stages.stage("initialise", 0.0):
            start, kind, explained = self._start(fixed, moving, init)
            guide = Guide.of(self.config.guide, *images, self.device)
        judged = None if guide else explained
        self.provenance["intensities"] = kind
        if judged is not None and judged < LEAST_EXPLAINED:
            self.warnings.append(NOT_DEFORMED)
            return self._result(start, start.inverse())
        with self.stages.stage("describe", 0.2):
            pyramid = self.config.pyramid(fixed.grid)
            pair = self._describe(fixed, moving, start, kind, pyramid)
            pair = pair.guided(guide, self.config.guide_weight, pyramid, start)
        with self.stages.stage("search", 0.35):
            held = self.config.held_bytes(pyramid, fixed.grid, moving.grid)
            forward, grid = search(pair, pyramid, self.config, held)
        with self.stages.stage("refine", 0.6):
            deformation, trace = refine(pair, pyramid, self.config, forward, grid, self._tell_refined)
            self.trace |= trace
        with self.stages.stage("finish", 0.98):
            noise = judged and noise_followed(pair, pyramid.base, deformation, judged, kind)
            if noise:
                self.provenance["start"].append(noise)
                return self._result(start, start.inverse())
            both = both_directions(deformation, start, pyramid.base)
        if guide is not None:
            self.provenance["guide"] = guide.model
        return self._result(*both)

    def _result(self, there: Transform, back: Transform) -> Result:
        return Result(there, back, self.stages.seconds, self.trace, self.warnings, self.provenance)

    def _start(
        self, fixed: Scan, moving: Scan, init: Transform | None
    ) -> tuple[Transform, IntensityKind, float | None]:
        """The transform to the moving scan, how intensities compare after it, and how much it explains.

        A start that was not looked for is not judged: None.
        """
        if init is not None:
            kind = comparable_intensities(fixed.image, moving.image)
            return init, comparable_after(fixed, moving, init, kind), None
        found, kind = linear_start(fixed, moving, self.config.init, self.config.intensity_weight)
        self.trace["initialise"] = found.costs
        self.provenance["start"] = found.steps
        self.warnings += found.warnings
        return found.transform, kind, found.explained

    def _describe(
        self, fixed: Scan, moving: Scan, start: Transform, kind: IntensityKind, pyramid: Pyramid
    ) -> DescribedPair:
        scans = fixed.onto(pyramid.working), moving.onto(pyramid.working, start)
        here, there = (Side.of(scan, kind == "ct", self.config.air_weight) for scan in scans)
        return DescribedPair.of(here, there, self.config.descriptor(), kind, pyramid, self.device)

    def _tell_refined(self, fraction: float) -> None:
        self.stages.progress("refine", 0.6 + 0.38 * fraction)
