"""Trainings whose loss compares the fixed scan with the warped moving one: images, labels, smoothness of the field."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from anamorph.methods.base import setting
from anamorph.networks.warp import one_hot, warp
from anamorph.training.losses.diffusion import diffusion
from anamorph.training.losses.field_of_view import field_of_view
from anamorph.training.losses.local_cross_correlation import local_cross_correlation
from anamorph.training.losses.mean_squared_error import mean_squared_error
from anamorph.training.losses.mind_difference import mind_difference
from anamorph.training.losses.mutual_information import mutual_information
from anamorph.training.losses.soft_dice import soft_dice
from anamorph.training.task import Batch
from anamorph.training.tasks.pair_task import PairConfig, PairTask

if TYPE_CHECKING:
    from torch import Tensor, nn


class Predicted(Protocol):
    """One direction as a network gives it; ``(B, 3, I, J, K)`` voxels each."""

    @property
    def disp_vox(self) -> Tensor:
        """The field."""

    @property
    def coarse_disp_vox(self) -> Sequence[Tensor]:
        """Fields of coarser resolutions, through which the images are compared too."""


@dataclass(frozen=True)
class WarpedPairConfig(PairConfig):
    """Weights of the comparisons."""

    mse: float = setting(1.0, "weight of the squared difference of the images")
    lcc: float = setting(0.0, "weight of their local cross-correlation")
    lcc_window: int = setting(9, "its window, odd", "voxels")
    mi: float = setting(0.0, "weight of their mutual information")
    mind: float = setting(0.0, "weight of the squared difference of their MIND-SSC")
    mind_radius: int = setting(1, "its patch radius", "voxels")
    mind_dilation: int = setting(2, "its distance of the neighbours that are compared", "voxels")
    dice: float = setting(1.0, "weight of the Dice of the warped labels; 0 trains without labels")
    batch_dice: bool = setting(False, "sum each label over the batch, as published, rather than scan by scan")
    diffusion: float = setting(0.0, "weight of the squared derivatives of the field in all directions")

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.mse, self.lcc, self.mi, self.mind, self.dice)
        if min(*weights, self.diffusion) < 0 or max(weights) == 0:
            raise ValueError("the weights must not be negative, and one of mse, lcc, mi, mind and dice must be above 0")
        if self.lcc_window < 3 or self.lcc_window % 2 == 0:
            raise ValueError("lcc_window must be odd and at least 3")
        if self.mind_radius < 0 or self.mind_dilation < 1:
            raise ValueError("mind_radius must not be negative, and mind_dilation at least 1")


class WarpedPairTask(PairTask):
    """The loss is the sum of the parts that have a weight, averaged over the directions that are trained."""

    without_labels = "dice=0"
    config: WarpedPairConfig

    @property
    def needs_labels(self) -> bool:
        return self.config.dice > 0

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        sides = [(batch["fixed"], batch["fixed_labels"]), (batch["moving"], batch["moving_labels"])]
        directions = [
            self._direction_loss(predicted, *here, *there, batch["annotated"])
            for predicted, here, there in zip(self._predict(network, batch), sides, reversed(sides), strict=False)
        ]
        parts = {name: torch.stack([one[name] for one in directions]).mean() for name in directions[0]}
        total = torch.stack([getattr(self.config, name) * value for name, value in parts.items()]).sum()
        return {"loss": total, **parts}

    @abstractmethod
    def _predict(self, network: nn.Module, batch: Batch) -> Sequence[Predicted]:
        """The forward direction, and the backward one if it is trained too."""

    def _direction_loss(
        self, predicted: Predicted, here: Tensor, here_labels: Tensor, there: Tensor, there_labels: Tensor,
        annotated: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The parts of the loss by the names of their weights, for the field from ``here`` to ``there``."""
        config = self.config
        parts: dict[str, Tensor] = {}
        values = here.new_tensor(self.labels)
        with_labels = config.dice > 0 and bool(self.labels)
        # One reading of images and labels through the finest field.
        stacked = [there, one_hot(there_labels[:, None], values)] if with_labels else [there]
        pulled = warp(torch.cat(stacked, dim=1), predicted.disp_vox)
        warped, warped_labels = pulled[:, : there.shape[1]], pulled[:, there.shape[1] :]
        views = [warped, *(warp(there, disp_vox) for disp_vox in predicted.coarse_disp_vox)]
        if config.mse > 0:
            parts["mse"] = torch.stack([mean_squared_error(here, view) for view in views]).mean()
        if config.lcc > 0:
            mask = field_of_view(here) * field_of_view(there)
            losses = [local_cross_correlation(here, view, config.lcc_window, mask=mask) for view in views]
            parts["lcc"] = torch.stack(losses).mean()
        if config.mi > 0:
            parts["mi"] = torch.stack([mutual_information(here, view) for view in views]).mean()
        if config.mind > 0:
            patches = config.mind_radius, config.mind_dilation
            parts["mind"] = torch.stack([mind_difference(here, view, *patches) for view in views]).mean()
        if with_labels:
            target = one_hot(here_labels[:, None], values)
            parts["dice"] = soft_dice(warped_labels, target, annotated, over_batch=config.batch_dice)
        if config.diffusion > 0:
            parts["diffusion"] = diffusion(predicted.disp_vox)
        return parts
