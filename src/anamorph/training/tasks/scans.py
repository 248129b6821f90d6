"""What the trainings on scans share: how scans are read and varied, what they annotate, what the model card says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.networks import NETWORKS
from anamorph.networks.preprocessing import Normalise, Preprocessing, Reading
from anamorph.networks.widths import CONVOLUTIONS, Activation
from anamorph.training.augmentation import Augmentation
from anamorph.training.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from anamorph.training.cache import Cohort


ADRENAL_GLANDS = ("right adrenal gland", "left adrenal gland")
"""What the published trainings on abdomens leave out, of the 13 labelled organs."""


@dataclass(frozen=True)
class ReadingTraining:
    """How a training reads scans."""

    spacing_mm: float | tuple[float, float, float] = setting(
        0.0, "voxel size scans are read at, one for all axes or one for each; 0: their own", "mm"
    )
    shape: tuple[int, ...] = setting((), "common shape, cropped or padded; empty: what covers the largest", "voxels")
    normalise: Normalise = setting("percentile", "how intensities are brought to [0, 1]")
    windows: tuple[float, ...] = setting((), "low,high of each channel in turn, for normalise=windows", "HU")
    reading: Reading = setting(
        "averaged", "average the voxels that a coarser one covers, or interpolate at its middle alone (point)"
    )

    def __post_init__(self) -> None:
        if len(self.shape) not in (0, 3) or (self.shape and min(self.shape) < 1):
            raise ValueError("shape is three numbers of voxels, or empty")
        if len(self.windows) % 2:
            raise ValueError("windows needs a low and a high value for each channel")
        if self.spacing_mm != 0 and np.min(self.spacing_mm) <= 0:
            raise ValueError("spacing_mm must be above 0, or 0 for the voxels of the scans")

    @property
    def multiple(self) -> int:
        """To which the shape is rounded up when it is not given, voxels."""
        return 8

    def preprocessing(self) -> Preprocessing:
        """How scans are read."""
        windows: Any = tuple(zip(self.windows[::2], self.windows[1::2], strict=True))
        shape: Any = tuple(self.shape) or None
        return Preprocessing(
            self.spacing_mm or None, shape, self.normalise, windows, self.multiple, reading=self.reading
        )


@dataclass(frozen=True)
class ScanTraining(ReadingTraining):
    """How scans are read and varied, and the optimiser."""

    leave_out: tuple[str, ...] = setting((), "labels, by name or number, that are neither learned nor measured")
    crop_in_use: bool = setting(False, "crop scans to shape in use too; else the network then sees all of larger ones")
    crop: tuple[int, ...] = setting((), "train on random crops of this shape; empty: on whole scans", "voxels")
    flip_axes: tuple[int, ...] = setting((), "axes along which scans may be mirrored")
    quarter_turns: bool = setting(False, "turn cubes by multiples of 90 degrees")
    affine_chance: float = setting(0.9, "chance of an affine map, and of each change of the intensities")
    rotation_deg: float = setting(0.0, "largest random rotation", "degrees")
    zoom: float = setting(1.0, "largest random factor of size; its inverse is the smallest")
    shift: float = setting(0.0, "largest random translation", "share of the extent")
    shear: float = setting(0.0, "largest random shear")
    bend_vox: float = setting(0.0, "largest deviation of a smooth random displacement", "voxels of the finest axis")
    gamma: float = setting(0.0, "largest random log exponent of the intensities")
    contrast: float = setting(0.0, "largest random relative change of contrast")
    brightness: float = setting(0.0, "largest random offset of the intensities")
    noise: float = setting(0.0, "largest standard deviation of random noise")
    rate: float = setting(1e-4, "learning rate of Adam")
    weight_decay: float = setting(0.0, "decoupled decay of the weights")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.crop) not in (0, 3) or (self.crop and min(self.crop) < 1):
            raise ValueError("crop is three numbers of voxels, or empty")
        if self.zoom < 1 or self.rate <= 0:
            raise ValueError("zoom must be at least 1 and rate above 0")
        if self.bend_vox < 0:
            raise ValueError("bend_vox must not be negative")

    def preprocessing(self) -> Preprocessing:
        return replace(super().preprocessing(), crop_in_use=self.crop_in_use)

    def augmentation(self) -> Augmentation:
        """How scans are varied."""
        return Augmentation(
            tuple(self.flip_axes), self.quarter_turns, self.affine_chance, self.rotation_deg,
            (1 / self.zoom, self.zoom), self.shift, self.shear, self.gamma, self.contrast, self.brightness, self.noise,
            bend_vox=self.bend_vox,
        )  # fmt: skip

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam, with decoupled decay of the weights if there is any."""
        return torch.optim.AdamW(network.parameters(), lr=self.rate, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class EncoderTraining(ScanTraining):
    """Settings of every task that trains an encoder and a decoder on scans."""

    mult: int = setting(8, "width of the network: channels are 4, 8, 16, ... times this")
    convolutions: tuple[int, ...] = setting(CONVOLUTIONS, "3x3x3 convolutions after each halving of the resolution")
    activation: Activation = setting("relu", "activation of the network")
    residual: bool = setting(False, "add the up-sampled features to the output of each block of the decoder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mult < 1 or not self.convolutions or min(self.convolutions) < 0:
            raise ValueError("mult must be at least 1, and convolutions needs one number, 0 or more, per resolution")

    @property
    def multiple(self) -> int:
        return 2 ** len(self.convolutions)


class ScanTask(Task):
    """Scans of which each annotates some labels; the network is the one of the task's name.

    Subclasses set ``made``, what the card calls the model, and ``built_from``, the settings that the network is built
    from besides the number of channels; and ``kind``, if the network has another name.
    """

    kind: ClassVar[str] = ""
    made: ClassVar[str]
    built_from: ClassVar[tuple[str, ...]]
    score: ClassVar[tuple[str, Literal["max", "min"]]] = ("dice", "max")
    config: ScanTraining

    def __init__(self, config: ScanTraining, cohorts: Sequence[Cohort]) -> None:
        super().__init__(config, cohorts)
        self.labels = sorted({label for cohort in self.cohorts for label in cohort.annotated})
        # (N, L) of each cohort: true where the scan of a row annotates a label.
        self.annotated = [
            torch.tensor(
                [[label in known for label in self.labels] for known in one.annotated_by_row], dtype=torch.bool
            )
            for one in self.cohorts
        ]

    def check(self) -> None:
        super().check()
        one, crop, augmentation = self.cohorts[0], tuple(self.config.crop), self.config.augmentation()
        for other in self.cohorts[1:]:
            if other.shape != one.shape and not crop:
                raise UserError(
                    f"{other.dataset.name} needs {other.shape} voxels and {one.dataset.name} {one.shape}; "
                    f"give them one shape: --set shape={','.join(map(str, map(max, one.shape, other.shape)))}"
                )
        for cohort in self.cohorts:
            if crop and any(c > n for c, n in zip(crop, cohort.shape, strict=True)):
                raise UserError(f"crop={crop} is larger than the scans of {cohort.dataset.name}, {cohort.shape}")
            augmentation.check(crop or cohort.shape)  # type: ignore[arg-type]

    def network(self) -> nn.Module:
        network: nn.Module = NETWORKS.find(self.kind or self.name)(**self._architecture())
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        return self.config.optimiser(network)

    def export(self, network: nn.Module) -> dict[str, Any]:
        names = {value: name for cohort in reversed(self.cohorts) for value, name in cohort.names.items()}
        # The shape that the scans had, so that those in use get no less room.
        shape: Any = tuple(int(max(sizes)) for sizes in zip(*(cohort.shape for cohort in self.cohorts), strict=True))
        return {
            "kind": self.kind or self.name,
            "summary": f"{self.made} of {', '.join(cohort.dataset.name for cohort in self.cohorts)}",
            "architecture": self._architecture(),
            "preprocessing": replace(self.config.preprocessing(), shape=shape).as_json(),
            "labels": {label: names.get(label, str(label)) for label in self.labels},
        }

    def _architecture(self) -> dict[str, Any]:
        """What the network is built from, as plain values."""
        own = {name: getattr(self.config, name) for name in self.built_from}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}
        return {"inputs": self.cohorts[0].channels} | plain


def annotated_in_both(tables: Sequence[Tensor], pairs: Sequence[tuple[int, int, int]]) -> Tensor:
    """``(B, L)``: true where both scans of ``(cohort, fixed, moving)`` annotate a label."""
    return torch.stack([tables[cohort][fixed] & tables[cohort][moving] for cohort, fixed, moving in pairs])
