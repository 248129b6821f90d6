"""``pwc``: a trained network searches from coarse to fine (after PWC-Net: Sun et al., CVPR 2018).

1. Both scans are read in the frame that the network was trained in, the moving one under a linear start.
2. One pass of the network: a pyramid of features, and at each resolution a warp, a small cost volume and a correction,
   in both directions.
3. Optionally the field is refined on this pair, as that of ``convex`` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from anamorph.methods.learned import NetworkConfig, OnePass
from anamorph.methods.presets import AFTER_A_NETWORK, with_own

if TYPE_CHECKING:
    from anamorph.networks.trained import RegistrationModel

CHANNELS_HELD = 4
"""Volumes at full resolution that the features take while they are made, in widths of their first stage."""
COSTS_HELD = 3
"""The costs, what is convolved together with them, and their softmax."""


@dataclass(frozen=True)
class PwcConfig(NetworkConfig):
    """Settings of ``pwc``: the model, the start, and the refinement of what the network finds."""


class Pwc(OnePass):
    """A trained network, then the refinement that all methods share."""

    name = "pwc"
    summary = (
        "a trained network: feature pyramid, warps and small cost volumes from coarse to fine; then the refinement"
    )
    Config = PwcConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(AFTER_A_NETWORK)
    config: PwcConfig

    def pass_bytes(self, model: RegistrationModel, voxels: int) -> int:
        network = model.architecture
        labels = (2 * network["radius"] + 1) ** 3
        # Both directions, at the finest resolution of the search.
        searched = 2 * (COSTS_HELD * labels + 4 * network["width"]) // 8 ** network["finest"]
        return 4 * voxels * (CHANNELS_HELD * model.first_channels + searched + 24)
