"""The settings of ``symmetric``."""

from __future__ import annotations

from dataclasses import dataclass

from anamorph.methods.base import setting
from anamorph.methods.refined_pair import NetworkConfig


@dataclass(frozen=True)
class SymmetricConfig(NetworkConfig):
    """Settings of ``symmetric``: the model, the start, and the refinement of what the network finds."""

    model: str = setting("symmetric-hippocampus", "a model folder, a run of `anamorph train`, or a model by name")
