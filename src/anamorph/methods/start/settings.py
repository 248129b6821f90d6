"""Where a registration starts from: what a user may ask for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, Self, get_args

from anamorph.methods.base import Config, setting
from anamorph.methods.guide import NONE, guide_models
from anamorph.transforms.affine import LinearModel

Init = Literal["auto", "world", "centres", "translation", "rigid", "similarity", "affine", "any-pose"]
"""``world`` and ``centres`` are taken as they are; the others compare all hypotheses and allow the map that they name:
``auto`` and ``any-pose`` an affine one, the latter after trying all rotations of any pair."""

AS_NAMED: tuple[Literal["world"], Literal["centres"]] = ("world", "centres")
"""Nothing is searched for."""
RENAMED = {"none": "world", "centre": "centres"}
"""Names of earlier versions, and what each is called now."""
INTENSITY_WEIGHT = 3.0
"""Of squared intensity differences beside MIND-SSC, where intensities compare."""


@dataclass(frozen=True)
class StartConfig(Config):
    """Where a registration starts from, and how scans are compared there."""

    init: Init = setting(
        "auto",
        "linear start: auto compares all hypotheses and may turn, scale and shear; world trusts the files",
        renamed=RENAMED,
    )
    intensity_weight: float = setting(
        INTENSITY_WEIGHT, "weight of squared intensity differences beside MIND-SSC; 0 for none"
    )
    intensity_in_start: float = setting(
        1.0, "share of intensity_weight that counts in the linear start, which has to tell related scans from others"
    )
    guide: str = setting(
        "none",
        "a model of `anamorph train segment` whose labels correct the start and are compared too, the first fitting "
        "one of several, or none",
    )

    def __post_init__(self) -> None:
        if self.intensity_weight < 0 or self.intensity_in_start < 0:
            raise ValueError("intensity_weight and intensity_in_start must not be negative")

    @property
    def start_weight(self) -> float:
        """The weight of squared intensity differences in the linear start."""
        return self.intensity_in_start * self.intensity_weight

    def counting(self, share: float) -> Self:
        """The settings where intensities count a share of what they do between scans of one contrast."""
        return dataclasses.replace(self, intensity_weight=share * self.intensity_weight)

    def models(self) -> tuple[str, ...]:
        return tuple(guide_models(self.guide))

    @property
    def remark(self) -> str:
        *optional, last = self.guide.split(",")
        if not optional or last != NONE:
            return ""
        found = guide_models(self.guide)
        if found:
            return f"guided by what {' or '.join(found)} sees; --set guide=none leaves it out"
        return f"{optional[0]}, which would guide such scans, is not installed: pip install ./packages/anamorph-models"

    @property
    def trusts_headers(self) -> bool:
        return self.init == "world"


def linear_model(init: Init) -> LinearModel:
    """The kind of map that a start allows."""
    return init if init in get_args(LinearModel) else "affine"  # type: ignore[return-value]
