"""A pair of scans in the frame of a network that knows a template, and what is done with the fields found there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.base import Pair, Run
from anamorph.methods.linear_start import linear_start
from anamorph.methods.refined_pair import NetworkConfig, refined_pair
from anamorph.methods.working_frame import Scan, within
from anamorph.networks.template_model import TemplateModel
from anamorph.transforms import Affine, Transform
from anamorph.transforms.fields import compose

LATTICE_VOXELS = 2.5
"""Spacing of the lattice on which splines are evaluated, voxels of the frame; five of the scans, as published."""


def lattice(frame: Grid) -> Grid:
    """The coarse grid of fields in a frame."""
    return frame.resampled(LATTICE_VOXELS * frame.spacing_mm)


@dataclass(frozen=True, eq=False)
class FramedPair:
    """Both scans as the network sees them.

    Args:
        fixed: prepared for the refinement.
        moving: likewise.
        seen: both without what is masked.
        inputs: of the network, fixed and moving, ``(C, I, J, K)`` each.
        masks: weights in the frame, or None.
        placed: the frame in the world of the fixed scan.
        start: from fixed to moving points: voxels of both inputs with one index belong together.
        frame: of the network, in mm of its own.
    """

    fixed: Scan
    moving: Scan
    seen: tuple[Image, Image]
    inputs: tuple[np.ndarray, np.ndarray]
    masks: tuple[np.ndarray | None, np.ndarray | None]
    placed: Grid
    start: Transform
    frame: Grid

    @classmethod
    def of(
        cls,
        config: NetworkConfig,
        model: TemplateModel,
        pair: Pair,
        run: Run,
    ) -> FramedPair:
        """Read both scans in the frame of a model."""
        scans = Scan.prepare(pair.fixed, pair.fixed_mask), Scan.prepare(pair.moving, pair.moving_mask)
        seen = within(pair.fixed, pair.fixed_mask), within(pair.moving, pair.moving_mask)
        placed = model.frame_in(seen[0])
        start: Transform
        if pair.start is not None:
            start = pair.start
        elif config.init == "frame":
            start = Affine(model.frame_in(seen[1]).affine @ np.linalg.inv(placed.affine))
        else:
            found, _ = linear_start(*scans, config.init, config.intensity_weight)
            start = found.transform
            run.provenance["start"] = found.steps
            run.warnings += found.warnings
        inputs = model.channels(seen[0], placed), model.channels(seen[1], placed, start)
        masks = (
            None if pair.fixed_mask is None else scans[0].onto(placed, Affine.identity()).weight > 0,
            None if pair.moving_mask is None else scans[1].onto(placed, start).weight > 0,
        )
        return cls(*scans, seen, inputs, masks, placed, start, model.frame)

    def finish(
        self,
        config: NetworkConfig,
        forward: np.ndarray,
        backward: np.ndarray,
        run: Run,
    ) -> tuple[Transform, Transform]:
        """Both directions in the world.

        Args:
            config: of the refinement.
            forward: ``(3, I, J, K)`` from fixed to moving, voxels of the :func:`lattice`.
            backward: the other direction.
            run: collects the trace and notes of the refinement.
        """
        in_frame = lattice(self.frame)
        grid = Grid(in_frame.shape, self.placed.affine @ np.linalg.inv(self.frame.affine) @ in_frame.affine)
        scans = self.fixed, self.moving
        return refined_pair(config, *scans, self.seen, self.start, forward, backward, grid, run, until=0.98)


def through_template(to_template: np.ndarray, from_template: np.ndarray) -> np.ndarray:
    """The field of a scan to another by way of the template; all on one lattice."""
    return compose(np.ascontiguousarray(to_template), np.ascontiguousarray(from_template))


def framed_memory(config: NetworkConfig, model: TemplateModel, fixed: Grid, moving: Grid) -> int:
    """Peak memory of the network with its features, or of the refinement after it."""
    outputs = int(np.prod(model.shape)) // 8
    # The hidden channels of the head twice, the coded features of two scans and one of a layer's scores.
    network = 4 * outputs * (2 * 512 + 3 * 256 + 2 * 128)
    scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
    return scans + max(network, config.refinement_memory(fixed, moving))
