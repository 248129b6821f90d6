"""``deeds``: dense displacement sampling, made smooth by exact inference on a minimum spanning tree.

Heinrich et al., TMI 2013 (tree) and MICCAI 2013 (descriptor); the published program deedsBCV. Per level:

1. Every cell of the fixed image is compared with the moving image, warped by what is known so far, at every
   displacement of a window, by the bits in which quantised descriptors differ.
2. Belief propagation on the minimum spanning tree of the cells finds the displacements of least cost and roughness.
3. The same in the other direction, and both fields are made inverse to each other.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.methods.base import Outcome, Pair, Run
from anamorph.methods.deeds.dense_search import SEARCHED, DeedsFrame, search
from anamorph.methods.deeds.levels import DeedsConfig
from anamorph.methods.deeds.published import published_frame
from anamorph.methods.linear_start import linear_start_bytes
from anamorph.methods.presets import GUIDES, with_own
from anamorph.methods.recipe import Recipe
from anamorph.methods.started import Array, Started
from anamorph.methods.uncertainty import evidence_bytes
from anamorph.runtime.device import to_device
from anamorph.transforms.maps import Composite, Transform


class Deeds(Recipe):
    """Quantised MIND-SSC, dense displacement search and a tree-structured random field; needs no training."""

    name = "deeds"
    summary = "dense displacement search on a minimum spanning tree, coarse to fine; no training"
    Config = DeedsConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(GUIDES)
    config: DeedsConfig
    refined_from = SEARCHED

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        if not self.config.compatible:
            return super().__call__(pair, run)
        with run.stage("initialise", 0.0):
            frame = published_frame(self.config, pair, run)
        return run.outcome(*_as_found(frame, *search(self.config, frame, run)))

    def find_field(self, started: Started, run: Run) -> tuple[Array, Grid]:
        levels = self.config.levels(started.pyramid.working)
        frame = DeedsFrame(*started.sides, started.moving, started.start, levels)
        forward, _, control = search(self.config, frame, run, started.known)
        return to_device(frame.displacement(forward, control).disp_vox, run.device), control

    def led_bytes(self, fixed: Grid, moving: Grid) -> int:
        pyramid = self.config.pyramid(fixed)
        voxels, described = int(np.prod(pyramid.working.shape)), int(np.prod(pyramid.base.shape))
        levels = self.config.levels(pyramid.working)
        costs = max(int(np.prod(level.cells) * np.prod(level.labels)) * 4 for level in levels)
        # Both scans on the working grid and one warped, their weights, three codes, the costs of one direction;
        # later two descriptors of 16 lanes, both pooled once, and the fields of the optimiser; or, for the uncertainty,
        # one of them warped, two of them planar, and costs.
        after = max(4 * described * (3 * 16 + 8 * 3), 4 * described * (5 * 16 + 2 * 3) + evidence_bytes(pyramid))
        search = 40 * voxels + max(24 * voxels + costs, after)
        seen = self.config.seen_bytes(pyramid.base, fixed, moving)
        return seen + max(search, linear_start_bytes(fixed, moving, self.config.init))

    def one_core_seconds(self, fixed: Grid, moving: Grid) -> float | None:
        return None if self.config.compatible else super().one_core_seconds(fixed, moving)


def _as_found(
    frame: DeedsFrame, forward: np.ndarray, backward: np.ndarray, control: Grid
) -> tuple[Transform, Transform]:
    """Both fields of the search, as the published program writes them."""
    onward = Composite.of(frame.forward(forward, control), frame.placed)
    back = Composite.of(frame.placed.inverse(), frame.start.inverse(), frame.displacement(backward, control))
    return onward, back
