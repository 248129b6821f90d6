"""What the trainings of ``slicreg`` and ``regression`` share: scans, augmentation, and how well places are found."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.evaluation import dice
from anamorph.geometry.sampling import identity_positions_torch, sample_torch
from anamorph.image import Labels
from anamorph.image.background import looks_like_ct
from anamorph.image.read import read_image
from anamorph.methods.base import setting
from anamorph.methods.template_space import lattice
from anamorph.networks.preprocessing import Normalise, Preprocessing
from anamorph.networks.supervoxel_network import FeatureNetwork
from anamorph.networks.template_model import Centre
from anamorph.training.task import Batch, Task
from anamorph.training.tasks.template_scans import TemplateScans, jittered_positions
from anamorph.transforms import Displacement

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from anamorph.training.cache import Cohort


@dataclass(frozen=True)
class TemplateConfig:
    """Settings of both trainings; the published ones where nothing else is said."""

    network: FeatureNetwork = setting("deeplab", "what makes the features before the head")
    spacing_mm: float = setting(4.0, "voxel size at which scans are seen, that of the layers", "mm")
    shape: tuple[int, ...] = setting((), "common shape, cropped or padded; empty: what covers the largest", "voxels")
    centre: Centre = setting("middle", "around what scans are read in use; body if they were cropped around it")
    normalise: Normalise = setting("none", "how intensities are scaled; none leaves HU, which divisor then scales")
    windows: tuple[float, ...] = setting((), "low,high of each channel in turn, for normalise=windows", "HU")
    divisor: float = setting(500.0, "by which values are divided after that")
    jitter: float = setting(0.07, "deviation of the entries of random affine maps", "half the extent")
    rate: float = setting(0.004, "learning rate of Adam")
    measured_scans: int = setting(4, "most validation scans that are registered to the template in a validation")

    def __post_init__(self) -> None:
        if self.spacing_mm <= 0 or self.divisor <= 0 or self.rate <= 0:
            raise ValueError("spacing_mm, divisor and rate must be above 0")
        if len(self.shape) not in (0, 3) or len(self.windows) % 2:
            raise ValueError("shape is three numbers or empty, windows a low and a high value for each channel")
        if self.jitter < 0 or self.measured_scans < 0:
            raise ValueError("jitter and measured_scans must not be negative")

    def preprocessing(self, shape: tuple[int, ...] | None = None) -> Preprocessing:
        """How scans are read."""
        windows = tuple(zip(self.windows[::2], self.windows[1::2], strict=True))
        chosen: Any = shape or tuple(self.shape) or None
        return Preprocessing(self.spacing_mm, chosen, self.normalise, windows, 8)


class TemplateTask(Task):
    """Scans whose places in a template are known from a registration; no anatomical label is learned from."""

    score: ClassVar[tuple[str, Literal["max", "min"]]] = ("position_mm", "min")
    config: TemplateConfig

    def __init__(self, config: TemplateConfig, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        if len(self.cohorts) != 1:
            raise UserError(f"'{self.name}' has one template and takes one data set, not {len(self.cohorts)}")
        self.scans = TemplateScans(self.cohorts[0])

    @property
    def needs_labels(self) -> bool:
        return False

    def check(self) -> None:
        self.scans.check()

    @classmethod
    def preprocessing(cls, config: TemplateConfig) -> Preprocessing:
        return config.preprocessing()

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), lr=self.config.rate)

    def training_items(self, epoch: int, generator: Generator) -> list[int]:
        rows = self.scans.training
        return [rows[n] for n in torch.randperm(len(rows), generator=generator).tolist()]

    def batch(self, items: Sequence[int], device: torch.device, generators: Sequence[Generator]) -> Batch:
        parts = [self._item(row, device, generator) for row, generator in zip(items, generators, strict=True)]
        return {key: torch.stack([part[key] for part in parts]) for key in parts[0]}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Means over the validation scans.

        ``position_mm`` is how far from the template position that is learned the predicted one is; ``dice`` is of the
        template's labels and those of a scan registered to it, where both have labels.
        """
        found: dict[str, list[float]] = {}
        measured = 0
        for n, row in enumerate(self.scans.validation, 1):
            numbers = self._measure(network, row, device)
            if self._labelled(row) and measured < self.config.measured_scans:
                measured += 1
                numbers["dice"] = self._dice(row, self._from_template(network, row, device))
            for key, value in numbers.items():
                found.setdefault(key, []).append(value)
            self.on_validated(n / len(self.scans.validation))
        return {key: float(np.nanmean(values)) for key, values in found.items()}

    def load_pretrained(self, network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
        return super().load_pretrained(network, {key: value for key, value in state.items() if key != "template"})

    def export(self, network: nn.Module) -> dict[str, Any]:
        cohort = self.cohorts[0]
        template = self.scans.prepared.template
        return {
            "kind": self.name,
            "summary": f"{self.summary}, {cohort.dataset.name}",
            "architecture": {
                "network": self._architecture(),
                "divisor": self.config.divisor,
                "centre": self.config.centre,
                "ct": looks_like_ct(read_image(template.image)),
                "template": template.key,
            },
            "preprocessing": self.config.preprocessing(cohort.shape).as_json(),
        }

    def outputs(self) -> Tensor:
        """``(3, i, j, k)``: where the network's outputs lie in voxels of its input."""
        i, j, k = (n // 2 for n in self.scans.frame.shape)
        return 2 * identity_positions_torch(torch.empty(i, j, k)) + 1

    def _shared_architecture(self) -> dict[str, Any]:
        cohort = self.cohorts[0]
        return {"features": self.config.network, "inputs": cohort.channels, "template": list(cohort.shape)}

    @abstractmethod
    def _architecture(self) -> dict[str, Any]:
        """What the network is built from."""

    @abstractmethod
    def _target(self, row: int, positions: Tensor, generator: Generator, device: torch.device) -> dict[str, Tensor]:
        """What is learned from a scan that is read at positions ``(3, I, J, K)`` of its frame."""

    @abstractmethod
    def _measure(self, network: nn.Module, row: int, device: torch.device) -> dict[str, float]:
        """Numbers of one validation scan, ``position_mm`` among them."""

    @abstractmethod
    def _from_template(self, network: nn.Module, row: int, device: torch.device) -> np.ndarray:
        """The field of the template to a scan on the lattice."""

    def _item(self, row: int, device: torch.device, generator: Generator) -> dict[str, Tensor]:
        positions = jittered_positions(self.cohorts[0].shape, self.config.jitter, generator).to(device)
        image = sample_torch(self.scans.image(row, device, self.config.divisor), positions)
        return {"image": image} | self._target(row, positions, generator, device)

    def _labelled(self, row: int) -> bool:
        cases = self.cohorts[0].dataset.cases
        return cases[row].label is not None and cases[self.scans.template].label is not None

    def _dice(self, row: int, field: np.ndarray) -> float:
        """Of the template's labels and a scan's under a field on the lattice, mean over those that both annotate."""
        frame = self.scans.frame
        maps = self.cohorts[0].label_maps
        fixed, moving = (Labels(np.asarray(maps[n]), frame) for n in (self.scans.template, row))
        overlaps = dice(fixed, Displacement(field, lattice(frame)).warp_labels(moving, frame))
        known = set.intersection(*(set(self.cohorts[0].annotated_by_row[n]) for n in (self.scans.template, row)))
        values = [value for label, value in overlaps.items() if label in known]
        return float(np.nanmean(values)) if values else float("nan")
