"""Training of the method ``symmetric`` (Estienne et al., Learn2Reg 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from anamorph.methods.base import setting
from anamorph.networks.symmetric_network import Flow
from anamorph.training.losses import gradient_l1
from anamorph.training.task import Batch
from anamorph.training.tasks.pair_task import WarpedPairTask, WarpedPairTraining
from anamorph.training.tasks.scans import ADRENAL_GLANDS, EncoderTraining

if TYPE_CHECKING:
    from torch import Tensor, nn


ABDOMEN: dict[str, Any] = {
    "leave_out": ADRENAL_GLANDS,
    "mult": 8,
    "activation": "relu",
    "normalise": "windows",
    "windows": (-160.0, 240.0, -300.0, 500.0, -100.0, 900.0),
    "crop": (128, 128, 128),
    "mse": 1.0,
    "lcc": 0.0,
    "dice": 1.0,
    "batch_dice": True,
    "gradient_l1": 0.01,
    "rate": 1e-4,
    "epochs": 300,
    "batch_size": 2,
    "gradient_clip": 0.0,
    "precision": "32-true",
}
HIPPOCAMPUS: dict[str, Any] = {
    "mult": 8,
    "activation": "leaky",
    "residual": True,
    "shape": (64, 64, 64),
    "normalise": "zscore",
    "flip_axes": (0, 1, 2),
    "quarter_turns": True,
    "affine_chance": 1.0,
    "rotation_deg": 20.0,
    "zoom": 1.2,
    "shift": 10 / 64,
    "mse": 0.0,
    "lcc": 1.0,
    "dice": 1.0,
    "batch_dice": True,
    "gradient_l1": 0.1,
    "rate": 1e-4,
    "epochs": 600,
    "batch_size": 8,
    "gradient_clip": 0.0,
    "precision": "32-true",
}
SMALL: dict[str, Any] = {
    "mult": 2,
    "activation": "leaky",
    "residual": True,
    "deep_supervision": False,
    "rotation_deg": 10.0,
    "zoom": 1.1,
    "shift": 0.03,
    "gamma": 0.3,
    "mse": 0.0,
    "lcc": 1.0,
    "dice": 1.0,
    "gradient_l1": 0.1,
    "diffusion": 0.2,
    "rate": 2e-3,
    "epochs": 60,
    "batch_size": 2,
    "schedule": "cosine",
    "warmup_steps": 50,
    "validate_every": 5,
}
"""For scans of up to about 64 x 64 x 64 voxels on a few cores: a narrow network, a high rate that falls."""
SMALL_HIPPOCAMPUS: dict[str, Any] = SMALL | {"spacing_mm": 1.0, "shape": (48, 64, 48), "flip_axes": (0,)}
SMALL_HEAD_NECK: dict[str, Any] = SMALL | {
    "spacing_mm": 6.0,
    "shape": (48, 48, 64),
    "normalise": "windows",
    "windows": (-160.0, 240.0, -1000.0, 1000.0),
    "batch_size": 2,
}


def _recipes(name: str, common: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The five models: each is one training, the last three with ``--pretrained``."""
    return {
        f"{name}-baseline": common | {"symmetric": False},
        f"{name}-symmetric": common,
        f"{name}-unsupervised": common | {"dice": 0.0},
        f"{name}-noisy-labels": common,
        f"{name}-test": common | {"merge_validation": True},
    }


PRESETS: dict[str, dict[str, Any]] = {
    **_recipes("abdomen", ABDOMEN),
    **_recipes("hippocampus", HIPPOCAMPUS),
    **_recipes("small-hippocampus", SMALL_HIPPOCAMPUS),
    **_recipes("small-head-neck", SMALL_HEAD_NECK),
}


@dataclass(frozen=True)
class SymmetricTraining(EncoderTraining, WarpedPairTraining):
    """Settings of the training of ``symmetric``; the published ones where nothing else is said."""

    deep_supervision: bool = setting(True, "compare the images also through the fields of the coarser resolutions")
    gradient_l1: float = setting(0.01, "weight of the distance of the gradients from the identity")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gradient_l1 < 0:
            raise ValueError("gradient_l1 must not be negative")


class SymmetricTask(WarpedPairTask):
    """Pairs within each cohort; images, labels and smoothness, averaged over both directions."""

    name = "symmetric"
    summary = "registration: shared encoder, subtraction, gradient integration, both directions at once"
    made = "symmetric registration"
    built_from = ("mult", "convolutions", "activation", "residual", "deep_supervision")
    Config = SymmetricTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    config: SymmetricTraining

    def _predict(self, network: nn.Module, batch: Batch) -> list[Flow]:
        coarse = self.config.deep_supervision and network.training
        flows: list[Flow] = network(batch["fixed"], batch["moving"], self.config.symmetric, coarse)
        return flows

    def _direction_loss(self, predicted: Flow, *sides: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        parts = super()._direction_loss(predicted, *sides)
        if self.config.gradient_l1 > 0:
            parts["gradient_l1"] = gradient_l1(predicted.gradients)
        return parts
