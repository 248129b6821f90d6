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
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.guide import Guide
from anamorph.methods.linear_start import comparable_after, leads, linear_start
from anamorph.methods.presets import with_own
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import both_directions, refine
from anamorph.methods.search import SearchConfig, search
from anamorph.methods.working_frame import Scan, Side
from anamorph.methods.worth import LEAST_EXPLAINED, NOT_DEFORMED, noise_followed
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

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        with run.timed("initialise"):
            scans = Scan.prepare(pair.fixed, pair.fixed_mask), Scan.prepare(pair.moving, pair.moving_mask)
        if leads(*scans):
            return self._register(pair, scans, run)
        return self._register(pair.exchanged(), scans[::-1], run).exchanged()

    def _register(self, pair: Pair, scans: tuple[Scan, Scan], run: Run) -> Outcome:
        """Register the second scan to the first, in whose frame the fields are."""
        fixed, moving = scans
        with run.stage("initialise", 0.0):
            start, kind, explained = self._start(fixed, moving, pair.start, run)
            guide = Guide.of(self.config.guide, pair.fixed, pair.moving, run.device)
        judged = None if guide else explained
        run.provenance["intensities"] = kind
        if judged is not None and judged < LEAST_EXPLAINED:
            run.warnings.append(NOT_DEFORMED)
            return run.outcome(start, start.inverse())
        with run.stage("describe", 0.2):
            pyramid = self.config.pyramid(fixed.grid)
            described = self._describe(fixed, moving, start, kind, pyramid, run.device)
            described = described.guided(guide, self.config.guide_weight, pyramid, start)
        with run.stage("search", 0.35):
            held = self.config.held_bytes(pyramid, fixed.grid, moving.grid)
            forward, grid = search(described, pyramid, self.config, held)
        with run.stage("refine", 0.6):
            tell = run.within("refine", 0.6, 0.98)
            deformation, trace = refine(described, pyramid, self.config, forward, grid, tell)
            run.trace |= trace
        with run.stage("finish", 0.98):
            noise = judged and noise_followed(described, pyramid.base, deformation, judged, kind)
            if noise:
                run.provenance["start"].append(noise)
                return run.outcome(start, start.inverse())
            both = both_directions(deformation, start, pyramid.base)
        if guide is not None:
            run.provenance["guide"] = guide.model
        return run.outcome(*both)

    def _start(
        self, fixed: Scan, moving: Scan, init: Transform | None, run: Run
    ) -> tuple[Transform, IntensityKind, float | None]:
        """The transform to the moving scan, how intensities compare after it, and how much it explains.

        A start that was not looked for is not judged: None.
        """
        if init is not None:
            kind = comparable_intensities(fixed.image, moving.image)
            return init, comparable_after(fixed, moving, init, kind), None
        found, kind = linear_start(fixed, moving, self.config.init, self.config.intensity_weight)
        run.trace["initialise"] = found.costs
        run.provenance["start"] = found.steps
        run.warnings += found.warnings
        return found.transform, kind, found.explained

    def _describe(
        self,
        fixed: Scan,
        moving: Scan,
        start: Transform,
        kind: IntensityKind,
        pyramid: Pyramid,
        device: Literal["cpu", "cuda"],
    ) -> DescribedPair:
        scans = fixed.onto(pyramid.working), moving.onto(pyramid.working, start)
        here, there = (Side.of(scan, kind == "ct", self.config.air_weight) for scan in scans)
        return DescribedPair.of(here, there, self.config.descriptor(), kind, pyramid, device)

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        # Channels and weights. Either scan may lead.
        scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        return scans + max(self._led_by(fixed, moving), self._led_by(moving, fixed))

    def _led_by(self, first: Grid, second: Grid) -> int:
        pyramid = self.config.pyramid(first)
        held = self.config.held_bytes(pyramid, first, second)
        return max(held + self.config.costs_bytes(pyramid, held), self.config.start_bytes(first, second))
