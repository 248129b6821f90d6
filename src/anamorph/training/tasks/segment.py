"""Training of the segmentation network, on scans (Estienne et al., Learn2Reg 2020) or label maps (SynthSeg)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.evaluation.metrics.dice import dice
from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.methods.base import setting
from anamorph.methods.guide import sureness
from anamorph.networks.blocks import one_hot
from anamorph.networks.widths import Activation
from anamorph.training.augmentation import Augmentation, augmented_batch
from anamorph.training.cache import HIGHEST_LABEL
from anamorph.training.losses import dice_and_cross_entropy, partial_cross_entropy, partial_dice
from anamorph.training.task import Batch, generator_at
from anamorph.training.tasks.label_maps import LEARNED, VALIDATION_DRAWS, MadeScans, anatomy_in, learned_labels, one_map
from anamorph.training.tasks.scans import ADRENAL_GLANDS, EncoderTraining, ScanTask

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
    cut: float = setting(0.0, "largest part that is emptied at one end of every other scan", "share of the extent")
    merge_validation: bool = setting(False, "train on the validation scans too")
    even_cohorts: bool = setting(False, "visit small cohorts as often as the largest one")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem < 1 or self.cross_entropy < 0:
            raise ValueError("stem must be at least 1, and cross_entropy must not be negative")
        if not 0 <= self.cut < 1:
            raise ValueError("cut is a share of the extent, from 0 to below 1")

    @property
    def multiple(self) -> int:
        return self.stem * super().multiple

    def augmentation(self) -> Augmentation:
        return replace(super().augmentation(), cut=self.cut)


PUBLISHED: dict[str, Any] = {
    "leave_out": ADRENAL_GLANDS,
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
        """``dice`` over the scans of the mean over their annotated labels, ``dice_N`` of each label N.

        And ``sure_N``, the median over the scans of how sure the network is of label N, and ``sure_low_N``, what nine
        of ten scans reach, so that it shows in use whether it is less sure.
        """
        scores: dict[int, list[float]] = {}
        sure: dict[int, list[float]] = {}
        means = []
        values = np.array([0, *self.labels])
        for (cohort, row), image, labels, share in self._validation_scans(device):
            probabilities = network(image).float().softmax(1)[0].cpu().numpy()
            predicted = values[probabilities.argmax(0)]
            grid = Grid(predicted.shape, np.eye(4))
            overlaps = dice(Labels(labels[0].cpu().numpy(), grid), Labels(predicted, grid))
            known = [
                label for label, is_known in zip(self.labels, self.annotated[cohort][row], strict=True) if is_known
            ]
            own = {label: overlaps[label] for label in known if label in overlaps}
            for label, value in zip(self.labels, sureness(probabilities[1:]), strict=True):
                if label in own:
                    sure.setdefault(label, []).append(float(value))
            for label, value in own.items():
                scores.setdefault(label, []).append(value)
            if own:
                means.append(float(np.mean([*own.values()])))
            self.on_validated(share)
        each = {f"dice_{label}": float(np.mean(found)) for label, found in sorted(scores.items())}
        for label, found in sorted(sure.items()):
            each[f"sure_{label}"] = float(np.median(found))
            each[f"sure_low_{label}"] = float(np.percentile(found, 10))
        return {"dice": float(np.mean(means)) if means else float("nan"), **each}

    def export(self, network: nn.Module) -> dict[str, Any]:
        return super().export(network) | {"volumes_ml": self._volumes_ml()}

    def _volumes_ml(self) -> dict[int, list[float]]:
        """The smallest and the largest volume of each label in the scans that are trained on and annotate it."""
        found: dict[int, list[float]] = {}
        for cohort in self.cohorts:
            for row in cohort.of_split("training", labelled=True):
                counts = np.bincount(cohort.label_maps[row].ravel(), minlength=HIGHEST_LABEL + 1)
                for label in cohort.annotated_by_row[row]:
                    if counts[label]:
                        found.setdefault(label, []).append(
                            float(counts[label]) * cohort.frames[row].voxel_mm ** 3 / 1000
                        )
        return {label: [min(volumes), max(volumes)] for label, volumes in sorted(found.items())}

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


@dataclass(frozen=True)
class SyntheticTraining(MadeScans, SegmentTraining):
    """Settings of the training of ``segment-synthetic``."""


BRAIN: dict[str, Any] = {
    "spacing_mm": 2.0,
    "crop": (64, 80, 64),
    "stem": 2,
    "mult": 3,
    "convolutions": (1, 2, 2),
    "cross_entropy": 1.0,
    "flip_axes": (0,),
    "rotation_deg": 15.0,
    "zoom": 1.25,
    "shift": 0.2,
    "shear": 0.05,
    "gamma": 0.5,
    "noise": 0.06,
    "rate": 3e-3,
    "schedule": "cosine",
    "warmup_steps": 50,
    "average_decay": 0.99,
    "epochs": 150,
    "batch_size": 1,
    "validate_every": 15,
    "validate_first": False,
}


class SyntheticTask(SegmentTask):
    """Label maps that are bent and given random contrasts; the network learns some of their labels, or unions."""

    name = "segment-synthetic"
    kind = "segment"
    summary = "segmentation of any contrast, from label maps alone (`anamorph predict segment`)"
    Config = SyntheticTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = {"brain": BRAIN}
    config: SyntheticTraining

    def __init__(self, config: SyntheticTraining, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        tables = [learned_labels(cohort) for cohort in self.cohorts]
        self.learned = tables[0]
        self.agreed = all(list(one) == list(self.learned) for one in tables)
        self.labels = list(range(1, len(self.learned) + 1))
        self.annotated = [torch.ones((len(one.frames), len(self.labels)), dtype=torch.bool) for one in self.cohorts]
        self.anatomies = [anatomy_in(cohort) for cohort in self.cohorts]

    def check(self) -> None:
        super().check()
        if not self.agreed:
            raise UserError(f"the data sets name other labels under '{LEARNED}'; a network learns one list of labels")

    def batch(self, items: Sequence[Scan], device: torch.device, generators: Sequence[Generator]) -> Batch:
        made = [self._made(*item, device, random) for item, random in zip(items, generators, strict=True)]
        annotated = torch.stack([self.annotated[cohort][row] for cohort, row in items]).to(device)
        images, labels = zip(*made, strict=True)
        return {"image": torch.stack(images), "labels": torch.stack(labels), "annotated": annotated}

    def export(self, network: torch.nn.Module) -> dict[str, Any]:
        # Bodies of any size are made, of which a part is seen: volumes say nothing.
        return super().export(network) | {"labels": dict(enumerate(self.learned, 1)), "volumes_ml": {}}

    def _validation_scans(self, device: torch.device) -> Iterator[tuple[Scan, Tensor, Tensor, float]]:
        """A few scans of every map, always the same."""
        draws = [(scan, draw) for scan in self._validation_rows() for draw in range(VALIDATION_DRAWS)]
        for n, (scan, draw) in enumerate(draws, 1):
            image, labels = self._made(*scan, device, generator_at(0, *scan, draw))
            yield scan, image[None], labels[None], n / len(draws)

    def _made(self, cohort: int, row: int, device: torch.device, random: Generator) -> tuple[Tensor, Tensor]:
        labels, spacing = one_map(self.cohorts[cohort], row, device)
        shape: Any = tuple(self.config.crop) or self.cohorts[cohort].shape
        return self.config.synthesis().draw(labels, self.anatomies[cohort], shape, spacing, random)
