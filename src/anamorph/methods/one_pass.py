"""Methods whose network gives both directions of a pair at once, as fields of its frame."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.network_run import NetworkRun
from anamorph.methods.refined_pair import NetworkConfig
from anamorph.runtime.device import resolve_device
from anamorph.transforms import Transform

if TYPE_CHECKING:
    from anamorph.networks.registration_model import RegistrationModel


class OnePass(Method):
    """A trained network, then the refinement that all methods share; its models are of the kind of its name."""

    config: NetworkConfig

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
        run = _Run(self.name, self.config, resolve_device(device), progress)
        return run.register(fixed, moving, fixed_mask, moving_mask, init)

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        from anamorph.networks.registration_model import RegistrationModel

        model = RegistrationModel.describe(self.config.model, self.name)
        voxels = int(np.prod(model.shape_for(fixed, moving)))
        scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        return scans + max(4 * voxels * self.values_held(model), self.config.refinement_memory(fixed, moving))

    @abstractmethod
    def values_held(self, model: RegistrationModel) -> int:
        """Values of 4 bytes that a pass of the network holds per voxel of its frame."""


class _Run(NetworkRun):
    def __init__(
        self, kind: str, config: NetworkConfig, device: Literal["cpu", "cuda"], progress: Progress | None
    ) -> None:
        super().__init__(config, device, progress)
        self.kind = kind

    def fields(
        self, model: RegistrationModel, fixed: Image, moving: Image, frame: Grid, start: Transform
    ) -> tuple[np.ndarray, np.ndarray]:
        return model.fields(fixed, moving, frame, start)
