"""The smallest training there is: one convolution learns to find the label of small scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import small_dataset
from anamorph.data import read_dataset
from anamorph.methods.base import setting
from anamorph.networks.preprocessing import Preprocessing
from anamorph.training.augmentation import Augmentation
from anamorph.training.cache import Cohort
from anamorph.training.fabric import make_fabric
from anamorph.training.run_folder import RunFolder, describe_training
from anamorph.training.settings import LoopSettings
from anamorph.training.task import Task

needs_fabric = pytest.mark.skipif(find_spec("lightning_fabric") is None, reason="needs the extra [train]")
AUGMENTATION = Augmentation(flip_axes=(0,), rotation_deg=20, shift=0.1, gamma=0.3, noise=0.05)


@dataclass(frozen=True)
class ToyConfig:
    rate: float = setting(0.01, "learning rate")
    width: int = setting(3, "channels")


class ToyNetwork(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.checkpointing = False
        self.layers = nn.ModuleList([nn.Conv3d(1, width, 3, padding=1), nn.Conv3d(width, 1, 3, padding=1)])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        def both(x: torch.Tensor) -> torch.Tensor:
            return self.layers[1](torch.relu(self.layers[0](x)))

        if self.checkpointing:
            return torch.utils.checkpoint.checkpoint(both, images, use_reentrant=False)
        return both(images)


class ToyTask(Task):
    name = "toy"
    summary = "one convolution"
    Config = ToyConfig
    presets: dict[str, dict[str, Any]] = {"fast": {"rate": 0.1, "epochs": 2}}  # noqa: RUF012
    score = ("dice", "max")

    @classmethod
    def preprocessing(cls, config: ToyConfig) -> Preprocessing:
        return Preprocessing(multiple=4)

    def network(self) -> nn.Module:
        return ToyNetwork(self.config.width)

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), self.config.rate)

    def training_items(self, epoch: int, generator: torch.Generator) -> list[int]:
        rows = self.cohorts[0].of_split("training")
        return [rows[n] for n in torch.randperm(len(rows), generator=generator)]

    def batch(self, items: Sequence[int], device: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
        images, labels = self.cohorts[0].load(items, device)
        maps = [AUGMENTATION.draw(generator) for generator in generators]
        images, moved = AUGMENTATION.move(maps, images, labels)
        return {"images": AUGMENTATION.recolour(images, list(generators)), "labels": moved}

    def loss(self, network: nn.Module, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        loss = F.binary_cross_entropy_with_logits(network(batch["images"])[:, 0], batch["labels"].float())
        return {"loss": loss, "part": 2 * loss}

    def validate(self, network: nn.Module, device: Any) -> dict[str, float]:
        images, labels = self.cohorts[0].load(self.cohorts[0].of_split("validation"), device)
        found = torch.sigmoid(network(images)[:, 0])
        return {"dice": float((2 * (found * labels).sum() / (found.sum() + labels.sum())).detach()), "loss": 0.5}

    def export(self, network: nn.Module) -> dict[str, Any]:
        return {"summary": "a toy", "architecture": {"width": self.config.width}}


def make_cohort(folder: Path, subjects: int = 8, **changes: Any) -> Cohort:
    """Training subjects 1, 2, 5, 6, ...; validation subjects 3 and 4."""
    dataset = read_dataset(small_dataset.make_learn2reg(folder / "data", subjects, **changes))
    return Cohort.of(dataset, ToyTask.preprocessing(ToyConfig()), folder / "cache")


def begin(folder: Path, task: ToyTask, loop: LoopSettings) -> RunFolder:
    run = RunFolder(folder)
    described = describe_training(task.name, "default", task.settings(), loop, task.cohorts, device="cpu")
    run.begin(described, [cohort.dataset for cohort in task.cohorts])
    return run


def one_process(precision: str = "32-true") -> Any:
    fabric = make_fabric("cpu", 1, precision)
    fabric.launch()
    return fabric
