"""Training of the segmentation network on scans made from label maps, for scans of any contrast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.training.synthesis import Anatomy, Synthesis
from anamorph.training.task import Batch, generator_at
from anamorph.training.tasks.segment import Scan, SegmentTask, SegmentTraining

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from anamorph.training.cache import Cohort

LEARNED, OUTSIDE = "learned", "outside"
"""Keys of a manifest: the numbers that each learned label brings together, and those that a skull strip takes away."""
VALIDATION_DRAWS = 3
"""Scans made of every map that is held for validation."""


@dataclass(frozen=True)
class SyntheticTraining(SegmentTraining):
    """Settings of the training of ``segment-synthetic``."""

    bend_vox: float = setting(2.5, "largest deviation of a smooth random displacement", "voxels")
    bias: float = setting(0.4, "largest deviation of the logarithm of a random bias field")
    thickness_vox: float = setting(4.5, "largest thickness of random slices along one axis", "voxels")
    strip: float = setting(0.2, "share of the scans that show the brain alone")
    ct: float = setting(0.1, "share of the scans that look like CT")

    def synthesis(self) -> Synthesis:
        """How scans are made."""
        return Synthesis(self.augmentation(), self.bend_vox, self.bias, self.thickness_vox, self.strip, self.ct)


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
        tables = [_learned(cohort) for cohort in self.cohorts]
        self.learned = tables[0]
        self.agreed = all(list(one) == list(self.learned) for one in tables)
        self.labels = list(range(1, len(self.learned) + 1))
        self.annotated = [torch.ones((len(one.frames), len(self.labels)), dtype=torch.bool) for one in self.cohorts]
        self.anatomies = [
            Anatomy.of(cohort.names, table, cohort.dataset.extra.get(OUTSIDE, ()))
            for cohort, table in zip(self.cohorts, tables, strict=True)
        ]

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
        return super().export(network) | {"labels": dict(enumerate(self.learned, 1))}

    def _validation_scans(self, device: torch.device) -> Iterator[tuple[Scan, Tensor, Tensor, float]]:
        """A few scans of every map, always the same."""
        draws = [(scan, draw) for scan in self._validation_rows() for draw in range(VALIDATION_DRAWS)]
        for n, (scan, draw) in enumerate(draws, 1):
            image, labels = self._made(*scan, device, generator_at(0, *scan, draw))
            yield scan, image[None], labels[None], n / len(draws)

    def _made(self, cohort: int, row: int, device: torch.device, random: Generator) -> tuple[Tensor, Tensor]:
        one = self.cohorts[cohort]
        labels = torch.from_numpy(one.label_maps[row].copy()).to(device)
        shape: Any = tuple(self.config.crop) or one.shape
        spacing = one.frames[row].spacing_mm.tolist()
        return self.config.synthesis().draw(labels, self.anatomies[cohort], shape, spacing, random)


def _learned(cohort: Cohort) -> dict[str, list[int]]:
    """The numbers in the training that each learned label brings together; every label by itself if none is given."""
    given: Any = cohort.dataset.extra.get(LEARNED)
    if given is None:
        return {name: [value] for value, name in cohort.names.items()}
    try:
        return {str(name): [cohort.numbers[int(value)] for value in values] for name, values in given.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{cohort.dataset.path.name}: '{LEARNED}' must list numbers of its labels for each name, such as "
            f'{{"white matter": [2, 41]}}; {error} is none'
        ) from error
