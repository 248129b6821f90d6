"""Training of features of any contrast, on label maps alone (anatomix: Dey et al., ICLR 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from anamorph.methods.base import setting
from anamorph.networks.widths import Activation
from anamorph.training.contrastive import features_at, label_loss, place_likelihoods, place_loss
from anamorph.training.task import Batch, generator_at
from anamorph.training.tasks.label_maps import VALIDATION_DRAWS, MadeScans, anatomy_in, one_map
from anamorph.training.tasks.scans import ScanTask

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from anamorph.training.cache import Cohort

Scan = tuple[int, int]
"""Cohort and row."""
MARGIN_CELLS = 2
"""Places are compared this far from the border."""
MEASURED_REACH, MEASURED_PLACES = 3, 400
"""Validation looks for each of so many places among all cells that are no further away along each axis."""


@dataclass(frozen=True)
class FeatureTraining(MadeScans):
    """Settings of the training of ``features``."""

    mult: int = setting(4, "width of the network: channels are 4, 8, 16, ... times this")
    convolutions: tuple[int, ...] = setting((2, 2), "3x3x3 convolutions after each halving of the resolution")
    activation: Activation = setting("leaky", "activation of the network")
    stem: int = setting(2, "voxels along each axis of a cell, each of which has one feature", "voxels")
    classes: int = setting(16, "channels of a feature")
    place: float = setting(1.0, "weight of the loss that parts a place from those of other labels around it")
    place_temperature: float = setting(0.1, "temperature of that loss")
    reach: float = setting(6.0, "distance of the other places", "cells")
    others: int = setting(64, "number of the other places")
    label: float = setting(0.0, "weight of the loss that draws together features of one label")
    label_temperature: float = setting(0.33, "temperature of that loss")
    samples: int = setting(384, "places of a scan that are compared in a step")
    apart_vox: int = setting(
        24, "both scans of a body are cut out up to so far apart: else features tell how far the border is", "voxels"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.stem, self.classes, self.others, self.samples) < 1 or self.reach < 1:
            raise ValueError("stem, classes, others, samples and reach must be at least 1")
        if self.crop and self.apart_vox > min(self.crop) // 2:
            raise ValueError("apart_vox must be no more than half of crop")
        if min(self.place_temperature, self.label_temperature) <= 0 or min(self.place, self.label) < 0:
            raise ValueError("temperatures must be above 0, and weights of losses must not be negative")

    @property
    def multiple(self) -> int:
        return self.stem * super().multiple


SHAPES: dict[str, Any] = {
    "spacing_mm": 1.0,
    "crop": (64, 64, 64),
    "flip_axes": (0, 1, 2),
    "rotation_deg": 180.0,
    "zoom": 1.6,
    "shift": 0.25,
    "shear": 0.1,
    "gamma": 0.5,
    "noise": 0.06,
    "strip": 0.0,
    "thickness_vox": 3.5,
    "rate": 2e-3,
    "schedule": "cosine",
    "warmup_steps": 50,
    "average_decay": 0.998,
    "epochs": 100,
    "batch_size": 2,
    "validate_every": 10,
    "validate_first": False,
}


class FeatureTask(ScanTask):
    """Two contrasts of one body: features of a place are to be alike, and unlike those of other structures."""

    name = "features"
    summary = "features of any contrast, from label maps alone, compared beside descriptors (`--set feature_model=RUN`)"
    Config = FeatureTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = {"shapes": SHAPES}
    made = "features"
    built_from = ("classes", "mult", "convolutions", "activation", "residual", "stem")
    score: ClassVar[tuple[str, Literal["max", "min"]]] = ("matched", "max")
    config: FeatureTraining

    def __init__(self, config: FeatureTraining, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        self.anatomies = [anatomy_in(cohort) for cohort in self.cohorts]

    def training_items(self, epoch: int, generator: Generator) -> list[Scan]:
        items = [(n, row) for n, cohort in enumerate(self.cohorts) for row in cohort.of_split("training")]
        return [items[n] for n in torch.randperm(len(items), generator=generator).tolist()]

    def batch(self, items: Sequence[Scan], device: torch.device, generators: Sequence[Generator]) -> Batch:
        made = [self._made(*item, device, random) for item, random in zip(items, generators, strict=True)]
        return {name: torch.stack([one[name] for one in made]) for name in made[0]}

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        first, second = network(torch.cat([batch["first"], batch["second"]])).chunk(2)
        anchors, shift, offsets = batch["anchors"], batch["shift"], batch["offsets"]
        there = anchors + shift[:, :, None]
        ways = (
            (first, second, batch["second_labels"], anchors, shift),
            (second, first, batch["first_labels"], there, -shift),
        )
        # Cosines that differ by thousandths: float32 whatever the precision of the network.
        with torch.autocast(first.device.type, enabled=False):
            losses = [place_loss(place_likelihoods(*way, offsets), config.place_temperature) for way in ways]
            place = torch.stack(losses).mean()
            if config.label == 0:
                return {"loss": config.place * place, "place": place}
            both = torch.cat([features_at(first, anchors), features_at(second, there)], dim=-1)
            label = label_loss(both, batch["labels"].repeat(1, 2), config.label_temperature)
        return {"loss": config.place * place + config.label * label, "place": place, "label": label}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """``matched``: the share of places that are more alike in both contrasts than any of another label around."""
        rows = [(n, row) for n, cohort in enumerate(self.cohorts) for row in cohort.of_split("validation")]
        draws = [(scan, draw) for scan in rows for draw in range(VALIDATION_DRAWS)]
        steps = torch.arange(-MEASURED_REACH, MEASURED_REACH + 1.0)
        offsets = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).reshape(3, -1)
        offsets = offsets[:, offsets.square().sum(0) > 0].to(device)
        shares = []
        for n, (scan, draw) in enumerate(draws, 1):
            made = self._made(*scan, device, generator_at(0, *scan, draw))
            first, second = network(torch.stack([made["first"], made["second"]])).chunk(2)
            anchors, shift, known = (made[name][None] for name in ("anchors", "shift", "second_labels"))
            found = place_likelihoods(first, second, known, anchors[..., :MEASURED_PLACES], shift, offsets[None])
            shares.append(float((found.argmax(-1) == 0).float().mean()))
            self.on_validated(n / len(draws))
        return {"matched": float(np.mean(shares))}

    def export(self, network: nn.Module) -> dict[str, Any]:
        return super().export(network) | {"labels": {}}

    def _made(self, cohort: int, row: int, device: torch.device, random: Generator) -> dict[str, Tensor]:
        """Two scans of a body, places of the first in cells, their labels, the way to the second, and offsets."""
        config = self.config
        labels, spacing = one_map(self.cohorts[cohort], row, device)
        crop = tuple(config.crop) or self.cohorts[cohort].shape
        i, j, k = (n + config.apart_vox for n in crop)
        images, known = config.synthesis().draw_contrasts(2, labels, self.anatomies[cohort], (i, j, k), spacing, random)
        starts = torch.randint(config.apart_vox + 1, (2, 3), generator=random)
        first, second = (_cut(image[0], start, crop)[None] for image, start in zip(images, starts, strict=True))
        shift = (starts[0] - starts[1]) / config.stem
        # Where both show the body, middles of cells of the first; in the other they may lie between cells, as in use.
        low = (-shift).clamp_min(0).ceil() + MARGIN_CELLS
        high = torch.tensor(crop) // config.stem - 1 - shift.clamp_min(0).ceil() - MARGIN_CELLS
        anchors = low[:, None] + (torch.rand((3, config.samples), generator=random) * (high - low)[:, None]).round()
        # The label of a cell is that of its first voxel.
        first_labels, second_labels = (
            _cut(known, start, crop)[:: config.stem, :: config.stem, :: config.stem] for start in starts
        )
        found = first_labels[tuple(anchors.long().to(device))]
        directions = torch.nn.functional.normalize(torch.randn((3, config.others), generator=random), dim=0)
        lengths = 1 + (config.reach - 1) * torch.rand(config.others, generator=random)
        here = {"anchors": anchors, "shift": shift, "offsets": directions * lengths}
        seen = {"first": first, "second": second, "first_labels": first_labels, "second_labels": second_labels}
        return seen | {"labels": found} | {name: one.to(device) for name, one in here.items()}


def _cut(volume: Tensor, start: Tensor, shape: Sequence[int]) -> Tensor:
    i, j, k = (slice(first, first + n) for first, n in zip(start.tolist(), shape, strict=True))
    return volume[i, j, k]
