"""The search of deeds: two scans on one grid, read anew at every level, and the field between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from anamorph.discrete.hamming_cost import hamming_costs
from anamorph.discrete.tree_inference import infer_labels, spanning_tree
from anamorph.features.quantised_mind_ssc import quantised_mind_ssc
from anamorph.geometry.averaging import Cell
from anamorph.geometry.grid import Grid
from anamorph.methods.base import Run
from anamorph.methods.deeds.levels import DeedsConfig, DeedsLevel
from anamorph.methods.refinement import moved
from anamorph.methods.started import Array
from anamorph.methods.working_frame import Scan, Side
from anamorph.runtime.device import to_device, to_numpy
from anamorph.transforms.fields import exponential, inverse_consistent, logarithm
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

SEARCHED = 0.75
"""Share of a run that is done after the search."""


@dataclass(frozen=True)
class DeedsFrame:
    """Both scans and the start.

    ``fixed`` and ``moving`` (under the linear start) are on the working grid. Warping always begins with ``original``,
    which ``start`` maps to; ``placed`` leads on from there to the user's moving scan. A displacement u of a fixed voxel
    p leads to ``start(p + turn u)``: ``turn`` is the identity, or the inverse of the start's linear part, which makes
    ``start(p) + u`` of that scan.
    """

    fixed: Side
    moving: Side
    original: Scan
    start: Transform
    levels: tuple[DeedsLevel, ...]
    placed: Transform = field(default_factory=Affine.identity)
    turn: np.ndarray = field(default_factory=lambda: np.eye(3))

    @property
    def grid(self) -> Grid:
        """The working grid."""
        return self.fixed.scan.grid

    def displacement(self, disp_vox: np.ndarray, control: Grid) -> Displacement:
        """A field ``(3, *cells)`` in working voxels as a displacement in the fixed frame."""
        scale = (control.spacing_mm / self.grid.spacing_mm).astype(np.float32)
        return Displacement(disp_vox / scale[:, None, None, None], control)

    def forward(self, disp_vox: np.ndarray, control: Grid) -> Transform:
        """Fixed points to moving points."""
        turned = (self.turn.astype(np.float32) @ disp_vox.reshape(3, -1)).reshape(disp_vox.shape)
        return Composite.of(self.displacement(turned, control), self.start)

    def warped_moving(self, disp_vox: np.ndarray, control: Grid) -> np.ndarray:
        """The channels of the moving scan, read once from the original, under a field of the fixed frame."""
        return self.original.channels_on(self.grid, self.forward(disp_vox, control))

    def warped_fixed(self, disp_vox: np.ndarray, control: Grid) -> np.ndarray:
        """The channels of the fixed scan under a field of the other direction."""
        return self.fixed.scan.channels_on(self.grid, self.displacement(disp_vox, control))

    def on_level(self, disp_vox: np.ndarray, control: Grid, level: DeedsLevel) -> np.ndarray:
        """A field in working voxels brought to the control grid of another level."""
        field_there = self.displacement(disp_vox, control).displacement_on(level.control).disp_vox
        scale = (level.control.spacing_mm / self.grid.spacing_mm).astype(np.float32)
        return field_there * scale[:, None, None, None]


def search(
    config: DeedsConfig, frame: DeedsFrame, run: Run, known: tuple[Array, Grid] | None = None
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Both fields ``(3, *cells)`` in working voxels, and their control grid; notes the share of differing bits.

    Args:
        config: settings.
        frame: both scans and the start.
        run: the device, and what collects times and notes.
        known: a field ``(3, I, J, K)`` after the start, in voxels of a grid, around which to look.
    """
    onward = _Direction(config, frame.fixed, frame.moving.scan.channels, frame.warped_moving, run)
    back = _Direction(config, frame.moving, frame.fixed.scan.channels, frame.warped_fixed, run)
    control = frame.levels[0].control
    forward = backward = np.zeros((3, *control.shape), np.float32)
    if known is not None:
        scale = (control.spacing_mm / frame.grid.spacing_mm).astype(np.float32)[:, None, None, None]
        velocity = logarithm(to_numpy(moved(*known, control)))
        forward, backward = (scale * exponential(sign * velocity) for sign in (1, -1))
    for number, level in enumerate(frame.levels):
        run.progress("search", 0.1 + (SEARCHED - 0.1) * number / len(frame.levels))
        forward, backward = (frame.on_level(u, control, level) for u in (forward, backward))
        forward, backward = onward.search(level, forward), back.search(level, backward)
        control = level.control
        with run.timed("symmetry"):
            cell = np.array(level.cell, np.float32)[:, None, None, None]
            forward, backward = (u * cell for u in inverse_consistent(forward / cell, backward / cell))
    run.provenance["differing_bits"] = onward.agreement
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
