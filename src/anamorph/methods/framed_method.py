"""Methods whose network tells of one scan at a time, in the frame of a template."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from anamorph.geometry import Grid
from anamorph.methods.base import Method, Outcome, Pair, Run
from anamorph.methods.framed_pair import FramedPair, framed_memory
from anamorph.methods.refined_pair import REFINED_FROM, NetworkConfig
from anamorph.networks.template_model import Kind, TemplateModel


class FramedMethod(Method):
    """Frames and start, what a method finds of both scans, and the refinement; models are of the kind of its name."""

    name: ClassVar[Kind]
    config: NetworkConfig

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        config = self.config
        with run.stage("load", 0.0):
            model = TemplateModel.load(config.model, self.name, run.device)
            model.check(pair.fixed, pair.moving)
            run.provenance["model"] = model.identity
            run.warnings += model.warnings_for(pair.fixed, pair.moving)
        with run.stage("initialise", 0.05):
            framed = FramedPair.of(config, model, pair, run)
        forward, backward = self.match(model, framed, run)
        with run.stage("refine", REFINED_FROM):
            both = framed.finish(config, forward, backward, run)
        return run.outcome(*both)

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        return framed_memory(self.config, TemplateModel.describe(self.config.model, self.name), fixed, moving)

    @abstractmethod
    def match(self, model: TemplateModel, pair: FramedPair, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Fields from fixed to moving and back on the lattice of the frame, ``(3, I, J, K)`` voxels of it.

        What the network says of both scans is the stage ``network``, from 0.1, what follows ``match``, from 0.4.
        """
