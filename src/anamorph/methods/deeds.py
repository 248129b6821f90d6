"""``deeds``: dense displacement sampling, made smooth by exact inference on a minimum spanning tree.

Heinrich et al., TMI 2013 (tree) and MICCAI 2013 (descriptor); the published program deedsBCV. Per level:

1. Every cell of the fixed image is compared with the moving image, warped by what is known so far, at every
   displacement of a window, by the bits in which quantised descriptors differ.
2. Belief propagation on the minimum spanning tree of the cells finds the displacements of least cost and roughness.
3. The same in the other direction, and both fields are made inverse to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from anamorph.discrete.hamming_cost import hamming_costs
from anamorph.discrete.tree_inference import infer_labels, spanning_tree
from anamorph.features.quantised_mind_ssc import quantised_mind_ssc
from anamorph.geometry import Grid
from anamorph.geometry.averaging import Cell
from anamorph.methods.base import Outcome, Pair, Run
from anamorph.methods.deeds_config import DeedsConfig
from anamorph.methods.deeds_frame import DeedsFrame
from anamorph.methods.deeds_levels import DeedsLevel
from anamorph.methods.deeds_published import published_frame
from anamorph.methods.guide import guide_bytes
from anamorph.methods.presets import SHARED
from anamorph.methods.recipe import Array, Recipe, Started
from anamorph.methods.working_frame import Side
from anamorph.runtime.device import to_device, to_numpy
from anamorph.transforms import Composite, Transform
from anamorph.transforms.fields import inverse_consistent

SEARCHED = 0.75
"""Share of a run that is done after the search."""


class Deeds(Recipe):
    """Quantised MIND-SSC, dense displacement search and a tree-structured random field; needs no training."""

    name = "deeds"
    summary = "dense displacement search on a minimum spanning tree, coarse to fine; no training"
    Config = DeedsConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = SHARED
    config: DeedsConfig
    refined_from = SEARCHED

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        if not self.config.compatible:
            return super().__call__(pair, run)
        with run.stage("initialise", 0.0):
            frame = published_frame(self.config, pair, run)
        return run.outcome(*_as_found(frame, *_search(self.config, frame, run)))

    def find_field(self, started: Started, run: Run) -> tuple[Array, Grid]:
        levels = self.config.levels(started.pyramid.working)
        frame = DeedsFrame(*started.sides, started.moving, started.start, levels)
        forward, _, control = _search(self.config, frame, run)
        return to_device(frame.displacement(forward, control).disp_vox, run.device), control

    def led_bytes(self, fixed: Grid, moving: Grid) -> int:
        pyramid = self.config.pyramid(fixed)
        voxels, described = int(np.prod(pyramid.working.shape)), int(np.prod(pyramid.base.shape))
        levels = self.config.levels(pyramid.working)
        costs = max(int(np.prod(level.cells) * np.prod(level.labels)) * 4 for level in levels)
        # Both scans on the working grid and one warped, their weights, three codes, the costs of one direction;
        # later two descriptors of 16 lanes, both pooled once, and the fields of the optimiser.
        search = 40 * voxels + max(24 * voxels + costs, 4 * described * (3 * 16 + 8 * 3))
        guide = guide_bytes(self.config.guide, fixed, moving, pyramid.base)
        return guide + max(search, self.config.start_bytes(fixed, moving))


def _search(config: DeedsConfig, frame: DeedsFrame, run: Run) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Both fields ``(3, *cells)`` in working voxels, and their control grid; notes the share of differing bits."""
    onward = _Direction(config, frame.fixed, frame.moving.scan.channels, frame.warped_moving, run)
    back = _Direction(config, frame.moving, frame.fixed.scan.channels, frame.warped_fixed, run)
    control = frame.levels[0].control
    forward = backward = np.zeros((3, *control.shape), np.float32)
    for number, level in enumerate(frame.levels):
        run.progress("search", 0.1 + (SEARCHED - 0.1) * number / len(frame.levels))
        forward, backward = (frame.on_level(u, control, level) for u in (forward, backward))
        forward, backward = onward.search(level, forward), back.search(level, backward)
        control = level.control
        with run.timed("symmetry"):
            cell = np.array(level.cell, np.float32)[:, None, None, None]
            forward, backward = (u * cell for u in inverse_consistent(forward / cell, backward / cell))
    run.trace["differing bits"] = onward.agreement
    return forward, backward, control


class _Direction:
    """One direction of the search: the cells of one scan look for their places in the other.

    Args:
        config: settings.
        side: the scan that is divided into cells.
        other: channels of the other scan before anything is known.
        warp: gives the channels of the other scan under a field on a control grid.
        run: the device, and what collects the times.
    """

    def __init__(
        self,
        config: DeedsConfig,
        side: Side,
        other: np.ndarray,
        warp: Callable[[np.ndarray, Grid], np.ndarray],
        run: Run,
    ) -> None:
        self.config, self.side, self.other, self.warp = config, side, other, warp
        self.run = run
        self.described: tuple[Cell, Array] | None = None
        self.agreement: list[float] = []

    def search(self, level: DeedsLevel, start: np.ndarray) -> np.ndarray:
        """Add to a field ``(3, *cells)`` in working voxels what a search around it finds."""
        with self.run.timed("describe"):
            if self.described is None or self.described[0] != level.mind_step:
                self.described = None
                self.described = level.mind_step, self._codes(self.side.scan.channels, level)
        channels = self.other
        if start.any():
            with self.run.timed("warp"):
                channels = self.warp(start, level.control)
        with self.run.timed("describe"):
            there = self._codes(channels, level)
            del channels  # the costs need the room
        with self.run.timed("costs"):
            weight = to_device(self.side.weight, self.run.device)
            window = level.cells, level.cell, level.radius, level.step, level.stride
            costs = hamming_costs(self.described[1], weight, there, *window)
            self.agreement.append(float(costs[:, costs.shape[1] // 2].mean()))
            costs *= level.spacing / (2 * self.config.alpha * level.quantisation)
        with self.run.timed("tree"):
            tree = spanning_tree(self.side.scan.channels, level.cell, level.cells)
        with self.run.timed("inference"):
            length = level.unit_vox.astype(np.float32)[:, None]
            i, j, k = (float(s / u) for s, u in zip(level.step, level.unit_vox, strict=True))
            before = to_device(start.reshape(3, -1) / length, self.run.device)
            labels = to_numpy(infer_labels(costs, tree, level.labels, (i, j, k), before))
        return start + (labels * np.array(level.step, np.float32)[:, None]).reshape(start.shape)

    def _codes(self, channels: np.ndarray, level: DeedsLevel) -> Array:
        codes = [quantised_mind_ssc(to_device(channel, self.run.device), level.mind_step) for channel in channels]
        if self.run.device == "cpu":
            return np.stack(codes) if len(codes) > 1 else codes[0][None]
        import torch

        return torch.stack(codes)


def _as_found(
    frame: DeedsFrame, forward: np.ndarray, backward: np.ndarray, control: Grid
) -> tuple[Transform, Transform]:
    """Both fields of the search, as the published program writes them."""
    onward = Composite.of(frame.forward(forward, control), frame.placed)
    back = Composite.of(frame.placed.inverse(), frame.start.inverse(), frame.displacement(backward, control))
    return onward, back
