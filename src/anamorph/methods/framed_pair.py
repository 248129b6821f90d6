"""A pair of scans in the frame of a network that knows a template, and what is done with the fields found there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from anamorph.features.intensity import comparable_intensities
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import setting
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.device import to_device
from anamorph.methods.linear_start import comparable_after, linear_start
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import RefinementConfig, both_directions, refine
from anamorph.methods.working_frame import Scan, Side, within
from anamorph.networks.template_model import TemplateModel
from anamorph.transforms import Affine, Composite, Displacement, Transform
from anamorph.transforms.fields import compose, inverse_consistent

FramedStart = Literal["centre", "none", "translation", "rigid", "affine"]
LATTICE_VOXELS = 2.5
"""Spacing of the lattice on which splines are evaluated, voxels of the frame; five of the scans, as published."""


@dataclass(frozen=True)
class FramedConfig(RefinementConfig):
    """Settings of the methods whose networks know a template."""

    model: str = setting("", "a model folder, a run of `anamorph train`, or a model by name")
    init: FramedStart = setting(  # type: ignore[assignment]
        "centre", "start: centre brings the frames of the network together, as in training; none trusts the files"
    )
    refine: bool = setting(True, "optimise the field of the network on this pair; its result does not fold")


def lattice(frame: Grid) -> Grid:
    """The coarse grid of fields in a frame."""
    return frame.resampled(LATTICE_VOXELS * frame.spacing_mm)


@dataclass(frozen=True, eq=False)
class FramedPair:
    """Both scans as the network sees them.

    Args:
        fixed: prepared for the refinement.
        moving: likewise.
        inputs: of the network, fixed and moving, ``(C, I, J, K)`` each.
        masks: weights in the frame, or None.
        placed: the frame in the world of the fixed scan.
        start: from fixed to moving points: voxels of both inputs with one index belong together.
        frame: of the network, in mm of its own.
        notes: on the start, for the provenance.
    """

    fixed: Scan
    moving: Scan
    inputs: tuple[np.ndarray, np.ndarray]
    masks: tuple[np.ndarray | None, np.ndarray | None]
    placed: Grid
    start: Transform
    frame: Grid
    notes: dict[str, Any]

    @classmethod
    def of(
        cls,
        config: FramedConfig,
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
        if init is not None:
            start = init
        elif config.init == "centre":
            start = Affine(model.frame_in(seen[1]).affine @ np.linalg.inv(placed.affine))
        else:
            found, _ = linear_start(*scans, config.init, config.intensity_weight)
            start, notes = found.transform, {"start": found.steps}
        inputs = model.channels(seen[0], placed), model.channels(seen[1], placed, start)
        masks = (
            None if fixed_mask is None else scans[0].onto(placed, Affine.identity()).weight > 0,
            None if moving_mask is None else scans[1].onto(placed, start).weight > 0,
        )
        return cls(*scans, inputs, masks, placed, start, model.frame, notes)

    def finish(
        self,
        config: FramedConfig,
        forward: np.ndarray,
        backward: np.ndarray,
        device: Literal["cpu", "cuda"],
        progress: Callable[[float], None],
    ) -> tuple[Transform, Transform, dict[str, list[float]]]:
        """Both directions in the world.

        Args:
            config: of the refinement.
            forward: ``(3, I, J, K)`` from fixed to moving, voxels of the :func:`lattice`.
            backward: the other direction.
            device: for the refinement.
            progress: of it.

        Returns:
            from fixed to moving, from moving to fixed, and the objective per iteration.
        """
        in_frame = lattice(self.frame)
        grid = Grid(in_frame.shape, self.placed.affine @ np.linalg.inv(self.frame.affine) @ in_frame.affine)
        if not config.refine:
            there, back = Displacement(forward, grid), Displacement(backward, grid)
            return Composite.of(there, self.start), Composite.of(self.start.inverse(), back), {}
        forward, _ = inverse_consistent(forward, backward)
        pyramid = Pyramid.plan(self.fixed.grid, config.working_spacing_mm, config.descriptor_spacing_mm)
        kind = comparable_intensities(self.fixed.image, self.moving.image)
        kind = comparable_after(self.fixed, self.moving, self.start, kind)
        scans = self.fixed.onto(pyramid.working), self.moving.onto(pyramid.working, self.start)
        here, other = (Side.of(scan, kind == "ct", config.air_weight) for scan in scans)
        pair = DescribedPair.of(here, other, config.descriptor(), kind, pyramid, device)
        deformation, trace = refine(pair, pyramid, config, to_device(forward, device), grid, progress)
        return *both_directions(deformation, self.start, pyramid.base), trace


def through_template(to_template: np.ndarray, from_template: np.ndarray) -> np.ndarray:
    """The field of a scan to another by way of the template; all on one lattice."""
    return compose(np.ascontiguousarray(to_template), np.ascontiguousarray(from_template))


def framed_memory(config: FramedConfig, model: TemplateModel, fixed: Grid, moving: Grid) -> int:
    """Peak memory of the network with its features, or of the refinement after it."""
    outputs = int(np.prod(model.shape)) // 8
    # The hidden channels of the head twice, the coded features of two scans and one of a layer's scores.
    network = 4 * outputs * (2 * 512 + 3 * 256 + 2 * 128)
    scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
    pyramid = Pyramid.plan(fixed, config.working_spacing_mm, config.descriptor_spacing_mm)
    held = 16 * int(np.prod(pyramid.working.shape)) + 4 * int(np.prod(pyramid.base.shape)) * (5 * 16 + 8 * 3)
    return scans + max(network, held if config.refine else 0)
