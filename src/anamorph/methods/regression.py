"""``regression``: the baseline of ``slicreg``, which learns coordinates in place of supervoxels.

1. A network tells where in a template each voxel of a scan belongs.
2. A random walk on a graph of some of these voxels smooths the displacements, a thin-plate spline carries them on.
3. A scan is registered to another by way of the template, both directions, made inverse to each other.
4. On wish the field is refined on this pair, as that of ``convex`` is.

The publication (Heinrich and Hansen, MIDL 2021) describes the baseline in a sentence; the numbers here are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Progress, Result, setting
from anamorph.methods.device import resolve_device
from anamorph.methods.framed_pair import FramedPair, framed_memory, through_template
from anamorph.methods.predicted_layers import FEWEST_POINTS
from anamorph.methods.predicted_places import PredictedPlaces
from anamorph.methods.presets import with_own
from anamorph.methods.refined_pair import NetworkConfig
from anamorph.methods.stages import Stages
from anamorph.networks.template_model import TemplateModel
from anamorph.transforms import Transform


@dataclass(frozen=True)
class RegressionConfig(NetworkConfig):
    """Settings of ``regression``."""

    point_count: int = setting(1024, "places whose displacements are taken")
    neighbours: int = setting(8, "of each place in the graph of the random walk")
    beta: float = setting(1.0, "how far neighbours share their displacements in the random walk; 0 for not at all")
    smoothing: float = setting(0.1, "of the thin-plate spline; 0 goes through all points")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours < 1 or self.point_count < 8 or min(self.beta, self.smoothing) < 0:
            raise ValueError("neighbours must be at least 1, point_count at least 8, beta and smoothing not negative")


class Regression(Method):
    """Coordinates of a template, predicted."""

    name = "regression"
    summary = "the baseline of slicreg: a trained network tells template coordinates; then the refinement of convex"
    Config = RegressionConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own({"head-neck-ct": {"init": "centre"}}) | {
        "published": {"refine": False}
    }
    config: RegressionConfig

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
        import torch

        config, where, stages = self.config, resolve_device(device), Stages(progress)
        with stages.stage("load", 0.0):
            model = TemplateModel.load(config.model, "regression", where)
            model.check(fixed, moving)
            network: Any = model.network
        with stages.stage("initialise", 0.05):
            pair = FramedPair.of(config, model, fixed, moving, fixed_mask, moving_mask, init)
        with stages.stage("network", 0.1):
            sides = []
            for channels, mask in zip(pair.inputs, pair.masks, strict=True):
                image = torch.from_numpy(np.ascontiguousarray(channels))[None].to(where)
                sides.append(PredictedPlaces.predict(network, image, model.frame, config.point_count, mask, seed))
        with stages.stage("match", 0.4):
            settings = config.neighbours, config.beta, config.smoothing
            (to_template, back_to_fixed), (other_to_template, to_moving) = (side.fields(*settings) for side in sides)
            forward = through_template(to_template, to_moving)
            backward = through_template(other_to_template, back_to_fixed)
        with stages.stage("refine", 0.6):
            found = pair.finish(config, forward, backward, where, partial(_tell, stages))
        provenance = {"model": {"name": model.card.name, "sha256": model.card.sha256}, **pair.notes, **found.notes}
        warnings = model.concerns(fixed, moving)
        if min(len(side.here) for side in sides) < FEWEST_POINTS:
            warnings.append(f"{model.card.name} finds too little of the template in these scans to register them")
        return Result(found.fixed_to_moving, found.moving_to_fixed, stages.seconds, found.trace, warnings, provenance)

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        model = TemplateModel.describe(self.config.model, "regression")
        return framed_memory(self.config, model, fixed, moving)


def _tell(stages: Stages, fraction: float) -> None:
    stages.progress("refine", 0.6 + 0.38 * fraction)
