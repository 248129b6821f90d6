"""Training of the segmentation network that predicts pseudo-labels (Estienne et al., Learn2Reg 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.evaluation.metrics.dice import dice
from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.methods.base import setting
from anamorph.networks.blocks import Activation, one_hot
from anamorph.training.augmentation import augmented_batch
from anamorph.training.cache import HIGHEST_LABEL
from anamorph.training.losses import dice_and_cross_entropy, partial_cross_entropy, partial_dice
from anamorph.training.task import Batch
from anamorph.training.tasks.scans import EncoderTraining, ScanTask

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from anamorph.training.cache import Cohort

Scan = tuple[int, int]
"""Cohort and row."""


@dataclass(frozen=True)
class SegmentTraining(EncoderTraining):
    """Settings of the training of ``segment``; the published ones where nothing else is said."""

    mult: int = setting(4, "width of the network: channels are 4, 8, 16, ... times this")
    activation: Activation = setting("leaky", "activation of the network")
    stem: int = setting(1, "voxels along each axis that the network sees as one; 2 is four times as fast", "voxels")
    cross_entropy: float = setting(0.0, "weight of the cross entropy beside the Dice; 0 as published")
    merge_validation: bool = setting(False, "train on the validation scans too")
    even_cohorts: bool = setting(False, "visit small cohorts as often as the largest one")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem < 1 or self.cross_entropy < 0:
            raise ValueError("stem must be at least 1, and cross_entropy must not be negative")

    @property
    def multiple(self) -> int:
        return self.stem * super().multiple


PUBLISHED: dict[str, Any] = {
    "normalise": "windows",
    "windows": (-160.0, 240.0),
    "crop": (144, 144, 144),
    "flip_axes": (0, 1, 2),
    "quarter_turns": True,
    "rate": 1e-4,
    "epochs": 400,
    "batch_size": 3,
    "gradient_clip": 0.0,
    "precision": "32-true",
}
SMALL: dict[str, Any] = {
    "mult": 2,
    "rotation_deg": 10.0,
    "zoom": 1.15,
    "shift": 0.05,
    "gamma": 0.3,
    "rate": 3e-3,
    "schedule": "cosine",
    "warmup_steps": 20,
}
"""For small scans on a few cores."""
SMALL_HEAD_NECK: dict[str, Any] = SMALL | {
    "spacing_mm": 6.0,
    "shape": (48, 48, 64),
    "normalise": "windows",
    "windows": (-160.0, 240.0, -1000.0, 1000.0),
    "epochs": 60,
    "batch_size": 3,
    "validate_every": 5,
    "even_cohorts": True,
}
SMALL_HIPPOCAMPUS: dict[str, Any] = SMALL | {
    "spacing_mm": 1.0,
    "shape": (48, 64, 48),
    "flip_axes": (0,),
    "epochs": 16,
    "batch_size": 4,
    "validate_every": 4,
}
PRESETS: dict[str, dict[str, Any]] = {
    "abdomen": PUBLISHED,
    "small-head-neck": SMALL_HEAD_NECK,
    "small-hippocampus": SMALL_HIPPOCAMPUS,
}


class SegmentTask(ScanTask):
    """Single scans that annotate different labels; only annotated ones are learned from."""

    name = "segment"
    summary = "segmentation by cohorts that annotate different labels, for pseudo-labels (`anamorph predict segment`)"
    Config = SegmentTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    made = "segmentation"
    built_from = ("mult", "convolutions", "activation", "residual", "stem")
    config: SegmentTraining

    def check(self) -> None:
        super().check()
        if not self.labels:
            raise UserError("no cohort annotates any label; name them under labels in the manifests")

    def training_items(self, epoch: int, generator: Generator) -> list[Scan]:
        rows = [self._rows(cohort) for cohort in self.cohorts]
        most = max(map(len, rows))
        items = []
        for number, own in enumerate(rows):
            times = most // len(own) if own and self.config.even_cohorts else 1
            items += [(number, row) for row in own] * times
        return [items[n] for n in torch.randperm(len(items), generator=generator).tolist()]

    def batch(self, items: Sequence[Scan], device: torch.device, generators: Sequence[Generator]) -> Batch:
        scans = [(cohort, (row,)) for cohort, row in items]
        config = self.config
        ((image, labels),) = augmented_batch(
            self.cohorts, scans, config.augmentation(), config.crop, False, device, generators
        )
        annotated = torch.stack([self.annotated[cohort][row] for cohort, row in items]).to(device)
        return {"image": image, "labels": labels, "annotated": annotated}

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits, annotated = network(batch["image"]).float(), batch["annotated"]
        if self.config.cross_entropy > 0 and bool(annotated.all()):
            channels = torch.zeros(HIGHEST_LABEL + 1, dtype=torch.int64, device=logits.device)
            channels[self.labels] = torch.arange(1, len(self.labels) + 1, device=logits.device)
            overlap, entropy = dice_and_cross_entropy(logits, channels[batch["labels"].long()])
            return self._summed(overlap, entropy)
        target = one_hot(batch["labels"][:, None], logits.new_tensor(self.labels))
        overlap = partial_dice(logits.softmax(1)[:, 1:], target, annotated)
        if self.config.cross_entropy == 0:
            return {"loss": overlap}
        entropy = partial_cross_entropy(logits, batch["labels"], self.labels, annotated)
        return self._summed(overlap, entropy)

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """``dice`` over the scans of the mean over their annotated labels, ``dice_N`` of each label N."""
        scores: dict[int, list[float]] = {}
        means = []
        values = np.array([0, *self.labels])
        for (cohort, row), image, labels, share in self._validation_scans(device):
            predicted = values[network(image).argmax(1)[0].cpu().numpy()]
            grid = Grid(predicted.shape, np.eye(4))
            overlaps = dice(Labels(labels[0].cpu().numpy(), grid), Labels(predicted, grid))
            known = [
                label for label, is_known in zip(self.labels, self.annotated[cohort][row], strict=True) if is_known
            ]
            own = {label: overlaps[label] for label in known if label in overlaps}
            for label, value in own.items():
                scores.setdefault(label, []).append(value)
            if own:
                means.append(float(np.mean([*own.values()])))
            self.on_validated(share)
        each = {f"dice_{label}": float(np.mean(found)) for label, found in sorted(scores.items())}
        return {"dice": float(np.mean(means)) if means else float("nan"), **each}

    def _summed(self, overlap: Tensor, entropy: Tensor) -> dict[str, Tensor]:
        return {"loss": overlap + self.config.cross_entropy * entropy, "dice": overlap, "cross_entropy": entropy}

    def _validation_scans(self, device: torch.device) -> Iterator[tuple[Scan, Tensor, Tensor, float]]:
        """Where each scan is from, the scan and its label map as batches of one, and the share that is then done."""
        scans = self._validation_rows()
        for n, (cohort, row) in enumerate(scans, 1):
            yield (cohort, row), *self.cohorts[cohort].load([row], device), n / len(scans)

    def _validation_rows(self) -> list[Scan]:
        cohorts = enumerate(self.cohorts)
        return [(n, row) for n, one in cohorts for row in one.of_split("validation", labelled=True)]

    def _rows(self, cohort: Cohort) -> list[int]:
        return cohort.of_split("training") + (cohort.of_split("validation") if self.config.merge_validation else [])

    def _architecture(self) -> dict[str, Any]:
        return super()._architecture() | {"classes": len(self.labels) + 1}
