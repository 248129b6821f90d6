"""Training of the method ``symmetric`` (Estienne et al., Learn2Reg 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from anamorph.methods.base import setting
from anamorph.networks.symmetric_network import Flow, SymmetricNetwork
from anamorph.training.losses.gradient_l1 import gradient_l1
from anamorph.training.task import Batch
from anamorph.training.tasks.scan_config import ScanConfig
from anamorph.training.tasks.symmetric_presets import PRESETS
from anamorph.training.tasks.warped_pair_task import WarpedPairConfig, WarpedPairTask

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SymmetricConfig(ScanConfig, WarpedPairConfig):
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
    registration = "symmetric registration"
    Config = SymmetricConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    config: SymmetricConfig

    def network(self) -> SymmetricNetwork:
        network = SymmetricNetwork(**self._architecture())
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def _predict(self, network: nn.Module, batch: Batch) -> list[Flow]:
        coarse = self.config.deep_supervision and network.training
        flows: list[Flow] = network(batch["fixed"], batch["moving"], self.config.symmetric, coarse)
        return flows

    def _direction_loss(self, predicted: Flow, *sides: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        parts = super()._direction_loss(predicted, *sides)
        if self.config.gradient_l1 > 0:
            parts["gradient_l1"] = gradient_l1(predicted.gradients)
        return parts

    def _architecture(self) -> dict[str, Any]:
        own = self.config.architecture(self.cohorts[0].channels)
        return own | {"deep_supervision": self.config.deep_supervision}
