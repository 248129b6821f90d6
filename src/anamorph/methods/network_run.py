"""A registration by a trained network, whichever it is: frames and start before it, refinement and files after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from anamorph.features.intensity import IntensityKind, comparable_intensities
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Progress, Result, setting
from anamorph.methods.described_pair import DescribedPair
from anamorph.methods.device import to_device
from anamorph.methods.linear_start import comparable_after, linear_start
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.refinement import RefinementConfig, both_directions, refine
from anamorph.methods.stages import Stages
from anamorph.methods.working_frame import Scan, Side, within
from anamorph.transforms import Affine, Composite, Displacement, Transform
from anamorph.transforms.fields import inverse_consistent

if TYPE_CHECKING:
    from anamorph.networks.registration_model import RegistrationModel

NetworkStart = Literal["centre", "none", "translation", "rigid", "affine"]


@dataclass(frozen=True)
class NetworkConfig(RefinementConfig):
    """Settings of the methods whose networks see a pair of scans."""

    model: str = setting("", "a model folder, a run of `anamorph train`, or a model by name")
    init: NetworkStart = setting(  # type: ignore[assignment]
        "centre", "linear start: centre brings the middles of the scans together, as in training; none trusts the files"
    )
    refine: bool = setting(True, "optimise the field of the network on this pair; its result does not fold")


def refinement_memory(config: NetworkConfig, fixed: Grid) -> int:
    """Peak memory of the refinement; 0 without."""
    if not config.refine:
        return 0
    pyramid = Pyramid.plan(fixed, config.working_spacing_mm, config.descriptor_spacing_mm)
    return 16 * int(np.prod(pyramid.working.shape)) + 4 * int(np.prod(pyramid.base.shape)) * (5 * 16 + 8 * 3)


class NetworkRun(ABC):
    """One registration: its settings, where it computes, and what it has measured so far."""

    kind: ClassVar[str]

    def __init__(self, config: NetworkConfig, device: Literal["cpu", "cuda"], progress: Progress | None) -> None:
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
            model = RegistrationModel.load(self.config.model, self.device, self.kind)
            model.check_channels(fixed)
            self.provenance["model"] = {"name": model.card.name, "sha256": model.card.sha256}
        with self.stages.stage("initialise", 0.1):
            frame = model.frame(fixed.grid, moving.grid)
            start = self._start(fixed, moving, fixed_mask, moving_mask, init, frame, model)
        with self.stages.stage("network", 0.3):
            scans_seen = within(fixed, fixed_mask), within(moving, moving_mask)
            forward, backward = self.fields(model, *scans_seen, frame, start)
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

    @abstractmethod
    def fields(
        self, model: RegistrationModel, fixed: Image, moving: Image, frame: Grid, start: Transform
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both directions, ``(3, I, J, K)`` voxels of the frame each; the moving scan is read through the start."""

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
