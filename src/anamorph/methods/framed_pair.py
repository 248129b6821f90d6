"""A pair of scans in the frame of a network that knows a template, and what is done with the fields found there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.linear_start import linear_start
from anamorph.methods.refined_pair import NetworkConfig, RefinedPair, refined_pair
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
        notes: on the start, for the provenance.
        warnings: of the start.
    """

    fixed: Scan
    moving: Scan
    seen: tuple[Image, Image]
    inputs: tuple[np.ndarray, np.ndarray]
    masks: tuple[np.ndarray | None, np.ndarray | None]
    placed: Grid
    start: Transform
    frame: Grid
    notes: dict[str, Any]
    warnings: list[str]

    @classmethod
    def of(
        cls,
        config: NetworkConfig,
        model: TemplateModel,
        fixed: Image,
        moving: Image,
        fixed_mask: Mask | None,
        moving_mask: Mask | None,
        init: Transform | None,
    ) -> FramedPair:
        """Read both scans in the frame of a model."""
        scans = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
        seen = within(fixed, fixed_mask), within(moving, moving_mask)
        placed = model.frame_in(seen[0])
        notes: dict[str, Any] = {}
        warnings: list[str] = []
        if init is not None:
            start = init
        elif config.init == "frame":
            start = Affine(model.frame_in(seen[1]).affine @ np.linalg.inv(placed.affine))
        else:
            found, _ = linear_start(*scans, config.init, config.intensity_weight)
            start, notes, warnings = found.transform, {"start": found.steps}, found.warnings
        inputs = model.channels(seen[0], placed), model.channels(seen[1], placed, start)
        masks = (
            None if fixed_mask is None else scans[0].onto(placed, Affine.identity()).weight > 0,
            None if moving_mask is None else scans[1].onto(placed, start).weight > 0,
        )
        return cls(*scans, seen, inputs, masks, placed, start, model.frame, notes, warnings)

    def finish(
        self,
        config: NetworkConfig,
        forward: np.ndarray,
        backward: np.ndarray,
        device: Literal["cpu", "cuda"],
        progress: Callable[[float], None],
    ) -> RefinedPair:
        """Both directions in the world.

        Args:
            config: of the refinement.
            forward: ``(3, I, J, K)`` from fixed to moving, voxels of the :func:`lattice`.
            backward: the other direction.
            device: for the refinement.
            progress: of it.
        """
        in_frame = lattice(self.frame)
        grid = Grid(in_frame.shape, self.placed.affine @ np.linalg.inv(self.frame.affine) @ in_frame.affine)
        return refined_pair(
            config, self.fixed, self.moving, self.seen, self.start, forward, backward, grid, device, progress
        )


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
