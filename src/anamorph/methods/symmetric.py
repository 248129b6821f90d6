"""``symmetric``: a trained network gives both directions at once (Estienne et al., Learn2Reg 2020).

1. Both scans are read in the frame that the network was trained in, the moving one under a linear start.
2. One pass of the network: encodings subtracted, decoded for each direction, gradients integrated.
3. On wish the field is refined on this pair, as that of ``convex`` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.device import resolve_device
from anamorph.methods.network_run import NetworkRun
from anamorph.methods.presets import AFTER_A_NETWORK, with_own
from anamorph.methods.symmetric_config import SymmetricConfig
from anamorph.transforms import Transform

if TYPE_CHECKING:
    from anamorph.networks.registration_model import RegistrationModel

CHANNELS_HELD = 16
"""Volumes at full resolution that a pass of the network holds, in widths of its first stage."""


class Symmetric(Method):
    """A trained network, then the refinement that all methods share."""

    name = "symmetric"
    summary = "a trained network: shared encoder, subtraction, gradient integration; then the refinement of convex"
    Config = SymmetricConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(AFTER_A_NETWORK)
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
        return scans + max(network, self.config.refinement_memory(fixed))


class _Run(NetworkRun):
    kind = "symmetric"

    def fields(
        self, model: RegistrationModel, fixed: Image, moving: Image, frame: Grid, start: Transform
    ) -> tuple[np.ndarray, np.ndarray]:
        return model.fields(fixed, moving, frame, start)
