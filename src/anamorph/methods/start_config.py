"""The settings of the linear start, which every method has."""

from __future__ import annotations

from dataclasses import dataclass

from anamorph.geometry import Grid
from anamorph.methods.base import Config, setting
from anamorph.methods.linear_start import INTENSITY_WEIGHT, Init, linear_start_bytes


@dataclass(frozen=True)
class StartConfig(Config):
    """Where a registration starts from, and how scans are compared there."""

    init: Init = setting(
        "auto",
        "linear start: auto compares all hypotheses and may turn, scale and shear; world trusts the files",
        renamed={"none": "world", "centre": "centres"},
    )
    intensity_weight: float = setting(
        INTENSITY_WEIGHT, "weight of squared intensity differences beside MIND-SSC; 0 for none"
    )

    def __post_init__(self) -> None:
        if self.intensity_weight < 0:
            raise ValueError("intensity_weight must not be negative")

    @property
    def trusts_headers(self) -> bool:
        return self.init == "world"

    def start_bytes(self, fixed: Grid, moving: Grid) -> int:
        """Peak memory of the linear start beside the prepared scans; 0 where none is looked for."""
        return linear_start_bytes(fixed, moving, self.init)
