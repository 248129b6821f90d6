"""``deeds``: dense displacement sampling, made smooth by exact inference on a minimum spanning tree.

Heinrich et al., TMI 2013 (tree) and MICCAI 2013 (descriptor); the published program deedsBCV. Per level:

1. Every cell of the fixed image is compared with the moving image, warped by what is known so far, at every
   displacement of a window, by the bits in which quantised descriptors differ.
2. Belief propagation on the minimum spanning tree of the cells finds the displacements of least cost and roughness.
3. The same in the other direction, and both fields are made inverse to each other.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from anamorph.discrete.hamming_cost import hamming_costs
from anamorph.discrete.spanning_tree import spanning_tree
from anamorph.discrete.tree_inference import infer_labels
from anamorph.features.quantised_mind_ssc import quantised_mind_ssc
from anamorph.geometry import Grid
from anamorph.geometry.pooling import Cell
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.deeds_config import DeedsConfig
from anamorph.methods.deeds_frame import DeedsFrame, centred_frame
from anamorph.methods.deeds_levels import DeedsLevel
from anamorph.methods.deeds_published import published_frame
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.device import resolve_device, to_device, to_numpy
from anamorph.methods.presets import with_own
from anamorph.methods.refinement import both_directions, refine
from anamorph.methods.stages import Stages
from anamorph.methods.working_frame import Scan, Side
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
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own({})
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
        stages = Stages(progress)
        with stages.stage("initialise", 0.0):
            prepare = published_frame if self.config.compatible else centred_frame
            frame = prepare(self.config, fixed, moving, fixed_mask, moving_mask, init)
        where = resolve_device(device)
        search = _Search(self.config, frame, where, stages)
        forward, backward, control = search.run()
        trace = {"initialise": frame.costs, "differing bits": search.trace}
        if self.config.compatible:
            fixed_to_moving, moving_to_fixed = _as_found(frame, forward, backward, control)
        else:
            with stages.stage("refine", SEARCHED):
                start = to_device(frame.displacement(forward, control).disp_vox, where)
                pyramid = self.config.pyramid(fixed.grid)
                pair = DescribedPair.of(frame.fixed, frame.moving, self.config.descriptor(), frame.kind, pyramid, where)
                deformation, objectives = refine(pair, pyramid, self.config, start, control, partial(_tell, stages))
            with stages.stage("finish", 0.98):
                fixed_to_moving, moving_to_fixed = both_directions(deformation, frame.start, pyramid.base)
            trace |= objectives
        return Result(fixed_to_moving, moving_to_fixed, stages.seconds, trace, provenance={"start": frame.steps})

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        working = self.config.pyramid(fixed).working
        voxels = int(np.prod(working.shape))
        costs = max(int(np.prod(level.cells) * np.prod(level.labels)) * 4 for level in self.config.levels(working))
        # Both scans and one warped, their weights, three codes, the positions of a warp; the costs of one direction.
        return 4 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape))) + 60 * voxels + costs


class _Search:
    """The search over all levels: settings, scans, where it computes, and what it has measured so far."""

    def __init__(self, config: DeedsConfig, frame: DeedsFrame, device: Literal["cpu", "cuda"], stages: Stages) -> None:
        self.config = config
        self.frame = frame
        self.device = device
        self.stages = stages
        self.trace: list[float] = []
        self.unwarped: dict[str, tuple[Cell, Array]] = {}

    def run(self) -> tuple[np.ndarray, np.ndarray, Grid]:
        """Both fields ``(3, *cells)`` in working voxels, and their control grid."""
        frame = self.frame
        control = frame.levels[0].control
        forward = backward = np.zeros((3, *control.shape), np.float32)
        moving, fixed = frame.moving.scan, frame.fixed.scan
        for number, level in enumerate(frame.levels):
            done = 0.1 + (SEARCHED - 0.1) * number / len(frame.levels)
            if number > 0:
                with self.stages.stage("warp", done):
                    forward, backward = (frame.on_level(u, control, level) for u in (forward, backward))
                    moving = frame.original.onto(frame.grid, frame.forward(forward, level.control))
                    fixed = frame.fixed.scan.onto(frame.grid, frame.displacement(backward, level.control))
            control = level.control
            codes = self._describe("fixed", frame.fixed.scan, level, done)
            onward = self._one_way(level, frame.fixed, codes, moving, forward, done)
            codes = self._describe("moving", frame.moving.scan, level, done)
            back = self._one_way(level, frame.moving, codes, fixed, backward, done)
            with self.stages.stage("symmetry", done):
                cell = np.array(level.cell, np.float32)[:, None, None, None]
                forward, backward = (u * cell for u in inverse_consistent(onward / cell, back / cell))
        return forward, backward, control

    def _describe(self, name: str, scan: Scan, level: DeedsLevel, done: float) -> Array:
        """The codes of a scan that is not warped: kept until a level describes at another distance."""
        if self.unwarped.get(name, (None,))[0] != level.mind_step:
            self.unwarped.pop(name, None)
            with self.stages.stage("describe", done):
                self.unwarped[name] = level.mind_step, self._codes(scan, level)
        return self.unwarped[name][1]

    def _codes(self, scan: Scan, level: DeedsLevel) -> Array:
        codes = [quantised_mind_ssc(to_device(channel, self.device), level.mind_step) for channel in scan.channels]
        if self.device == "cpu":
            return np.stack(codes)
        import torch

        return torch.stack(codes)

    def _one_way(
        self, level: DeedsLevel, side: Side, codes: Array, other: Scan, start: np.ndarray, done: float
    ) -> np.ndarray:
        """Search the displacements that bring the other scan, warped by ``start``, to a scan; added to ``start``."""
        with self.stages.stage("describe", done):
            there = self._codes(other, level)
        with self.stages.stage("costs", done):
            costs = hamming_costs(
                codes,
                to_device(side.weight, self.device),
                there,
                level.cells,
                level.cell,
                level.radius,
                level.step,
                level.stride,
            )
            self.trace.append(float(costs[:, costs.shape[1] // 2].mean()))
            costs *= level.spacing / (2 * self.config.alpha * level.quantisation)
        with self.stages.stage("tree", done):
            tree = spanning_tree(side.scan.channels, level.cell, level.cells)
        with self.stages.stage("inference", done):
            length = level.unit_vox.astype(np.float32)[:, None]
            i, j, k = (float(s / u) for s, u in zip(level.step, level.unit_vox, strict=True))
            before = to_device(start.reshape(3, -1) / length, self.device)
            labels = to_numpy(infer_labels(costs, tree, level.labels, (i, j, k), before))
        return start + (labels * np.array(level.step, np.float32)[:, None]).reshape(start.shape)


def _as_found(
    frame: DeedsFrame, forward: np.ndarray, backward: np.ndarray, control: Grid
) -> tuple[Transform, Transform]:
    """Both fields of the search, as the published program writes them."""
    onward = Composite.of(frame.forward(forward, control), frame.placed)
    back = Composite.of(frame.placed.inverse(), frame.start.inverse(), frame.displacement(backward, control))
    return onward, back


def _tell(stages: Stages, fraction: float) -> None:
    stages.progress("refine", SEARCHED + (0.98 - SEARCHED) * fraction)
