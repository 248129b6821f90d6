"""Settings of every task that trains on scans: how they are read and varied, and the optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.networks.preprocessing import Normalise, Preprocessing
from anamorph.training.augmentation import Augmentation

if TYPE_CHECKING:
    import torch
    from torch import nn

    from anamorph.training.cache import Cohort


@dataclass(frozen=True)
class ReadingConfig:
    """How scans are read and varied, and the optimiser."""

    spacing_mm: float | tuple[float, float, float] = setting(
        0.0, "voxel size scans are read at, one for all axes or one for each; 0: their own", "mm"
    )
    shape: tuple[int, ...] = setting((), "common shape, cropped or padded; empty: what covers the largest", "voxels")
    normalise: Normalise = setting("percentile", "how intensities are brought to [0, 1]")
    windows: tuple[float, ...] = setting((), "low,high of each channel in turn, for normalise=windows", "HU")
    crop_in_use: bool = setting(False, "crop scans to shape in use too; else the network then sees all of larger ones")
    crop: tuple[int, ...] = setting((), "train on random crops of this shape; empty: on whole scans", "voxels")
    flip_axes: tuple[int, ...] = setting((), "axes along which scans may be mirrored")
    quarter_turns: bool = setting(False, "turn cubes by multiples of 90 degrees")
    affine_chance: float = setting(0.9, "chance of an affine map, and of each change of the intensities")
    rotation_deg: float = setting(0.0, "largest random rotation", "degrees")
    zoom: float = setting(1.0, "largest random factor of size; its inverse is the smallest")
    shift: float = setting(0.0, "largest random translation", "share of the extent")
    shear: float = setting(0.0, "largest random shear")
    gamma: float = setting(0.0, "largest random log exponent of the intensities")
    contrast: float = setting(0.0, "largest random relative change of contrast")
    brightness: float = setting(0.0, "largest random offset of the intensities")
    noise: float = setting(0.0, "largest standard deviation of random noise")
    rate: float = setting(1e-4, "learning rate of Adam")
    weight_decay: float = setting(0.0, "decoupled decay of the weights")

    def __post_init__(self) -> None:
        if any(len(sizes) not in (0, 3) or (sizes and min(sizes) < 1) for sizes in (self.shape, self.crop)):
            raise ValueError("shape and crop are three numbers of voxels, or empty")
        if len(self.windows) % 2:
            raise ValueError("windows needs a low and a high value for each channel")
        if self.zoom < 1 or self.rate <= 0:
            raise ValueError("zoom must be at least 1 and rate above 0")
        if self.spacing_mm != 0 and np.min(self.spacing_mm) <= 0:
            raise ValueError("spacing_mm must be above 0, or 0 for the voxels of the scans")

    @property
    def multiple(self) -> int:
        """To which the shape is rounded up when it is not given, voxels."""
        return 8

    def preprocessing(self) -> Preprocessing:
        """How scans are read."""
        windows = tuple(zip(self.windows[::2], self.windows[1::2], strict=True))
        shape = tuple(self.shape) or None
        return Preprocessing(
            self.spacing_mm or None, shape, self.normalise, windows, self.multiple, self.crop_in_use,  # type: ignore[arg-type]
        )  # fmt: skip

    def augmentation(self) -> Augmentation:
        """How scans are varied."""
        return Augmentation(
            tuple(self.flip_axes), self.quarter_turns, self.affine_chance, self.rotation_deg,
            (1 / self.zoom, self.zoom), self.shift, self.shear, self.gamma, self.contrast, self.brightness, self.noise,
        )  # fmt: skip

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam, with decoupled decay of the weights if there is any."""
        import torch

        return torch.optim.AdamW(network.parameters(), lr=self.rate, weight_decay=self.weight_decay)

    def check(self, cohorts: tuple[Cohort, ...]) -> None:
        """See that scans of different cohorts fit into one batch.

        Raises:
            UserError: they differ in shape, or are smaller than the crop.
        """
        one = cohorts[0]
        for other in cohorts[1:]:
            if other.shape != one.shape and not self.crop:
                raise UserError(
                    f"{other.dataset.name} needs {other.shape} voxels and {one.dataset.name} {one.shape}; "
                    f"give them one shape: --set shape={','.join(map(str, map(max, one.shape, other.shape)))}"
                )
        for cohort in cohorts:
            if self.crop and any(c > n for c, n in zip(self.crop, cohort.shape, strict=True)):
                raise UserError(f"crop={self.crop} is larger than the scans of {cohort.dataset.name}, {cohort.shape}")
            self.augmentation().check(tuple(self.crop) or cohort.shape)  # type: ignore[arg-type]
