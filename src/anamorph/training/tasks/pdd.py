"""Training of the method ``pdd`` (Heinrich, MICCAI 2019), with labels or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from anamorph.methods.base import setting
from anamorph.networks.blocks import one_hot, warp
from anamorph.networks.obelisk import Convention
from anamorph.networks.pdd_network import Found, PddNetwork
from anamorph.networks.pdd_search import Search
from anamorph.optimise.probability_fit import roughness
from anamorph.training.losses import local_error, mind_of, nonlocal_error
from anamorph.training.task import Batch
from anamorph.training.tasks.pair_task import PairTask, PairTraining

if TYPE_CHECKING:
    from torch import Tensor, nn

    from anamorph.training.cache import Cohort


ABDOMEN: dict[str, Any] = {
    "spacing_mm": 1.5,
    "shape": (240, 168, 288),
    "normalise": "windows",
    "windows": (-500.0, 500.0),
    "affine_chance": 1.0,
    "rotation_deg": 3.0,
    "zoom": 1.04,
    "shift": 0.03,
    "shear": 0.04,
    "diffusion": 1.5,
    "rate": 0.01,
    "epochs": 250,
    "batch_size": 1,
    "gradient_clip": 0.0,
    "precision": "32-true",
    "validate_every": 25,
}
"""Of the paper, whose 6 or 7 scans in 250 epochs make about 1500 steps; its affine maps are not drawn as ours are."""
SMALL: dict[str, Any] = {
    "feature_spacing": 2,
    "pooled": False,
    "rotation_deg": 10.0,
    "zoom": 1.1,
    "shift": 0.03,
    "gamma": 0.3,
    "diffusion": 1.5,
    "rate": 5e-3,
    "batch_size": 1,
    "schedule": "cosine",
    "warmup_steps": 20,
    "measured_pairs": 20,
    "precision": "32-true",
}
"""For scans of up to about 64 x 64 x 64 voxels on a few cores: fine features, fewer control points."""
SMALL_HIPPOCAMPUS: dict[str, Any] = SMALL | {
    "spacing_mm": 1.0,
    "shape": (48, 64, 48),
    "control": (12, 16, 12),
    "width": 9,
    "reach": 0.35,
    "epochs": 6,
}
SMALL_HEAD_NECK: dict[str, Any] = SMALL | {
    "spacing_mm": 6.0,
    "shape": (64, 48, 64),
    "normalise": "windows",
    "windows": (-160.0, 240.0, -1000.0, 1000.0),
    "control": (16, 12, 16),
    "width": 11,
    "reach": 0.3,
    "epochs": 20,
    "validate_every": 2,
}


def _recipes(name: str, common: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: common,
        f"{name}-no-mean-field": common | {"mean_field": False},
        f"{name}-no-nonlocal": common | {"nonlocal_loss": False},
        f"{name}-dense": common | {"nonlocal_loss": False, "dense_loss": True},
        f"{name}-unsupervised": common | {"loss": "mind"},
    }


PRESETS: dict[str, dict[str, Any]] = {
    **_recipes("abdomen", ABDOMEN),
    **_recipes("small-hippocampus", SMALL_HIPPOCAMPUS),
    **_recipes("small-head-neck", SMALL_HEAD_NECK),
}


@dataclass(frozen=True)
class PddTraining(PairTraining):
    """Settings of the training of ``pdd``; the published ones where nothing else is said."""

    rate: float = setting(0.01, "learning rate of Adam")
    channels: int = setting(16, "features of a place: 16 (120,780 parameters) or 24 (270,772)")
    feature_spacing: int = setting(3, "distance of the places at which features are computed", "voxels")
    pooled: bool = setting(True, "halve the resolution before the first convolution")
    control: tuple[int, ...] = setting((32, 32, 32), "control points along each axis")
    width: int = setting(15, "displacements along each axis, odd")
    reach: float = setting(0.4, "largest displacement", "half extents")
    mean_field: bool = setting(True, "let neighbouring control points agree")
    sampling: Convention = setting("voxel", "where points lie: exactly, or as in one of the published programs")
    loss: Literal["labels", "mind"] = setting("labels", "compare labels, or MIND-SSC, which needs none")
    nonlocal_loss: bool = setting(True, "compare at every displacement by its probability, not at the mean one alone")
    dense_loss: bool = setting(False, "compare at every voxel, not at control points; wants nonlocal_loss=false")
    background: float = setting(0.15, "weight of the background among the labels")
    diffusion: float = setting(1.5, "weight of the smoothness of the field")
    mind_radius: int = setting(1, "patch radius of MIND-SSC (loss=mind)", "voxels")
    mind_dilation: int = setting(2, "distance of the neighbours MIND-SSC compares (loss=mind)", "voxels")
    symmetric: bool = setting(False, "train both directions of a pair at once; about twice the time")
    augment_apart: bool = setting(True, "move each scan of a pair by itself rather than both alike")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.search()
        if self.crop:
            raise ValueError("the search is a share of the whole scan; pdd does without crop")
        if self.dense_loss and self.nonlocal_loss:
            raise ValueError("only control points know probabilities: dense_loss=true wants nonlocal_loss=false")
        if min(self.background, self.diffusion) < 0:
            raise ValueError("the weights must not be negative")
        if min(self.channels, self.feature_spacing, self.mind_dilation) < 1:
            raise ValueError("channels, feature_spacing and mind_dilation must be at least 1")

    def search(self) -> Search:
        """Where displacements are looked for."""
        return Search(tuple(self.control), self.width, self.reach)  # type: ignore[arg-type]


class PddTask(PairTask):
    """Pairs within each cohort; labels or descriptors at the displacements that are probable, and smoothness."""

    name = "pdd"
    summary = "registration: OBELISK features, dense displacement search, mean field, non-local loss (PDD-Net)"
    Config = PddTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    made = "dense displacement registration"
    built_from = ("channels", "width", "reach", "mean_field", "feature_spacing", "pooled", "sampling", "control")
    without_labels = "loss=mind"
    config: PddTraining

    def __init__(self, config: PddTraining, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        self.weights = self._label_weights()

    @property
    def needs_labels(self) -> bool:
        return self.config.loss == "labels"

    def network(self) -> PddNetwork:
        return PddNetwork(**self._architecture())

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        directions: list[Found] = network(batch["fixed"], batch["moving"], config.symmetric)
        sides = [self._compared(batch, side) for side in ("fixed", "moving")]
        weights = self._weights_of(batch) if self.needs_labels else None
        error = nonlocal_error if config.nonlocal_loss else _dense_error if config.dense_loss else local_error
        errors, rough = [], []
        for found, here, there in zip(directions, sides, reversed(sides), strict=False):
            errors.append(error(found, here, there, weights))
            # One unit for all axes, so that a millimetre along each counts the same.
            rough.append(roughness(found.control_disp_vox / found.half.mean()))
        parts = {config.loss: torch.stack(errors).mean(), "diffusion": torch.stack(rough).mean()}
        return {"loss": parts[config.loss] + config.diffusion * parts["diffusion"], **parts}

    def _compared(self, batch: Batch, side: str) -> Tensor:
        """``(B, C, I, J, K)``: the background and each label, or descriptors."""
        if self.needs_labels:
            return one_hot(batch[f"{side}_labels"][:, None], batch[side].new_tensor([0, *self.labels]))
        return mind_of(batch[side], self.config.mind_radius, self.config.mind_dilation)

    def _label_weights(self) -> Tensor:
        """``(C,)``: one over the root of a label's voxels, over the mean of all; rare labels count for more."""
        counts = np.zeros(256)
        for cohort in self.cohorts:
            for row in cohort.of_split("training", labelled=True):
                counts += np.bincount(cohort.label_maps[row].ravel(), minlength=256)
        weights = 1 / np.sqrt(np.maximum(counts[[0, *self.labels]], 1))
        weights /= weights.mean()
        weights[0] = self.config.background
        return torch.from_numpy(weights).float()

    def _weights_of(self, batch: Batch) -> Tensor:
        """``(B, C)``: nothing is learned from labels that a scan does not annotate, nor from what may hide them."""
        annotated = batch["annotated"]
        known = torch.cat([annotated.all(dim=1, keepdim=True), annotated], dim=1)
        return known * self.weights.to(annotated.device)


def _dense_error(found: Found, fixed: Tensor, moving: Tensor, weights: Tensor | None) -> Tensor:
    """The same comparison through the mean displacement, at every voxel."""
    squared = (warp(moving, found.disp_vox) - fixed).square()
    return squared.mean() if weights is None else (squared * weights[..., None, None, None]).mean()
