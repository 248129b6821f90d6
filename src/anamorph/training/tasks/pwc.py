"""Training of the method ``pwc`` (after PWC-Net: Sun et al., CVPR 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from anamorph.methods.base import setting
from anamorph.networks.pwc_network import PwcFlow
from anamorph.training.task import Batch
from anamorph.training.tasks.pair_task import WarpedPairTask, WarpedPairTraining

if TYPE_CHECKING:
    from torch import nn


SMALL: dict[str, Any] = {
    "rotation_deg": 10.0,
    "zoom": 1.1,
    "shift": 0.03,
    "gamma": 0.3,
    "mse": 0.0,
    "lcc": 1.0,
    "dice": 1.0,
    "diffusion": 0.2,
    "rate": 1e-3,
    "epochs": 60,
    "batch_size": 2,
    "schedule": "cosine",
    "warmup_steps": 50,
    "validate_every": 5,
}
"""For scans of up to about 64 x 64 x 64 voxels on a few cores."""
PRESETS: dict[str, dict[str, Any]] = {
    "small-hippocampus": SMALL | {"spacing_mm": 1.0, "shape": (48, 64, 48), "flip_axes": (0,)},
    "small-head-neck": SMALL
    | {
        "spacing_mm": 6.0,
        "shape": (64, 48, 64),
        "normalise": "windows",
        "windows": (-160.0, 240.0, -1000.0, 1000.0),
    },
}


@dataclass(frozen=True)
class PwcTraining(WarpedPairTraining):
    """Settings of the training of ``pwc``."""

    mult: int = setting(2, "width of the features: channels are 4, 8, 16, ... times this")
    convolutions: tuple[int, ...] = setting((1, 1, 1), "3x3x3 convolutions after each halving of the resolution")
    finest: int = setting(1, "halvings of the resolution at which the search ends")
    radius: int = setting(2, "how far each step looks", "voxels of its resolution")
    width: int = setting(32, "channels of the convolutions that correct the field")
    deep_supervision: bool = setting(False, "compare the images also through the fields of the coarser steps")
    rate: float = setting(1e-3, "learning rate of Adam")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.mult, self.radius, self.width) < 1 or not self.convolutions or min(self.convolutions) < 0:
            raise ValueError("mult, radius and width must be at least 1; convolutions needs a number per resolution")
        if not 0 <= self.finest <= len(self.convolutions):
            raise ValueError("finest must be between 0 and the number of resolutions")

    @property
    def multiple(self) -> int:
        return 2 ** len(self.convolutions)


class PwcTask(WarpedPairTask):
    """Pairs within each cohort; images, labels and smoothness, averaged over both directions."""

    name = "pwc"
    summary = "registration: feature pyramid, warps and small cost volumes from coarse to fine (PWC-Net in 3D)"
    made = "coarse-to-fine registration"
    built_from = ("mult", "finest", "radius", "width", "convolutions")
    Config = PwcTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    config: PwcTraining

    def _predict(self, network: nn.Module, batch: Batch) -> list[PwcFlow]:
        coarse = self.config.deep_supervision and network.training
        flows: list[PwcFlow] = network(batch["fixed"], batch["moving"], self.config.symmetric, coarse)
        return flows
