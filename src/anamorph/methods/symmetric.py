"""``symmetric``: a trained network gives both directions at once (Estienne et al., Learn2Reg 2020).

1. Both scans are read in the frame that the network was trained in, the moving one under a linear start.
2. One pass of the network: encodings subtracted, decoded for each direction, gradients integrated.
3. On wish the field is refined on this pair, as that of ``convex`` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from anamorph.features.intensity import IntensityKind, comparable_intensities
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.device import resolve_device, to_device
from anamorph.methods.linear_start import comparable_after, linear_start
from anamorph.methods.presets import with_own
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import both_directions, refine
from anamorph.methods.stages import Stages
from anamorph.methods.symmetric_config import SymmetricConfig
from anamorph.methods.working_frame import Scan, Side, within
from anamorph.transforms import Affine, Composite, Displacement, Transform
from anamorph.transforms.fields import inverse_consistent

if TYPE_CHECKING:
    from anamorph.networks.registration_model import RegistrationModel

CHANNELS_HELD = 16
"""Volumes at full resolution that a pass of the network holds, in widths of its first stage."""


class Symmetric(Method):
    """A trained network, then the refinement that all methods share."""

    name = "symmetric"
    summary = "a trained network: shared encoder, subtraction, gradient integration; then the refinement of convex"
    Config = SymmetricConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own({"head-neck-ct": {"init": "centre"}})
    config: SymmetricConfig

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
        return _Run(self.config, resolve_device(device), progress).register(
            fixed, moving, fixed_mask, moving_mask, init
        )

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        from anamorph.networks.registration_model import RegistrationModel

        model = RegistrationModel.describe(self.config.model)
        voxels = int(np.prod(model.shape_for(fixed, moving)))
        network = 4 * voxels * (CHANNELS_HELD * model.first_channels + 24)
        scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        if not self.config.refine:
            return scans + network
        pyramid = Pyramid.plan(fixed, self.config.working_spacing_mm, self.config.descriptor_spacing_mm)
        held = 16 * int(np.prod(pyramid.working.shape)) + 4 * int(np.prod(pyramid.base.shape)) * (5 * 16 + 8 * 3)
        return scans + max(network, held)


class _Run:
    """One registration: its settings, where it computes, and what it has measured so far."""

    def __init__(self, config: SymmetricConfig, device: Literal["cpu", "cuda"], progress: Progress | None) -> None:
        self.config = config
        self.device = device
        self.stages = Stages(progress)
        self.trace: dict[str, list[float]] = {}
        self.provenance: dict[str, Any] = {}

    def register(
        self, fixed: Image, moving: Image, fixed_mask: Mask | None, moving_mask: Mask | None, init: Transform | None
    ) -> Result:
        from anamorph.networks.registration_model import RegistrationModel

        with self.stages.stage("load", 0.0):
            model = RegistrationModel.load(self.config.model, self.device)
            model.check_channels(fixed)
            self.provenance["model"] = {"name": model.card.name, "sha256": model.card.sha256}
        with self.stages.stage("initialise", 0.1):
            frame = model.frame(fixed.grid, moving.grid)
            start = self._start(fixed, moving, fixed_mask, moving_mask, init, frame, model)
        with self.stages.stage("network", 0.3):
            forward, backward = model.fields(within(fixed, fixed_mask), within(moving, moving_mask), frame, start)
        if not self.config.refine:
            there = Composite.of(Displacement(forward, frame), start)
            back = Composite.of(start.inverse(), Displacement(backward, frame))
            return self._result(there, back, model.concerns(fixed, moving))
        with self.stages.stage("describe", 0.5):
            scans = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
            pyramid = Pyramid.plan(fixed.grid, self.config.working_spacing_mm, self.config.descriptor_spacing_mm)
            pair = self._describe(*scans, start, pyramid)
        with self.stages.stage("refine", 0.6):
            consistent, _ = inverse_consistent(forward, backward)
            deformation, trace = refine(
                pair, pyramid, self.config, to_device(consistent, self.device), frame, self._tell_refined
            )
            self.trace |= trace
        with self.stages.stage("finish", 0.98):
            there, back = both_directions(deformation, start, pyramid.base)
        return self._result(there, back, model.concerns(fixed, moving))

    def _result(self, there: Transform, back: Transform, warnings: list[str]) -> Result:
        return Result(there, back, self.stages.seconds, self.trace, warnings, self.provenance)

    def _start(
        self,
        fixed: Image,
        moving: Image,
        fixed_mask: Mask | None,
        moving_mask: Mask | None,
        init: Transform | None,
        frame: Grid,
        model: RegistrationModel,
    ) -> Transform:
        """The transform of fixed to moving points that the network starts from."""
        if init is not None:
            return init
        if self.config.init == "centre":
            return Affine(model.own_frame(moving.grid, frame.shape).affine @ np.linalg.inv(frame.affine))
        scans = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
        found, _ = linear_start(*scans, self.config.init, self.config.intensity_weight)
        self.trace["initialise"] = found.costs
        self.provenance["start"] = found.steps
        return found.transform

    def _describe(self, fixed: Scan, moving: Scan, start: Transform, pyramid: Pyramid) -> DescribedPair:
        kind: IntensityKind = comparable_intensities(fixed.image, moving.image)
        kind = comparable_after(fixed, moving, start, kind)
        self.provenance["intensities"] = kind
        scans = fixed.onto(pyramid.working), moving.onto(pyramid.working, start)
        here, there = (Side.of(scan, kind == "ct", self.config.air_weight) for scan in scans)
        return DescribedPair.of(here, there, self.config.descriptor(), kind, pyramid, self.device)

    def _tell_refined(self, fraction: float) -> None:
        self.stages.progress("refine", 0.6 + 0.38 * fraction)
