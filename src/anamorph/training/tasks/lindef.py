"""Training of the method ``lindef`` (Christodoulidis et al. 2018), without labels unless they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from anamorph.methods.base import setting
from anamorph.networks.lindef_network import LindefFlow, Order, Pooling
from anamorph.training.losses import summed_l1
from anamorph.training.task import Batch
from anamorph.training.tasks.pair_task import Pair, WarpedPairTask, WarpedPairTraining, draw_combinations, shuffled

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


PUBLISHED: dict[str, Any] = {
    "width": 32,
    "pooling": "mean",
    "order": "deform-first",
    "gradient_gain": 1.0,
    "mse": 1.0,
    "affine_l1": 1e-6,
    "gradient_l1": 1e-6,
    "rate": 1e-3,
    "batch_size": 2,
    "epochs": 1000,
    "schedule": "plateau",
    "plateau_factor": 0.9,
    "plateau_patience": 50,
    "patience": 100,
    "gradient_clip": 0.0,
    "precision": "32-true",
    "accumulate": 2,
    "checkpointing": True,
}
"""As far as it is stated; the number of epochs is not: waiting in vain ends the training. The last two bound memory."""
SMALL: dict[str, Any] = {
    "width": 8,
    "pooling": "moments",
    "gradient_gain": 0.1,
    "diffusion": 0.2,
    "gradient_l1": 0.0,
    "rate": 1e-3,
    "batch_size": 1,
    "schedule": "cosine",
    "warmup_steps": 50,
}
"""For scans of up to about 64 x 64 x 64 voxels on a few cores: a narrow network, a rate that falls."""

PRESETS: dict[str, dict[str, Any]] = {
    "published": PUBLISHED,
    "small-hippocampus": SMALL | {
        "spacing_mm": 1.0,
        "shape": (48, 64, 48),
        "flip_axes": (0,),
        "mse": 0.0,
        "lcc": 1.0,
        "rotation_deg": 10.0,
        "zoom": 1.1,
        "shift": 0.03,
        "gamma": 0.3,
        "epochs": 10,
    },
    "small-cardiac": SMALL | {
        "spacing_mm": (2.5, 2.5, 8.0),
        "shape": (64, 64, 16),
        "crop_in_use": True,
        "mse": 100.0,
        "flip_axes": (0, 1),
        "rotation_deg": 15.0,
        "zoom": 1.15,
        "shift": 0.03,
        "epochs": 150,
        "validate_every": 25,
    },
}  # fmt: skip


@dataclass(frozen=True)
class LindefTraining(WarpedPairTraining):
    """Settings of the training of ``lindef``; the published ones where nothing else is said."""

    width: int = setting(32, "channels of the narrowest layers of the network")
    affine: bool = setting(True, "have the linear branch; false trains the deformation alone")
    pooling: Pooling = setting(
        "mean", "what the linear branch sees of the features: means, or moments up to the second"
    )
    order: Order = setting("linear-first", "the moving scan is aligned linearly first, or deformed first, as published")
    gradient_gain: float = setting(1.0, "factor of the logits of the derivatives; smaller ones change less at a time")
    all_combinations: bool = setting(
        False, "besides the pairs of the data set, pair each scan with any other, of one patient or of two"
    )
    symmetric: bool = setting(False, "train both directions of a pair at once; twice the time")
    dice: float = setting(0.0, "weight of the Dice of the warped labels; 0 trains without labels")
    affine_l1: float = setting(1e-6, "weight of the sum of |A - 1| over the matrix")
    gradient_l1: float = setting(1e-6, "weight of the sum of |gradient - 1| over all voxels and axes of a pair")
    rate: float = setting(1e-3, "learning rate of Adam")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or min(self.affine_l1, self.gradient_l1) < 0:
            raise ValueError("width must be at least 1, affine_l1 and gradient_l1 must not be negative")
        if self.gradient_gain <= 0:
            raise ValueError("gradient_gain must be above 0")


class LindefTask(WarpedPairTask):
    """Pairs within each cohort; images as warped, and sums that keep matrix and gradients near the identity."""

    name = "lindef"
    summary = "registration: dilated encoder, linear map and gradient integration together, no labels needed"
    made = "linear and deformable registration"
    built_from = ("width", "affine", "pooling", "order", "gradient_gain")
    Config = LindefTraining
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    config: LindefTraining

    def training_items(self, epoch: int, generator: Generator) -> list[Pair]:
        items = super().training_items(epoch, generator)
        if not self.config.all_combinations:
            return items
        config = self.config
        items += draw_combinations(self.cohorts, config.pairs_per_scan, config.merge_validation, generator)
        return shuffled(items, generator)

    def _predict(self, network: nn.Module, batch: Batch) -> list[LindefFlow]:
        flows: list[LindefFlow] = network(batch["fixed"], batch["moving"], self.config.symmetric)
        return flows

    def _direction_loss(self, predicted: LindefFlow, *sides: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        parts = super()._direction_loss(predicted, *sides)
        if self.config.affine and self.config.affine_l1 > 0:
            parts["affine_l1"] = summed_l1(predicted.offset)
        if self.config.gradient_l1 > 0:
            parts["gradient_l1"] = summed_l1(2 * predicted.gradients - 1)
        return parts
