"""What the trainings of ``slicreg`` and ``regression`` share: scans, augmentation, how well places are found."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.evaluation.metrics.dice import dice
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import identity_positions_torch, sample, sample_torch
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Labels
from anamorph.image.read import read_image
from anamorph.methods.base import setting
from anamorph.methods.learned import lattice
from anamorph.networks.preprocessing import Normalise
from anamorph.networks.supervoxel_network import FeatureNetwork
from anamorph.networks.trained import Centre, output_grid
from anamorph.supervoxels.files import Prepared
from anamorph.supervoxels.layers import Layers
from anamorph.training.task import Batch, Task
from anamorph.training.tasks.scans import ReadingTraining
from anamorph.transforms.maps import Affine, Displacement

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from anamorph.training.cache import Cohort


PUBLISHED: dict[str, Any] = {
    "spacing_mm": 4.0,
    "shape": (96, 80, 128),
    "centre": "body",
    "batch_size": 4,
    "epochs": 1000,
    "validate_every": 10,
    "gradient_clip": 0.0,
    "checkpointing": True,
}
"""5000 steps of 4 of the 20 training scans, prepared at 2 mm in 192 x 160 x 256 voxels around the body; for a GPU."""
MR: dict[str, Any] = {"normalise": "percentile", "divisor": 1.0}

PRESETS: dict[str, dict[str, Any]] = {
    "abdomen-ct": PUBLISHED,
    "ct": {"batch_size": 2, "epochs": 150, "validate_every": 10, "schedule": "cosine", "rate": 2e-3},
    "small-mr": MR
    | {
        "spacing_mm": 1.0,
        "batch_size": 8,
        "epochs": 60,
        "validate_every": 5,
        "schedule": "cosine",
        "measured_scans": 20,
    },
}


LARGEST_RATIO = 1.1
"""Of the voxel sizes of the layers and of what the network sees."""


class TemplateScans:
    """Layers and template positions of the scans of one cohort, in the frames in which the network sees them.

    Args:
        cohort: cached from a manifest that ``anamorph slicreg prepare`` wrote.

    Raises:
        UserError: the data set is not prepared.
    """

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.prepared = Prepared.of(cohort.dataset)
        rows = {case.key: row for row, case in enumerate(cohort.dataset.cases)}
        self.template = rows[self.prepared.template.key]
        others = [case for case in self.prepared.cases if case.key != self.prepared.template.key]
        self.training = [rows[case.key] for case in self.prepared.cases if case.split == "training"]
        self.validation = [rows[case.key] for case in others if case.split == "validation"]
        self._labels: dict[int, Tensor] = {}
        self._positions: dict[int, Tensor] = {}

    def check(self) -> None:
        """See that there is something to learn and to measure, and that the frames fit the layers.

        Raises:
            UserError: there is not, or they do not.
        """
        name = self.cohort.dataset.path.name
        for split, rows in (("training", self.training), ("validation", self.validation)):
            if not rows:
                raise UserError(f"{name}: no {split} scan has layers; prepare the data set with scans of both splits")
        wanted, seen = self.template_layers.grid.spacing_mm.max(), self.cohort.frames[0].spacing_mm.max()
        if not 1 / LARGEST_RATIO < wanted / seen < LARGEST_RATIO:
            raise UserError(
                f"{name}: the layers have voxels of {wanted:.3g} mm, the network would see {seen:.3g} mm; pass "
                f"--set spacing_mm={wanted:.3g}"
            )
        if any(n % 2 for n in self.cohort.shape):
            raise UserError(f"the network needs even numbers of voxels, not {self.cohort.shape}; pass --set shape=...")

    @property
    def frame(self) -> Grid:
        """All frames in mm of their own."""
        return Grid(self.cohort.shape, np.diag([*self.cohort.frames[0].spacing_mm, 1.0]))

    @property
    def classes(self) -> int:
        """Supervoxels of a layer and the background."""
        return self.template_layers.supervoxels + 1

    @cached_property
    def template_layers(self) -> Layers:
        """On the grid on which they were made."""
        return self.prepared.template_layers()

    @cached_property
    def template_labels(self) -> Tensor:
        """``(L, I, J, K)`` uint8 in the template's frame."""
        return _read_layers(self.template_layers, self.cohort.frames[self.template])

    def labels(self, row: int) -> Tensor:
        """``(L, I, J, K)`` uint8 in the scan's frame; read once."""
        if row not in self._labels:
            layers = self.prepared.layers(self.cohort.dataset.cases[row])
            self._labels[row] = _read_layers(layers, self.cohort.frames[row])
        return self._labels[row]

    def positions(self, row: int) -> Tensor:
        """``(3, I / 2, J / 2, K / 2)``: where in the template's frame the network's outputs belong, in its voxels."""
        if row not in self._positions:
            case = self.cohort.dataset.cases[row]
            grid = output_grid(self.cohort.frames[row])
            to_template = self.prepared.scan_to_template(case)
            found = to_template.moving_positions(grid, self.cohort.frames[self.template])
            self._positions[row] = torch.from_numpy(found)
        return self._positions[row]

    def image(self, row: int, device: torch.device, divisor: float) -> Tensor:
        """``(C, I, J, K)`` as the network sees it."""
        return self.cohort.load([row], device)[0][0] / divisor


def jittered_positions(shape: tuple[int, int, int], sigma: float, generator: Generator) -> Tensor:
    """``(3, I, J, K)`` voxels under a random affine map: every entry of its matrix is off by ``N(0, sigma^2)``.

    As published: the matrix acts on coordinates in which the frame is the cube from -1 to 1.
    """
    noise = sigma * torch.randn(3, 4, generator=generator, dtype=torch.float64)
    half = torch.tensor(shape, dtype=torch.float64) / 2
    matrix = torch.eye(3, dtype=torch.float64) + noise[:, :3] * half[:, None] / half
    middle = half - 0.5
    start = middle - matrix @ middle + noise[:, 3] * half
    places = identity_positions_torch(torch.empty(shape))
    return torch.einsum("ab,bijk->aijk", matrix.float(), places) + start.float()[:, None, None, None]


def at_outputs(positions: Tensor) -> Tensor:
    """The voxels at which the network has outputs, of ``(3, I, J, K)`` positions."""
    return positions[:, 1::2, 1::2, 1::2]


def read_nearest(labels: Tensor, positions: Tensor) -> Tensor:
    """Labels ``(L, I, J, K)`` at positions ``(3, ...)`` of the same device; 0 outside."""
    shape = torch.tensor(labels.shape[1:], device=labels.device).reshape(3, *[1] * (positions.ndim - 1))
    index = torch.floor(positions + 0.5).long()
    inside = ((index >= 0) & (index < shape)).all(dim=0)
    i, j, k = torch.minimum(index.clamp(min=0), shape - 1)
    return labels[:, i, j, k] * inside


def _read_layers(layers: Layers, frame: Grid) -> Tensor:
    positions = Affine.identity().moving_positions(frame, layers.grid)
    return torch.from_numpy(sample(layers.labels, positions, "nearest", 0))


@dataclass(frozen=True)
class TemplateTraining(ReadingTraining):
    """Settings of both trainings; the published ones where nothing else is said."""

    spacing_mm: float = setting(4.0, "voxel size at which scans are seen, that of the layers", "mm")
    normalise: Normalise = setting("none", "how intensities are scaled; none leaves HU, which divisor then scales")
    network: FeatureNetwork = setting("deeplab", "what makes the features before the head")
    centre: Centre = setting("middle", "around what scans are read in use; body if they were cropped around it")
    divisor: float = setting(500.0, "divisor of the values after the preprocessing")
    jitter: float = setting(0.07, "deviation of the entries of random affine maps", "half the extent")
    rate: float = setting(0.004, "learning rate of Adam")
    measured_scans: int = setting(4, "most validation scans that are registered to the template in a validation")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spacing_mm <= 0 or self.divisor <= 0 or self.rate <= 0:
            raise ValueError("spacing_mm, divisor and rate must be above 0")
        if self.jitter < 0 or self.measured_scans < 0:
            raise ValueError("jitter and measured_scans must not be negative")


class TemplateTask(Task):
    """Scans whose places in a template are known from a registration; no anatomical label is learned from."""

    score: ClassVar[tuple[str, Literal["max", "min"]]] = ("position_mm", "min")
    config: TemplateTraining

    def __init__(self, config: TemplateTraining, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        if len(self.cohorts) != 1:
            raise UserError(f"'{self.name}' has one template and takes one data set, not {len(self.cohorts)}")
        self.scans = TemplateScans(self.cohorts[0])

    @property
    def needs_labels(self) -> bool:
        return False

    def check(self) -> None:
        self.scans.check()

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
            "preprocessing": replace(self.config.preprocessing(), shape=cohort.shape).as_json(),
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
