"""``regression``: the baseline of ``slicreg``, which learns coordinates in place of supervoxels.

1. A network tells where in a template each voxel of a scan belongs.
2. A random walk on a graph of some of these voxels smooths the displacements, a thin-plate spline carries them on.
3. A scan is registered to another by way of the template, both directions, made inverse to each other.
4. Optionally the field is refined on this pair, as that of ``convex`` is.

The publication (Heinrich and Hansen, MIDL 2021) describes the baseline in a sentence; the numbers here are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from anamorph.methods.base import Run, setting
from anamorph.methods.learned import NetworkConfig
from anamorph.methods.predicted_layers import FEWEST_POINTS
from anamorph.methods.predicted_places import PredictedPlaces
from anamorph.methods.presets import AS_TRAINED, with_own
from anamorph.methods.template_space import TemplatePair, TemplateSpace, through_template


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


class Regression(TemplateSpace):
    """Coordinates of a template, predicted."""

    name = "regression"
    summary = "the baseline of slicreg: a trained network tells template coordinates; then the refinement of convex"
    Config = RegressionConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(AS_TRAINED) | {"published": {"refine": False}}
    config: RegressionConfig

    def match(self, pair: TemplatePair, run: Run) -> tuple[np.ndarray, np.ndarray]:
        import torch

        config, model = self.config, pair.model
        network: Any = model.network
        with run.stage("network", 0.1):
            sides = []
            for channels, mask in zip(pair.inputs, pair.masks, strict=True):
                image = torch.from_numpy(np.ascontiguousarray(channels))[None].to(run.device)
                sides.append(PredictedPlaces.predict(network, image, model.frame, config.point_count, mask, run.seed))
        with run.stage("match", 0.4):
            settings = config.neighbours, config.beta, config.smoothing
            (to_template, back_to_fixed), (other_to_template, to_moving) = (side.fields(*settings) for side in sides)
            forward = through_template(to_template, to_moving)
            backward = through_template(other_to_template, back_to_fixed)
        if min(len(side.here) for side in sides) < FEWEST_POINTS:
            run.warnings.append(f"{model.card.name} finds too little of the template in these scans to register them")
        return forward, backward
