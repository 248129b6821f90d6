"""The settings of ``symmetric``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from anamorph.methods.base import setting
from anamorph.methods.refinement import RefinementConfig

SymmetricStart = Literal["centre", "none", "translation", "rigid", "affine"]


@dataclass(frozen=True)
class SymmetricConfig(RefinementConfig):
    """Settings of ``symmetric``: the model, the start, and the refinement of what the network finds."""

    model: str = setting("symmetric-hippocampus", "a model folder, a run of `anamorph train`, or a model by name")
    init: SymmetricStart = setting(  # type: ignore[assignment]
        "centre", "linear start: centre brings the middles of the scans together, as in training; none trusts the files"
    )
    refine: bool = setting(True, "optimise the field of the network on this pair; its result does not fold")
