"""Training of the baseline of ``slicreg``: the same backbone tells the place in the template itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from anamorph.geometry.sampling import sample_torch
from anamorph.methods.base import setting
from anamorph.methods.regression import PredictedPlaces, RegressionConfig
from anamorph.networks.supervoxel_network import CoordinateNetwork
from anamorph.training.task import Batch
from anamorph.training.tasks.template_task import PRESETS, TemplateTask, TemplateTraining, at_outputs, read_nearest

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class RegressionTraining(TemplateTraining):
    """Settings of the training of ``regression``."""

    locations: int = setting(1024, "places of a scan whose displacements are learned in a step")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.locations < 1:
            raise ValueError("locations must be at least 1")


class RegressionTask(TemplateTask):
    """Displacements to the template at random places of the foreground, by their mean absolute error."""

    name = "regression"
    summary = "the baseline of slicreg: coordinates of a template by regression (`anamorph slicreg prepare` first)"
    Config = RegressionTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    config: RegressionTraining

    def network(self) -> CoordinateNetwork:
        network = CoordinateNetwork(**self._architecture())
        network.template.copy_(self.scans.template_labels[:1])
        return network

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        found = network(batch["image"]).flatten(2).float()
        chosen = found.gather(2, batch["where"][:, None].expand(-1, 3, -1))
        return {"loss": (chosen - batch["displacement"]).abs().mean()}

    def _architecture(self) -> dict[str, Any]:
        return self._shared_architecture()

    def _target(self, row: int, positions: Tensor, generator: Generator, device: torch.device) -> dict[str, Tensor]:
        read = at_outputs(positions)
        # Truth is known at the outputs, which lie on every second voxel from the second one.
        truth = sample_torch(self.scans.positions(row).to(device), (read - 1) / 2)
        displacement = (truth - self.outputs().to(device)) / self._half_extent(device)
        inside = read_nearest(self.scans.labels(row)[:1].to(device), read)[0].flatten().nonzero()[:, 0]
        if len(inside) == 0:
            inside = torch.arange(read[0].numel(), device=device)
        drawn = torch.randint(len(inside), (self.config.locations,), generator=generator)
        where = inside[drawn.to(device)]
        return {"where": where, "displacement": displacement.flatten(1)[:, where]}

    def _measure(self, network: nn.Module, row: int, device: torch.device) -> dict[str, float]:
        image = self.scans.image(row, device, self.config.divisor)[None]
        found = network(image)[0].float() * self._half_extent(device) + self.outputs().to(device)
        inside = self.scans.labels(row)[0, 1::2, 1::2, 1::2] > 0
        apart = (found.cpu() - self.scans.positions(row)).square().sum(dim=0).sqrt()
        return {"position_mm": float(apart[inside].mean()) * float(self.scans.frame.spacing_mm[0])}

    def _from_template(self, network: nn.Module, row: int, device: torch.device) -> np.ndarray:
        bare: Any = network
        image = self.scans.image(row, device, self.config.divisor)[None]
        settings = RegressionConfig()
        places = PredictedPlaces.predict(bare, image, self.scans.frame, settings.point_count, None, 0)
        return places.fields(settings.neighbours, settings.beta, settings.smoothing)[1]

    def _half_extent(self, device: torch.device) -> Tensor:
        return torch.tensor(self.scans.frame.shape, device=device).reshape(3, 1, 1, 1) / 2
