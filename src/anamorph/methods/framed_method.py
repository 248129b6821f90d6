"""Methods whose network tells of one scan at a time, in the frame of a template."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.framed_pair import FramedPair, framed_memory
from anamorph.methods.refined_pair import NetworkConfig
from anamorph.methods.stages import Stages
from anamorph.networks.template_model import Kind, TemplateModel
from anamorph.runtime.device import resolve_device
from anamorph.transforms import Transform


@dataclass(frozen=True)
class Matched:
    """Fields from fixed to moving and back on the lattice of the frame, the objective of every fit, and concerns."""

    forward: np.ndarray
    backward: np.ndarray
    trace: dict[str, list[float]] = field(default_factory=dict)
    concerns: list[str] = field(default_factory=list)


class FramedMethod(Method):
    """Frames and start, what a method finds of both scans, and the refinement; models are of the kind of its name."""

    name: ClassVar[Kind]
    config: NetworkConfig

    def __call__(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Mask | None = None,
        moving_mask: Mask | None = None,
        init: Transform | None = None,
        device: Device = "auto",
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Result:
        config, where, stages = self.config, resolve_device(device), Stages(progress)
        with stages.stage("load", 0.0):
            model = TemplateModel.load(config.model, self.name, where)
            model.check(fixed, moving)
        with stages.stage("initialise", 0.05):
            pair = FramedPair.of(config, model, fixed, moving, fixed_mask, moving_mask, init)
        matched = self.match(model, pair, where, seed, stages)
        with stages.stage("refine", 0.6):
            found = pair.finish(
                config, matched.forward, matched.backward, where,
                lambda fraction: stages.progress("refine", 0.6 + 0.38 * fraction),
            )  # fmt: skip
        return Result(
            found.fixed_to_moving,
            found.moving_to_fixed,
            stages.seconds,
            matched.trace | found.trace,
            model.warnings_for(fixed, moving) + pair.warnings + matched.concerns,
            {"model": {"name": model.card.name, "sha256": model.card.sha256}, **pair.notes, **found.notes},
        )

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        return framed_memory(self.config, TemplateModel.describe(self.config.model, self.name), fixed, moving)

    @abstractmethod
    def match(
        self, model: TemplateModel, pair: FramedPair, device: Literal["cpu", "cuda"], seed: int, stages: Stages
    ) -> Matched:
        """What the network says of both scans (stage ``network``, from 0.1), and what follows (``match``, from 0.4)."""
