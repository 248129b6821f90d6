"""What the trainings of registration networks share: pairs of scans, what is compared through the field, measures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.evaluation.metrics.dice import dice
from anamorph.evaluation.metrics.jacobian import jacobian_summary
from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.methods.base import setting
from anamorph.networks.blocks import one_hot, warp
from anamorph.training.augmentation import augmented_batch
from anamorph.training.losses import (
    diffusion,
    field_of_view,
    local_cross_correlation,
    mean_squared_error,
    mind_difference,
    mutual_information,
    soft_dice,
)
from anamorph.training.task import Batch
from anamorph.training.tasks.scans import ScanTask, ScanTraining, annotated_in_both
from anamorph.transforms.fields import compose
from anamorph.transforms.maps import Displacement

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from anamorph.training.cache import Cohort


@dataclass(frozen=True)
class PairTraining(ScanTraining):
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


class PairTask(ScanTask):
    """Pairs within each cohort; the best checkpoint is that of the highest Dice, or of the lowest loss without labels.

    A network is called with the fixed and the moving scans and gives for each direction something with ``disp_vox``,
    ``(B, 3, I, J, K)`` voxels. Subclasses set also ``without_labels``, the setting that trains without labels.
    """

    without_labels: ClassVar[str]
    config: PairTraining

    def __init__(self, config: PairTraining, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        self.measured = validation_pairs(self.cohorts, config.measured_pairs)
        if not annotated_in_both(self.annotated, self.measured).any():
            self.score = ("loss", "min")  # type: ignore[misc]

    def check(self) -> None:
        super().check()
        if self.needs_labels and not self.labels:
            raise UserError(
                "no cohort annotates any label; name them under labels, or train with --set " + self.without_labels
            )

    def training_items(self, epoch: int, generator: Generator) -> list[Pair]:
        return draw_pairs(self.cohorts, self.config.pairs_per_scan, self.config.merge_validation, generator)

    def batch(self, items: Sequence[Pair], device: torch.device, generators: Sequence[Generator]) -> Batch:
        scans = [(cohort, (fixed, moving)) for cohort, fixed, moving in items]
        (fixed, fixed_labels), (moving, moving_labels) = augmented_batch(
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


class Predicted(Protocol):
    """One direction as a network gives it; ``(B, 3, I, J, K)`` voxels each."""

    @property
    def disp_vox(self) -> Tensor:
        """The field."""

    @property
    def coarse_disp_vox(self) -> Sequence[Tensor]:
        """Fields of coarser resolutions, through which the images are compared too."""


@dataclass(frozen=True)
class WarpedPairTraining(PairTraining):
    """Weights of the comparisons."""

    mse: float = setting(1.0, "weight of the squared difference of the images")
    lcc: float = setting(0.0, "weight of the local cross-correlation of the images")
    lcc_window: int = setting(9, "window of the local cross-correlation, odd", "voxels")
    mi: float = setting(0.0, "weight of the mutual information of the images")
    mind: float = setting(0.0, "weight of the squared difference of the MIND-SSC of the images")
    mind_radius: int = setting(1, "patch radius of MIND-SSC", "voxels")
    mind_dilation: int = setting(2, "distance of the neighbours that MIND-SSC compares", "voxels")
    dice: float = setting(1.0, "weight of the Dice of the warped labels; 0 trains without labels")
    batch_dice: bool = setting(False, "sum each label over the batch, as published, rather than scan by scan")
    diffusion: float = setting(0.0, "weight of the squared derivatives of the field in all directions")

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.mse, self.lcc, self.mi, self.mind, self.dice)
        if min(*weights, self.diffusion) < 0 or max(weights) == 0:
            raise ValueError("the weights must not be negative, and one of mse, lcc, mi, mind and dice must be above 0")
        if self.lcc_window < 3 or self.lcc_window % 2 == 0:
            raise ValueError("lcc_window must be odd and at least 3")
        if self.mind_radius < 0 or self.mind_dilation < 1:
            raise ValueError("mind_radius must not be negative, and mind_dilation at least 1")


class WarpedPairTask(PairTask):
    """The loss is the sum of the parts that have a weight, averaged over the directions that are trained."""

    without_labels = "dice=0"
    config: WarpedPairTraining

    @property
    def needs_labels(self) -> bool:
        return self.config.dice > 0

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        sides = [(batch["fixed"], batch["fixed_labels"]), (batch["moving"], batch["moving_labels"])]
        directions = [
            self._direction_loss(predicted, *here, *there, batch["annotated"])
            for predicted, here, there in zip(self._predict(network, batch), sides, reversed(sides), strict=False)
        ]
        parts = {name: torch.stack([one[name] for one in directions]).mean() for name in directions[0]}
        total = torch.stack([getattr(self.config, name) * value for name, value in parts.items()]).sum()
        return {"loss": total, **parts}

    @abstractmethod
    def _predict(self, network: nn.Module, batch: Batch) -> Sequence[Predicted]:
        """The forward direction, and the backward one if it is trained too."""

    def _direction_loss(
        self, predicted: Predicted, here: Tensor, here_labels: Tensor, there: Tensor, there_labels: Tensor,
        annotated: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The parts of the loss by the names of their weights, for the field from ``here`` to ``there``."""
        config = self.config
        parts: dict[str, Tensor] = {}
        values = here.new_tensor(self.labels)
        with_labels = config.dice > 0 and bool(self.labels)
        # One reading of images and labels through the finest field.
        stacked = [there, one_hot(there_labels[:, None], values)] if with_labels else [there]
        pulled = warp(torch.cat(stacked, dim=1), predicted.disp_vox)
        warped, warped_labels = pulled[:, : there.shape[1]], pulled[:, there.shape[1] :]
        views = [warped, *(warp(there, disp_vox) for disp_vox in predicted.coarse_disp_vox)]
        if config.mse > 0:
            parts["mse"] = torch.stack([mean_squared_error(here, view) for view in views]).mean()
        if config.lcc > 0:
            mask = field_of_view(here) * field_of_view(there)
            losses = [local_cross_correlation(here, view, config.lcc_window, mask=mask) for view in views]
            parts["lcc"] = torch.stack(losses).mean()
        if config.mi > 0:
            parts["mi"] = torch.stack([mutual_information(here, view) for view in views]).mean()
        if config.mind > 0:
            patches = config.mind_radius, config.mind_dilation
            parts["mind"] = torch.stack([mind_difference(here, view, *patches) for view in views]).mean()
        if with_labels:
            target = one_hot(here_labels[:, None], values)
            parts["dice"] = soft_dice(warped_labels, target, annotated, over_batch=config.batch_dice)
        if config.diffusion > 0:
            parts["diffusion"] = diffusion(predicted.disp_vox)
        return parts


def measure_pairs(task: PairTask, network: nn.Module, device: torch.device) -> Mapping[str, float]:
    """The means over the validation pairs.

    Returns:
        ``dice`` of the labels that both scans annotate, one-hot linear as in every evaluation; ``folding_percent`` and
        ``sdlogj_learn2reg`` of the field; ``inverse_consistency_vox`` of the two directions; and the ``loss``.
    """
    found: dict[str, list[float]] = {}
    for n, (cohort, fixed, moving) in enumerate(task.measured, 1):
        images, maps = task.cohorts[cohort].load((fixed, moving), device)
        annotated = annotated_in_both(task.annotated, [(cohort, fixed, moving)])
        batch = {
            "fixed": images[:1],
            "moving": images[1:],
            "fixed_labels": maps[:1],
            "moving_labels": maps[1:],
            "annotated": annotated.to(device),
        }
        there, back = network(images[:1], images[1:])
        fields = [flow.disp_vox[0].cpu().numpy() for flow in (there, back)]
        numbers = _of_field(*fields) | {"loss": float(task.loss(network, batch)["loss"])}
        if annotated.any():
            known = [label for label, both in zip(task.labels, annotated[0].tolist(), strict=True) if both]
            numbers["dice"] = _dice(fields[0], maps[0].cpu().numpy(), maps[1].cpu().numpy(), known)
        for name, value in numbers.items():
            found.setdefault(name, []).append(value)
        task.on_validated(n / len(task.measured))
    return {name: float(np.nanmean(values)) for name, values in found.items()}


def _of_field(forward: np.ndarray, backward: np.ndarray) -> dict[str, float]:
    grid = _grid(forward)
    jacobian = jacobian_summary(Displacement(forward, grid).jacobian_determinant())
    apart = np.linalg.norm(compose(forward, backward), axis=0)
    return {
        "folding_percent": jacobian["folding_percent"],
        "sdlogj_learn2reg": jacobian["sdlogj_learn2reg"],
        "inverse_consistency_vox": float(apart.mean()),
    }


def _dice(forward: np.ndarray, fixed: np.ndarray, moving: np.ndarray, known: Sequence[int]) -> float:
    grid = _grid(forward)
    here, there = Labels(fixed, grid), Labels(moving, grid)
    overlaps = dice(here, Displacement(forward, grid).warp_labels(there, grid))
    values = [overlaps[label] for label in known if label in overlaps]
    return float(np.mean(values)) if values else float("nan")


def _grid(field: np.ndarray) -> Grid:
    return Grid(field.shape[1:], np.eye(4))


Pair = tuple[int, int, int]
"""Cohort, fixed row, moving row."""

if TYPE_CHECKING:
    from torch import Generator

    from anamorph.training.cache import Cohort


def draw_pairs(cohorts: Sequence[Cohort], per_scan: int, merge_validation: bool, generator: Generator) -> list[Pair]:
    """``(cohort, fixed, moving)`` rows of an epoch in random order.

    Each training scan is the moving one of ``per_scan`` pairs, with another patient's scan of its cohort drawn as the
    fixed one (drawing the scan itself, as the published program may, teaches nothing but the identity). Of a cohort
    whose pairs are given, which are those of one patient or listed, each is visited ``per_scan`` times, in a random
    direction. ``merge_validation`` takes the validation scans or pairs in.

    Raises:
        UserError: a cohort that is trained on holds no pair.
    """
    items = []
    for number, cohort in enumerate(cohorts):
        found: list[Pair] = []
        for _ in range(per_scan):
            draw = _given if _has_given(cohort) else _drawn
            found += draw(number, cohort, merge_validation, generator)
        if not found and _training_rows(cohort, merge_validation):
            raise UserError(f"{cohort.dataset.path.name}: training needs scans of two patients; add some to training")
        items += found
    return shuffled(items, generator)


def draw_combinations(
    cohorts: Sequence[Cohort], per_scan: int, merge_validation: bool, generator: Generator
) -> list[Pair]:
    """``(cohort, fixed, moving)`` rows of an epoch whose fixed scan is any other of the cohort, also of one patient.

    Raises:
        UserError: a cohort holds a single scan for training.
    """
    items: list[Pair] = []
    for number, cohort in enumerate(cohorts):
        rows = _training_rows(cohort, merge_validation)
        if not rows:
            continue
        if len(rows) < 2:
            raise UserError(f"{cohort.dataset.path.name}: training needs two scans; add some to training")
        for _ in range(per_scan):
            drawn = torch.randint(len(rows) - 1, (len(rows),), generator=generator).tolist()
            # The scan itself is left out of those it may meet.
            items += [
                (number, rows[other + (other >= n)], moving)
                for n, (moving, other) in enumerate(zip(rows, drawn, strict=True))
            ]
    return shuffled(items, generator)


def validation_pairs(cohorts: Sequence[Cohort], most: int) -> list[Pair]:
    """At most so many ``(cohort, fixed, moving)`` rows for validation, evenly from all there are, always the same.

    Raises:
        UserError: there are none.
    """
    found = [(number, *pair) for number, cohort in enumerate(cohorts) for pair in cohort.pairs("validation")]
    if not found:
        raise UserError(
            "no data set holds validation pairs; list some under registration_val, or make the data set again with "
            "`anamorph dataset create --validation 0.2`"
        )
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
    return [found[n] for n in sorted(order[:most])]


def _has_given(cohort: Cohort) -> bool:
    return cohort.dataset.pairings == "paired" or bool(cohort.dataset.listed_pairs.get("training"))


def _given(number: int, cohort: Cohort, merge_validation: bool, generator: Generator) -> list[Pair]:
    pairs = cohort.pairs("training") + (cohort.pairs("validation") if merge_validation else [])
    turned = torch.randint(2, (len(pairs),), generator=generator).tolist()
    return [(number, b, a) if swap else (number, a, b) for (a, b), swap in zip(pairs, turned, strict=True)]


def _drawn(number: int, cohort: Cohort, merge_validation: bool, generator: Generator) -> list[Pair]:
    rows = _training_rows(cohort, merge_validation)
    subject = [case.subject for case in cohort.dataset.cases]
    pairs = []
    for moving in rows:
        others = [row for row in rows if subject[row] != subject[moving]]
        if others:
            pairs.append((number, others[int(torch.randint(len(others), (1,), generator=generator))], moving))
    return pairs


def _training_rows(cohort: Cohort, merge_validation: bool) -> list[int]:
    return cohort.of_split("training") + (cohort.of_split("validation") if merge_validation else [])


def shuffled(items: list[Pair], generator: Generator) -> list[Pair]:
    """In random order."""
    return [items[n] for n in torch.randperm(len(items), generator=generator).tolist()]
