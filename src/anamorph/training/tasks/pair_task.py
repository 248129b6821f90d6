"""What the trainings of registration networks share: pairs of scans, how they are read, and how they are measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.networks.preprocessing import Preprocessing
from anamorph.training.task import Batch, Task
from anamorph.training.tasks.annotated_tables import annotated_in_both, annotated_tables
from anamorph.training.tasks.described import describe_model
from anamorph.training.tasks.pairs import Pair, draw_pairs, validation_pairs
from anamorph.training.tasks.reading_config import ReadingConfig
from anamorph.training.tasks.registered import measure_pairs
from anamorph.training.tasks.varied import read_varied

if TYPE_CHECKING:
    from torch import Generator, nn

    from anamorph.training.cache import Cohort


@dataclass(frozen=True)
class PairConfig(ReadingConfig):
    """Which pairs are trained and measured, and what of them is varied."""

    symmetric: bool = setting(True, "train both directions of a pair at once")
    augment_apart: bool = setting(False, "move each scan of a pair by itself rather than both alike")
    pairs_per_scan: int = setting(1, "pairs of an epoch in which each scan is the moving one")
    merge_validation: bool = setting(False, "train on the validation scans too, for a submission on test scans")
    measured_pairs: int = setting(40, "most validation pairs that are measured")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs_per_scan < 1 or self.measured_pairs < 1:
            raise ValueError("pairs_per_scan and measured_pairs must be at least 1")


class PairTask(Task):
    """Pairs within each cohort; the best checkpoint is that of the highest Dice, or of the lowest loss without labels.

    A network is called with the fixed and the moving scans and gives for each direction something with ``disp_vox``,
    ``(B, 3, I, J, K)`` voxels. Subclasses set ``registration``, what the card calls the model, and
    ``without_labels``, the setting that trains without labels.
    """

    registration: ClassVar[str]
    without_labels: ClassVar[str]
    score: ClassVar[tuple[str, Literal["max", "min"]]] = ("dice", "max")
    config: PairConfig

    def __init__(self, config: PairConfig, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        self.labels = sorted({label for cohort in self.cohorts for label in cohort.annotated})
        self.annotated = annotated_tables(self.cohorts, self.labels)
        self.measured = validation_pairs(self.cohorts, config.measured_pairs)
        if not annotated_in_both(self.annotated, self.measured).any():
            self.score = ("loss", "min")  # type: ignore[misc]

    def check(self) -> None:
        super().check()
        self.config.check(self.cohorts)
        if self.needs_labels and not self.labels:
            raise UserError(
                "no cohort annotates any label; name them under labels, or train with --set " + self.without_labels
            )

    @classmethod
    def preprocessing(cls, config: PairConfig) -> Preprocessing:
        return config.preprocessing()

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
            "annotated": annotated_in_both(self.annotated, items).to(device),
        }

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        return measure_pairs(self, network, device)

    def export(self, network: nn.Module) -> dict[str, Any]:
        preprocessing = self.config.preprocessing()
        return describe_model(
            self.name, self.registration, self._architecture(), preprocessing, self.cohorts, self.labels
        )

    @abstractmethod
    def _architecture(self) -> dict[str, Any]:
        """What the network is built from, as plain values."""
