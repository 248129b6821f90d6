"""Training of the method ``slicreg`` (Heinrich and Hansen, MIDL 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from anamorph.features.layer_codes import draw_codes, label_centres
from anamorph.methods.learned import lattice
from anamorph.methods.slicreg import PredictedLayers, SlicregConfig, keypoint_field
from anamorph.networks.supervoxel_network import SupervoxelNetwork
from anamorph.training.task import Batch
from anamorph.training.tasks.template_task import PRESETS, TemplateTask, TemplateTraining, at_outputs, read_nearest

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class SlicregTraining(TemplateTraining):
    """Settings of the training of ``slicreg``."""


class SlicregTask(TemplateTask):
    """The supervoxels of the template, warped to every scan, are segmented."""

    name = "slicreg"
    summary = "registration by segmentation into the supervoxels of a template (`anamorph slicreg prepare` first)"
    Config = SlicregTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    def network(self) -> SupervoxelNetwork:
        network = SupervoxelNetwork(**self._architecture())
        network.template.copy_(self.scans.template_labels)
        return network

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        losses = network(batch["image"], batch["labels"])
        return {"loss": losses.mean(), "worst_layer": losses.detach().mean(dim=0).max()}

    def _architecture(self) -> dict[str, Any]:
        layers = self.scans.template_layers.count
        return self._shared_architecture() | {"layers": layers, "classes": self.scans.classes}

    def _target(self, row: int, positions: Tensor, generator: Generator, device: torch.device) -> dict[str, Tensor]:
        return {"labels": read_nearest(self.scans.labels(row).to(device), at_outputs(positions))}

    def _measure(self, network: nn.Module, row: int, device: torch.device) -> dict[str, float]:
        wanted = self.scans.labels(row)[:, 1::2, 1::2, 1::2].to(device).long()
        image = self.scans.image(row, device, self.config.divisor)[None]
        losses, likeliest = [], []
        for layer, scores in zip(wanted, network.scores_by_layer(image), strict=True):  # type: ignore[operator]
            losses.append(float(cross_entropy(scores[None].float(), layer[None])))
            likeliest.append(scores.argmax(dim=0))
        found = torch.stack(likeliest)
        inside = wanted[0] > 0
        apart = (self._places(found) - self._places(wanted)).square().sum(dim=0).sqrt()
        return {
            "loss": float(np.mean(losses)),
            "accuracy": float((found == wanted)[:, inside].float().mean()),
            "position_mm": float(apart[inside].mean()) * float(self.scans.frame.spacing_mm[0]),
        }

    def _places(self, labels: Tensor) -> Tensor:
        """``(3, i, j, k)`` template voxels: the mean centre of the supervoxels that ``(L, i, j, k)`` labels name.

        The background names no place; where all layers say so a voxel is taken to stay.
        """
        places, named = torch.zeros_like(self.outputs()).to(labels.device), (labels > 0).sum(dim=0)
        for layer, centres in zip(labels, self._centres, strict=True):
            places += torch.from_numpy(centres).to(places)[layer].permute(3, 0, 1, 2) * (layer > 0)
        return torch.where(named > 0, places / named.clamp(min=1), self.outputs().to(places))

    @cached_property
    def _centres(self) -> np.ndarray:
        """``(L, classes, 3)`` of the template's supervoxels; those outside its frame are named by nothing."""
        return np.nan_to_num(label_centres(self.scans.template_labels.numpy(), self.scans.classes))

    def _from_template(self, network: nn.Module, row: int, device: torch.device) -> np.ndarray:
        settings = SlicregConfig()
        frame = self.scans.frame
        bare: Any = network
        codes = draw_codes(bare.layers, bare.classes, np.random.default_rng(0))
        template = PredictedLayers.given(self.scans.template_labels.numpy(), frame, codes, str(device))
        image = self.scans.image(row, device, self.config.divisor)[None]
        scan = PredictedLayers.predict(bare, image, frame, codes, settings.features)
        places = template.points("random", settings.point_count, None, frame, 0)
        spline = settings.kernel, settings.smoothing
        return keypoint_field(template, scan, places, settings.fit(), settings.neighbours, spline, lattice(frame))[0]
