"""``convex``: discrete search by coupled convex optimisation, then symmetric refinement of a velocity field.

1. A linear start, after which both scans are described on one grid, that of the scan that leads.
2. The discrete search, coarse to fine, in both directions at once: for every cell the cost of every displacement in a
   window, a smooth field through them by coupled convex optimisation, and both directions made inverse to each other
   (ConvexAdam: Siebert et al., IEEE TMI 2025).
3. The logarithm of that field, refined by Adam on both data terms at once; its exponential is one direction, the
   inverse of that the other.
"""

from __future__ import annotations

from typing import Any, ClassVar

from anamorph.geometry.grid import Grid
from anamorph.methods.base import Run
from anamorph.methods.discrete_search import SearchConfig, search
from anamorph.methods.linear_start import linear_start_bytes
from anamorph.methods.presets import GUIDES, with_own
from anamorph.methods.recipe import Recipe
from anamorph.methods.started import Array, Started
from anamorph.methods.uncertainty import evidence_bytes


class Convex(Recipe):
    """MIND-SSC, coupled convex search and symmetric velocity refinement; needs no training."""

    name = "convex"
    summary = "discrete search by coupled convex optimisation, then symmetric refinement; no training (default)"
    Config = SearchConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(
        GUIDES, {"small-mr": {"search_scales": (2, 1), "search_cells": (2, 2), "search_radius_mm": (0.0, 0.0)}}
    )
    fields_at_voxels = False
    config: SearchConfig

    def find_field(self, started: Started, run: Run) -> tuple[Array, Grid]:
        with run.stage("describe", 0.2):
            described = started.described
        with run.stage("search", 0.35):
            held = self.config.held_bytes(started.pyramid, started.fixed.grid, started.moving.grid)
            tell = run.within("search", 0.35, self.refined_from)
            return search(described, started.pyramid, self.config, held, started.known, tell)

    def led_bytes(self, fixed: Grid, moving: Grid) -> int:
        pyramid = self.config.pyramid(fixed)
        held = self.config.held_bytes(pyramid, fixed, moving)
        costs = max(self.config.costs_bytes(pyramid, held), evidence_bytes(pyramid))
        return max(held + costs, linear_start_bytes(fixed, moving, self.config.init))
