"""Methods whose network gives both directions of a pair, as fields of its frame."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.methods.linear_start import linear_start
from anamorph.methods.refined_pair import REFINED_FROM, NetworkConfig, refined_pair
from anamorph.methods.working_frame import Scan, within
from anamorph.transforms import Affine, Transform

if TYPE_CHECKING:
    from anamorph.networks.registration_model import RegistrationModel


class OnePass(Method):
    """A trained network, then the refinement that all methods share; its models are of the kind of its name."""

    config: NetworkConfig

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        from anamorph.networks.registration_model import RegistrationModel

        with run.stage("load", 0.0):
            model = RegistrationModel.load(self.config.model, self.name, run.device)
            model.check(pair.fixed)
            run.provenance["model"] = model.identity
            run.warnings += model.warnings_for(pair.fixed, pair.moving)
        with run.stage("initialise", 0.1):
            frame = model.frame(pair.fixed.grid, pair.moving.grid)
            start = self._start(pair, frame, model, run)
        with run.stage("network", 0.3):
            seen = within(pair.fixed, pair.fixed_mask), within(pair.moving, pair.moving_mask)
            forward, backward = self.fields(model, *seen, frame, start, run)
        with run.stage("refine" if self.config.refine else "finish", REFINED_FROM):
            scans = Scan.prepare(pair.fixed, pair.fixed_mask), Scan.prepare(pair.moving, pair.moving_mask)
            both = refined_pair(self.config, *scans, seen, start, forward, backward, frame, run, until=1.0)
        return run.outcome(*both)

    def fields(
        self, model: RegistrationModel, fixed: Image, moving: Image, frame: Grid, start: Transform, run: Run
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both directions, ``(3, I, J, K)`` voxels of the frame each; the moving scan is read through the start."""
        return model.fields(fixed, moving, frame, start)

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        from anamorph.networks.registration_model import RegistrationModel

        model = RegistrationModel.describe(self.config.model, self.name)
        voxels = int(np.prod(model.shape_for(fixed, moving)))
        scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        return scans + max(self.network_bytes(model, voxels), self.config.refinement_memory(fixed, moving))

    @abstractmethod
    def network_bytes(self, model: RegistrationModel, voxels: int) -> int:
        """Memory that a pass of the network takes in a frame of so many voxels."""

    def _start(self, pair: Pair, frame: Grid, model: RegistrationModel, run: Run) -> Transform:
        """The transform of fixed to moving points that the network starts from."""
        if pair.start is not None:
            return pair.start
        if self.config.init == "frame":
            return Affine(model.own_frame(pair.moving.grid, frame.shape).affine @ np.linalg.inv(frame.affine))
        scans = Scan.prepare(pair.fixed, pair.fixed_mask), Scan.prepare(pair.moving, pair.moving_mask)
        found, _ = linear_start(*scans, self.config.init, self.config.intensity_weight)
        run.trace["initialise"] = found.costs
        run.provenance["start"] = found.steps
        run.warnings += found.warnings
        return found.transform
