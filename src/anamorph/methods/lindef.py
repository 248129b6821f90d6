"""``lindef``: a trained network gives a linear map and a deformation together (Christodoulidis et al. 2018).

1. Both scans are read in the frame that the network was trained in, the moving one under a linear start.
2. A pass of the network for each direction: one encoder, a matrix, gradients that are integrated, both combined.
3. Optionally the field is refined on this pair, as that of ``convex`` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from anamorph.methods.learned import NetworkConfig, OnePass
from anamorph.methods.presets import AS_TRAINED, with_own

if TYPE_CHECKING:
    from anamorph.networks.trained import RegistrationModel

CHANNELS_HELD = 24
"""Volumes that a pass holds, in widths of the narrowest layer: nine features, and what the widest ones need."""


@dataclass(frozen=True)
class LindefConfig(NetworkConfig):
    """Settings of ``lindef``: the model, the start, and the refinement of what the network finds."""


class Lindef(OnePass):
    """A trained network, then the refinement that all methods share."""

    name = "lindef"
    summary = "a trained network: dilated encoder, linear map and gradient integration together; then the refinement"
    Config = LindefConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(AS_TRAINED)
    config: LindefConfig

    def pass_bytes(self, model: RegistrationModel, voxels: int) -> int:
        return 4 * voxels * (CHANNELS_HELD * int(model.architecture["width"]) + 24)
