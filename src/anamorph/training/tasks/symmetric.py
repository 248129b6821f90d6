"""Training of the method ``symmetric`` (Estienne et al., Learn2Reg 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from anamorph.methods.base import setting
from anamorph.networks.symmetric_network import Flow, SymmetricNetwork
from anamorph.networks.warp import one_hot, warp
from anamorph.training.losses.diffusion import diffusion
from anamorph.training.losses.gradient_l1 import gradient_l1
from anamorph.training.losses.local_cross_correlation import local_cross_correlation
from anamorph.training.losses.mean_squared_error import mean_squared_error
from anamorph.training.losses.soft_dice import soft_dice
from anamorph.training.task import Batch
from anamorph.training.tasks.pair_task import PairConfig, PairTask
from anamorph.training.tasks.scan_config import ScanConfig
from anamorph.training.tasks.symmetric_presets import PRESETS

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SymmetricConfig(ScanConfig, PairConfig):
    """Settings of the training of ``symmetric``; the published ones where nothing else is said."""

    deep_supervision: bool = setting(True, "compare the images also through the fields of the coarser resolutions")
    mse: float = setting(1.0, "weight of the squared difference of the images")
    lcc: float = setting(0.0, "weight of their local cross-correlation")
    lcc_window: int = setting(9, "its window, odd", "voxels")
    dice: float = setting(1.0, "weight of the Dice of the warped labels; 0 trains without labels")
    batch_dice: bool = setting(False, "sum each label over the batch, as published, rather than scan by scan")
    gradient_l1: float = setting(0.01, "weight of the distance of the gradients from the identity")
    diffusion: float = setting(0.0, "weight of the squared derivatives of the field in all directions")

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.mse, self.lcc, self.dice, self.gradient_l1, self.diffusion)
        if min(weights) < 0 or max(self.mse, self.lcc, self.dice) == 0:
            raise ValueError("the weights must not be negative, and one of mse, lcc and dice must be above 0")
        if self.lcc_window < 3 or self.lcc_window % 2 == 0:
            raise ValueError("lcc_window must be odd and at least 3")


class SymmetricTask(PairTask):
    """Pairs within each cohort; images, labels and smoothness, averaged over both directions."""

    name = "symmetric"
    summary = "registration: shared encoder, subtraction, gradient integration, both directions at once"
    Config = SymmetricConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    registration = "symmetric registration"
    without_labels = "dice=0"
    config: SymmetricConfig

    @property
    def needs_labels(self) -> bool:
        return self.config.dice > 0

    def network(self) -> SymmetricNetwork:
        network = SymmetricNetwork(**self._architecture())
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        both, coarse = config.symmetric, config.deep_supervision and network.training
        flows: list[Flow] = network(batch["fixed"], batch["moving"], both, coarse)
        sides = [(batch["fixed"], batch["fixed_labels"]), (batch["moving"], batch["moving_labels"])]
        directions = [
            self._direction_loss(flow, *here, *there, batch["annotated"])
            for flow, here, there in zip(flows, sides, reversed(sides), strict=False)
        ]
        parts = {name: torch.stack([one[name] for one in directions]).mean() for name in directions[0]}
        total = torch.stack([getattr(config, name) * value for name, value in parts.items()]).sum()
        return {"loss": total, **parts}

    def _architecture(self) -> dict[str, Any]:
        own = self.config.architecture(self.cohorts[0].channels)
        return own | {"deep_supervision": self.config.deep_supervision}

    def _direction_loss(
        self, flow: Flow, here: Tensor, here_labels: Tensor, there: Tensor, there_labels: Tensor, annotated: Tensor
    ) -> dict[str, Tensor]:
        """The parts of the loss that have a weight, for the field from ``here`` to ``there``."""
        config = self.config
        parts: dict[str, Tensor] = {}
        values = here.new_tensor(self.labels)
        with_labels = config.dice > 0 and bool(self.labels)
        # One reading of images and labels through the finest field.
        stacked = [there, one_hot(there_labels[:, None], values)] if with_labels else [there]
        pulled = warp(torch.cat(stacked, dim=1), flow.disp_vox)
        warped, warped_labels = pulled[:, : there.shape[1]], pulled[:, there.shape[1] :]
        views = [warped, *(warp(there, disp_vox) for disp_vox in flow.coarse_disp_vox)]
        if config.mse > 0:
            parts["mse"] = torch.stack([mean_squared_error(here, view) for view in views]).mean()
        if config.lcc > 0:
            mask = field_of_view(here) * field_of_view(there)
            losses = [local_cross_correlation(here, view, config.lcc_window, mask=mask) for view in views]
            parts["lcc"] = torch.stack(losses).mean()
        if with_labels:
            target = one_hot(here_labels[:, None], values)
            parts["dice"] = soft_dice(warped_labels, target, annotated, over_batch=config.batch_dice)
        if config.gradient_l1 > 0:
            parts["gradient_l1"] = gradient_l1(flow.gradients)
        if config.diffusion > 0:
            parts["diffusion"] = diffusion(flow.disp_vox)
        return parts


def field_of_view(image: Tensor) -> Tensor:
    """``(B, 1, I, J, K)``: 1 in the box around the values above 0, which is what a scan padded by 0 has seen."""
    seen = (image > 0).any(dim=1, keepdim=True)
    box = torch.ones_like(image[:, :1])
    for axis in (2, 3, 4):
        others = tuple(a for a in (2, 3, 4) if a != axis)
        line = seen.any(dim=others[0], keepdim=True).any(dim=others[1], keepdim=True).to(image.dtype)
        # Between the first and the last voxel that holds anything.
        box = box * line.cummax(axis)[0] * line.flip(axis).cummax(axis)[0].flip(axis)
    return box
