"""A registration by a network that sees pairs, whichever it is: frames and start before it, refinement after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Progress, Result
from anamorph.methods.linear_start import linear_start
from anamorph.methods.refined_pair import NetworkConfig, refined_pair
from anamorph.methods.stages import Stages
from anamorph.methods.working_frame import Scan, within
from anamorph.transforms import Affine, Transform

if TYPE_CHECKING:
    from anamorph.networks.registration_model import RegistrationModel


class NetworkRun(ABC):
    """One registration: its settings, where it computes, and what it has measured so far."""

    kind: str

    def __init__(self, config: NetworkConfig, device: Literal["cpu", "cuda"], progress: Progress | None) -> None:
        self.config = config
        self.device = device
        self.stages = Stages(progress)
        self.trace: dict[str, list[float]] = {}
        self.provenance: dict[str, Any] = {}
        self.warnings: list[str] = []

    def register(
        self, fixed: Image, moving: Image, fixed_mask: Mask | None, moving_mask: Mask | None, init: Transform | None
    ) -> Result:
        from anamorph.networks.registration_model import RegistrationModel

        with self.stages.stage("load", 0.0):
            model = RegistrationModel.load(self.config.model, self.kind, self.device)
            model.check(fixed)
            self.provenance["model"] = {"name": model.card.name, "sha256": model.card.sha256}
        with self.stages.stage("initialise", 0.1):
            frame = model.frame(fixed.grid, moving.grid)
            start = self._start(fixed, moving, fixed_mask, moving_mask, init, frame, model)
        with self.stages.stage("network", 0.3):
            scans_seen = within(fixed, fixed_mask), within(moving, moving_mask)
            forward, backward = self.fields(model, *scans_seen, frame, start)
        with self.stages.stage("refine" if self.config.refine else "finish", 0.6):
            scans = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
            found = refined_pair(
                self.config, *scans, scans_seen, start, forward, backward, frame, self.device, self._tell_refined
            )  # fmt: skip
        self.trace |= found.trace
        self.provenance |= found.notes
        return Result(
            found.fixed_to_moving,
            found.moving_to_fixed,
            self.stages.seconds,
            self.trace,
            model.warnings_for(fixed, moving) + self.warnings,
            self.provenance,
        )

    @abstractmethod
    def fields(
        self, model: RegistrationModel, fixed: Image, moving: Image, frame: Grid, start: Transform
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both directions, ``(3, I, J, K)`` voxels of the frame each; the moving scan is read through the start."""

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
        if self.config.init == "frame":
            return Affine(model.own_frame(moving.grid, frame.shape).affine @ np.linalg.inv(frame.affine))
        scans = Scan.prepare(fixed, fixed_mask), Scan.prepare(moving, moving_mask)
        found, _ = linear_start(*scans, self.config.init, self.config.intensity_weight)
        self.trace["initialise"] = found.costs
        self.provenance["start"] = found.steps
        self.warnings += found.warnings
        return found.transform

    def _tell_refined(self, fraction: float) -> None:
        self.stages.progress("refine", 0.6 + 0.4 * fraction)
