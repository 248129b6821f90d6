"""``lindef``: a trained network gives a linear map and a deformation together (Christodoulidis et al. 2018).

1. Both scans are read in the frame that the network was trained in, the moving one under a linear start.
2. A pass of the network for each direction: one encoder, a matrix, gradients that are integrated, both combined.
3. On wish the field is refined on this pair, as that of ``convex`` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.device import resolve_device
from anamorph.methods.network_run import NetworkRun
from anamorph.methods.presets import AFTER_A_NETWORK, with_own
from anamorph.methods.refined_pair import NetworkConfig
from anamorph.transforms import Transform

if TYPE_CHECKING:
    from anamorph.networks.registration_model import RegistrationModel

VOLUMES_HELD = 24
"""At full resolution in a pass of the network, in widths of its narrowest layer: 9 features that are kept, then the
widest convolution of the deformable branch with what it reads and writes."""


@dataclass(frozen=True)
class LindefConfig(NetworkConfig):
    """Settings of ``lindef``: the model, the start, and the refinement of what the network finds."""


class Lindef(Method):
    """A trained network, then the refinement that all methods share."""

    name = "lindef"
    summary = "a trained network: dilated encoder, linear map and gradient integration together; then the refinement"
    Config = LindefConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(AFTER_A_NETWORK)
    config: LindefConfig

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

        model = RegistrationModel.describe(self.config.model, "lindef")
        voxels = int(np.prod(model.shape_for(fixed, moving)))
        network = 4 * voxels * (VOLUMES_HELD * model.card.architecture["width"] + 24)
        scans = 8 * (int(np.prod(fixed.shape)) + int(np.prod(moving.shape)))
        return scans + max(network, self.config.refinement_memory(fixed))


class _Run(NetworkRun):
    kind = "lindef"

    def fields(
        self, model: RegistrationModel, fixed: Image, moving: Image, frame: Grid, start: Transform
    ) -> tuple[np.ndarray, np.ndarray]:
        return model.fields(fixed, moving, frame, start)
