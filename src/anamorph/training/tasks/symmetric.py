"""Training of the method ``symmetric`` (Estienne et al., Learn2Reg 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.symmetric_network import Flow, SymmetricNetwork
from anamorph.networks.warp import one_hot, warp
from anamorph.training.losses.diffusion import diffusion
from anamorph.training.losses.gradient_l1 import gradient_l1
from anamorph.training.losses.local_cross_correlation import local_cross_correlation
from anamorph.training.losses.mean_squared_error import mean_squared_error
from anamorph.training.losses.soft_dice import soft_dice
from anamorph.training.task import Batch, Task
from anamorph.training.tasks.described import describe_model
from anamorph.training.tasks.pairs import Pair, draw_pairs, validation_pairs
from anamorph.training.tasks.registered import measure_pairs
from anamorph.training.tasks.scan_config import ScanConfig
from anamorph.training.tasks.symmetric_presets import PRESETS
from anamorph.training.tasks.varied import read_varied

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from anamorph.training.cache import Cohort


@dataclass(frozen=True)
class SymmetricConfig(ScanConfig):
    """Settings of the training of ``symmetric``; the published ones where nothing else is said."""

    symmetric: bool = setting(True, "train both directions of a pair at once")
    deep_supervision: bool = setting(True, "compare the images also through the fields of the coarser resolutions")
    mse: float = setting(1.0, "weight of the squared difference of the images")
    lcc: float = setting(0.0, "weight of their local cross-correlation")
    lcc_window: int = setting(9, "its window, odd", "voxels")
    dice: float = setting(1.0, "weight of the Dice of the warped labels; 0 trains without labels")
    batch_dice: bool = setting(False, "sum each label over the batch, as published, rather than scan by scan")
    gradient_l1: float = setting(0.01, "weight of the distance of the gradients from the identity")
    diffusion: float = setting(0.0, "weight of the squared derivatives of the field in all directions")
    augment_apart: bool = setting(False, "move each scan of a pair by itself rather than both alike")
    pairs_per_scan: int = setting(1, "pairs of an epoch in which each scan is the moving one")
    merge_validation: bool = setting(False, "train on the validation scans too, for a submission on test scans")
    measured_pairs: int = setting(40, "most validation pairs that are measured")

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.mse, self.lcc, self.dice, self.gradient_l1, self.diffusion)
        if min(weights) < 0 or max(self.mse, self.lcc, self.dice) == 0:
            raise ValueError("the weights must not be negative, and one of mse, lcc and dice must be above 0")
        if self.lcc_window < 3 or self.lcc_window % 2 == 0:
            raise ValueError("lcc_window must be odd and at least 3")
        if self.pairs_per_scan < 1 or self.measured_pairs < 1:
            raise ValueError("pairs_per_scan and measured_pairs must be at least 1")


class SymmetricTask(Task):
    """Pairs within each cohort; images, labels and smoothness, averaged over both directions."""

    name = "symmetric"
    summary = "registration: shared encoder, subtraction, gradient integration, both directions at once"
    Config = SymmetricConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    score: ClassVar[tuple[str, Literal["max", "min"]]] = ("dice", "max")
    config: SymmetricConfig

    def __init__(self, config: SymmetricConfig, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        self.labels = sorted({label for cohort in self.cohorts for label in cohort.annotated})
        self.annotated = torch.tensor([[label in c.annotated for label in self.labels] for c in self.cohorts])
        self.measured = validation_pairs(self.cohorts, config.measured_pairs)
        if not any(self.cohorts[c].annotated for c, _, _ in self.measured):
            self.score = ("loss", "min")  # type: ignore[misc]

    @property
    def needs_labels(self) -> bool:
        return self.config.dice > 0

    def check(self) -> None:
        super().check()
        self.config.check(self.cohorts)
        if self.needs_labels and not self.labels:
            raise UserError("no cohort annotates any label; name them under labels, or train with --set dice=0")

    @classmethod
    def preprocessing(cls, config: SymmetricConfig) -> Preprocessing:
        return config.preprocessing()

    def network(self) -> SymmetricNetwork:
        network = SymmetricNetwork(**self._architecture())
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        return self.config.optimiser(network)

    def training_items(self, epoch: int, generator: Generator) -> list[Pair]:
        return draw_pairs(self.cohorts, self.config.pairs_per_scan, self.config.merge_validation, generator)

    def batch(self, items: Sequence[Pair], device: torch.device, generators: Sequence[Generator]) -> Batch:
        scans = [(cohort, (fixed, moving)) for cohort, fixed, moving in items]
        (fixed, fixed_labels), (moving, moving_labels) = read_varied(
            self.cohorts, scans, self.config.augmentation(), self.config.crop, self.config.augment_apart, device,
            generators,
        )  # fmt: skip
        return {
            "fixed": fixed,
            "moving": moving,
            "fixed_labels": fixed_labels,
            "moving_labels": moving_labels,
            "annotated": self.annotated[[cohort for cohort, _, _ in items]].to(device),
        }

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

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        return measure_pairs(self, network, device)

    def export(self, network: nn.Module) -> dict[str, Any]:
        preprocessing = self.config.preprocessing()
        return describe_model(
            self.name, "symmetric registration", self._architecture(), preprocessing, self.cohorts, self.labels
        )

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
