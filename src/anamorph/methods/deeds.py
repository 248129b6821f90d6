"""``deeds``: dense displacement sampling, made smooth by exact inference on a minimum spanning tree.

Heinrich et al., TMI 2013 (tree) and MICCAI 2013 (descriptor); the published program deedsBCV. Per level:

1. Every cell of the fixed image is compared with the moving image, warped by what is known so far, at every
   displacement of a window, by the bits in which quantised descriptors differ.
2. Belief propagation on the minimum spanning tree of the cells finds the displacements of least cost and roughness.
3. The same in the other direction, and both fields are made inverse to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from anamorph.discrete.hamming_cost import hamming_costs
from anamorph.discrete.spanning_tree import spanning_tree
from anamorph.discrete.tree_inference import infer_labels
from anamorph.features.quantised_mind_ssc import quantised_mind_ssc
from anamorph.geometry import Grid
from anamorph.geometry.averaging import Cell
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.deeds_config import DeedsConfig
from anamorph.methods.deeds_frame import DeedsFrame, centred_frame
from anamorph.methods.deeds_levels import DeedsLevel
from anamorph.methods.deeds_published import published_frame
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.guide import Guide, guide_bytes
from anamorph.methods.linear_start import leads
from anamorph.methods.presets import SHARED
from anamorph.methods.refinement import both_directions, refine
from anamorph.methods.stages import Stages
from anamorph.methods.working_frame import Scan, Side
from anamorph.methods.worth import LEAST_EXPLAINED, NOT_DEFORMED, noise_followed
from anamorph.runtime.device import resolve_device, to_device, to_numpy
from anamorph.transforms import Composite, Transform
from anamorph.transforms.fields import inverse_consistent

Array = Any
"""A NumPy array on the CPU, a torch tensor on another device."""
SEARCHED = 0.75
"""Share of a run that is done after the search."""


class Deeds(Method):
    """Quantised MIND-SSC, dense displacement search and a tree-structured random field; needs no training."""

    name = "deeds"
    summary = "dense displacement search on a minimum spanning tree, coarse to fine; no training"
    Config = DeedsConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = SHARED
    config: DeedsConfig

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
        where, stages = resolve_device(device), Stages(progress)
        if self.config.compatible:
            with stages.stage("initialise", 0.0):
                frame = published_frame(self.config, fixed, moving, fixed_mask, moving_mask, init)
            return self._register((fixed, moving), frame, where, stages)
        with stages.timed("initialise"):
            scans = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
        exchanged = not leads(*scans)
        if exchanged:
            fixed, moving, scans, init = moving, fixed, scans[::-1], None if init is None else init.inverse()
        with stages.stage("initialise", 0.0):
            frame = centred_frame(self.config, *scans, init)
        result = self._register((fixed, moving), frame, where, stages)
        return result.exchanged() if exchanged else result

    def _register(
        self, images: tuple[Image, Image], frame: DeedsFrame, where: Literal["cpu", "cuda"], stages: Stages
    ) -> Result:
        guide = None if self.config.compatible else Guide.of(self.config.guide, *images, where)
        judged = None if guide else frame.explained
        if judged is not None and judged < LEAST_EXPLAINED:
            trace, notes = {"initialise": frame.costs}, {"start": frame.steps}
            warnings = [*frame.warnings, NOT_DEFORMED]
            return Result(frame.start, frame.start.inverse(), stages.seconds, trace, warnings, notes)
        forward, backward, control, agreement = _search(self.config, frame, where, stages)
        trace = {"initialise": frame.costs, "differing bits": agreement}
        provenance: dict[str, Any] = {"start": frame.steps}
        if self.config.compatible:
            fixed_to_moving, moving_to_fixed = _as_found(frame, forward, backward, control)
        else:
            with stages.stage("refine", SEARCHED):
                start = to_device(frame.displacement(forward, control).disp_vox, where)
                pyramid = self.config.pyramid(frame.covered)
                pair = DescribedPair.of(frame.fixed, frame.moving, self.config.descriptor(), frame.kind, pyramid, where)
                pair = pair.guided(guide, self.config.guide_weight, pyramid, frame.start)
                if guide is not None:
                    provenance["guide"] = guide.model
                deformation, objectives = refine(pair, pyramid, self.config, start, control, partial(_tell, stages))
            with stages.stage("finish", 0.98):
                noise = judged and noise_followed(pair, pyramid.base, deformation, judged, frame.kind)
                if noise:
                    frame.steps.append(noise)
                    fixed_to_moving, moving_to_fixed = frame.start, frame.start.inverse()
                else:
                    fixed_to_moving, moving_to_fixed = both_directions(deformation, frame.start, pyramid.base)
            trace |= objectives
        return Result(fixed_to_moving, moving_to_fixed, stages.seconds, trace, frame.warnings, provenance)

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        return max(self._led_by(fixed, moving), self._led_by(moving, fixed))

    def _led_by(self, fixed: Grid, moving: Grid) -> int:
        pyramid = self.config.pyramid(fixed)
        voxels, described = int(np.prod(pyramid.working.shape)), int(np.prod(pyramid.base.shape))
        levels = self.config.levels(pyramid.working)
        costs = max(int(np.prod(level.cells) * np.prod(level.labels)) * 4 for level in levels)
        # Channels and weights.
        scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        scans += guide_bytes(self.config.guide, fixed, moving, pyramid.base)
        # Both scans on the working grid and one warped, their weights, three codes, the costs of one direction;
        # later two descriptors of 16 lanes, both pooled once, and the fields of the optimiser.
        search = 40 * voxels + max(24 * voxels + costs, 4 * described * (3 * 16 + 8 * 3))
        return scans + max(search, self.config.start_bytes(fixed, moving))


def _search(
    config: DeedsConfig, frame: DeedsFrame, where: Literal["cpu", "cuda"], stages: Stages
) -> tuple[np.ndarray, np.ndarray, Grid, list[float]]:
    """Both fields ``(3, *cells)`` in working voxels, their control grid, and how well the scans agreed per level."""
    onward = _Direction(config, frame.fixed, frame.moving.scan.channels, frame.warped_moving, where, stages)
    back = _Direction(config, frame.moving, frame.fixed.scan.channels, frame.warped_fixed, where, stages)
    control = frame.levels[0].control
    forward = backward = np.zeros((3, *control.shape), np.float32)
    for number, level in enumerate(frame.levels):
        stages.progress("search", 0.1 + (SEARCHED - 0.1) * number / len(frame.levels))
        forward, backward = (frame.on_level(u, control, level) for u in (forward, backward))
        forward, backward = onward.search(level, forward), back.search(level, backward)
        control = level.control
        with stages.timed("symmetry"):
            cell = np.array(level.cell, np.float32)[:, None, None, None]
            forward, backward = (u * cell for u in inverse_consistent(forward / cell, backward / cell))
    return forward, backward, control, onward.agreement


class _Direction:
    """One direction of the search: the cells of one scan look for their places in the other.

    Args:
        config: settings.
        side: the scan that is divided into cells.
        other: channels of the other scan before anything is known.
        warp: gives the channels of the other scan under a field on a control grid.
        where: to compute.
        stages: for the times.
    """

    def __init__(
        self,
        config: DeedsConfig,
        side: Side,
        other: np.ndarray,
        warp: Callable[[np.ndarray, Grid], np.ndarray],
        where: Literal["cpu", "cuda"],
        stages: Stages,
    ) -> None:
        self.config, self.side, self.other, self.warp = config, side, other, warp
        self.where, self.stages = where, stages
        self.described: tuple[Cell, Array] | None = None
        self.agreement: list[float] = []

    def search(self, level: DeedsLevel, start: np.ndarray) -> np.ndarray:
        """Add to a field ``(3, *cells)`` in working voxels what a search around it finds."""
        with self.stages.timed("describe"):
            if self.described is None or self.described[0] != level.mind_step:
                self.described = None
                self.described = level.mind_step, self._codes(self.side.scan.channels, level)
        channels = self.other
        if start.any():
            with self.stages.timed("warp"):
                channels = self.warp(start, level.control)
        with self.stages.timed("describe"):
            there = self._codes(channels, level)
            del channels  # the costs need the room
        with self.stages.timed("costs"):
            weight = to_device(self.side.weight, self.where)
            window = level.cells, level.cell, level.radius, level.step, level.stride
            costs = hamming_costs(self.described[1], weight, there, *window)
            self.agreement.append(float(costs[:, costs.shape[1] // 2].mean()))
            costs *= level.spacing / (2 * self.config.alpha * level.quantisation)
        with self.stages.timed("tree"):
            tree = spanning_tree(self.side.scan.channels, level.cell, level.cells)
        with self.stages.timed("inference"):
            length = level.unit_vox.astype(np.float32)[:, None]
            i, j, k = (float(s / u) for s, u in zip(level.step, level.unit_vox, strict=True))
            before = to_device(start.reshape(3, -1) / length, self.where)
            labels = to_numpy(infer_labels(costs, tree, level.labels, (i, j, k), before))
        return start + (labels * np.array(level.step, np.float32)[:, None]).reshape(start.shape)

    def _codes(self, channels: np.ndarray, level: DeedsLevel) -> Array:
        codes = [quantised_mind_ssc(to_device(channel, self.where), level.mind_step) for channel in channels]
        if self.where == "cpu":
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


def _tell(stages: Stages, fraction: float) -> None:
    stages.progress("refine", SEARCHED + (0.98 - SEARCHED) * fraction)
