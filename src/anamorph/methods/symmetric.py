"""``symmetric``: a trained network gives both directions at once (Estienne et al., Learn2Reg 2020).

1. Both scans are read in the frame that the network was trained in, the moving one under a linear start.
2. One pass of the network: encodings subtracted, decoded for each direction, gradients integrated.
3. Optionally the field is refined on this pair, as that of ``convex`` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from anamorph.methods.base import setting
from anamorph.methods.learned import NetworkConfig, OnePass
from anamorph.methods.presets import AFTER_A_NETWORK, with_own

if TYPE_CHECKING:
    from anamorph.networks.trained import RegistrationModel

CHANNELS_HELD = 16
"""Volumes at full resolution that a pass of the network holds, in widths of its first stage."""


GUIDED: dict[str, Any] = {
    "control_cell": 1,
    "refine_scales": (1,),
    "refine_iterations": (20,),
    "rate": 0.2,
    "diffusion": 1.0,
}
"""The model for small MR scans that comes along brings a guide, which has more to say than the images have."""


@dataclass(frozen=True)
class SymmetricConfig(NetworkConfig):
    """Settings of ``symmetric``: the model, the start, and the refinement of what the network finds."""

    model: str = setting("symmetric-hippocampus", "a model folder, a run of `anamorph train`, or a model by name")


class Symmetric(OnePass):
    """A trained network, then the refinement that all methods share."""

    name = "symmetric"
    summary = "a trained network: shared encoder, subtraction, gradient integration; then the refinement of convex"
    Config = SymmetricConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(AFTER_A_NETWORK | {"small-mr": GUIDED})
    config: SymmetricConfig

    def pass_bytes(self, model: RegistrationModel, voxels: int) -> int:
        return 4 * voxels * (CHANNELS_HELD * model.first_channels + 24)
