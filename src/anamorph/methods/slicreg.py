"""``slicreg``: registration by segmentation into supervoxels (Heinrich and Hansen, MIDL 2021).

1. A network names, for every voxel and for each of several layers, the supervoxel of a template it belongs to.
2. Adam moves points of one scan to where the other has the same supervoxels, neighbours alike.
3. A thin-plate spline carries their displacements to all other places; both directions, made inverse to each other.
4. Optionally the field is refined on this pair, as that of ``convex`` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.features.layer_codes import draw_codes
from anamorph.methods.base import Run, setting
from anamorph.methods.learned import NetworkConfig
from anamorph.methods.predicted_layers import LayerFeatures, LayerPoints, PredictedLayers, keypoint_field
from anamorph.methods.presets import AS_TRAINED, with_own
from anamorph.methods.template_space import TemplatePair, TemplateSpace, lattice, through_template
from anamorph.optimise.keypoint_field import KeypointSettings
from anamorph.transforms.thin_plate import Kernel

PUBLISHED: dict[str, Any] = {
    "match": "template",
    "features": "one-hot",
    "points": "random",
    "kernel": "r2logr",
    "smoothing": 0.001,
    "refine": False,
}


@dataclass(frozen=True)
class SlicregConfig(NetworkConfig):
    """Settings of ``slicreg``; those of the fit are the published ones."""

    match: Literal["direct", "template"] = setting(
        "direct", "compare the scans with each other, or each with the template"
    )
    features: LayerFeatures = setting("soft", "probabilities of the supervoxels, or the likeliest ones as published")
    points: LayerPoints = setting("centres", "where the map is fitted: centres of the supervoxels, or random places")
    point_count: int = setting(2048, "how many random places")
    neighbours: int = setting(8, "of each point in the graph")
    alpha: float = setting(0.015, "weight of the differences between neighbours: larger is stiffer")
    point_rate: float = setting(0.05, "largest step of an iteration of the fit", "half the extent of the frame")
    point_iterations: int = setting(100, "of the fit")
    kernel: Kernel = setting("r", "of the thin-plate spline: r in three dimensions, r2logr as published")
    smoothing: float = setting(0.1, "of the thin-plate spline; 0 goes through all points")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.neighbours, self.point_iterations) < 1 or self.point_count < 8:
            raise ValueError("neighbours and point_iterations must be at least 1, point_count at least 8")
        if self.point_rate <= 0 or min(self.alpha, self.smoothing) < 0:
            raise ValueError("point_rate must be above 0, alpha and smoothing not negative")

    def fit(self) -> KeypointSettings:
        """Of the points."""
        return KeypointSettings(self.alpha, self.point_rate, self.point_iterations)


class Slicreg(TemplateSpace):
    """Supervoxels of a template, predicted and matched."""

    name = "slicreg"
    summary = "a trained network names the supervoxels of both scans, which are matched; then the refinement of convex"
    Config = SlicregConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(AS_TRAINED) | {"published": PUBLISHED}
    config: SlicregConfig

    def match(self, pair: TemplatePair, run: Run) -> tuple[np.ndarray, np.ndarray]:
        with run.stage("network", 0.1):
            matching = _Matching(self.config, pair, run)
        with run.stage("match", 0.4):
            forward, backward, trace = matching.both_directions()
        run.trace |= trace
        if not all(trace.values()):
            run.warnings.append(f"{pair.model.card.name} finds too few supervoxels in these scans to match them")
        return forward, backward


class _Matching:
    """The supervoxels of two scans, and of the template where it is asked for."""

    def __init__(self, config: SlicregConfig, pair: TemplatePair, run: Run) -> None:
        import torch

        model = pair.model
        self.config, self.frame, self.masks, self.seed = config, model.frame, pair.masks, run.seed
        network: Any = model.network
        codes = draw_codes(network.layers, network.classes, np.random.default_rng(run.seed))
        self.sides = [
            PredictedLayers.predict(
                network,
                torch.from_numpy(np.ascontiguousarray(one))[None].to(run.device),
                model.frame,
                codes,
                config.features,
            )
            for one in pair.inputs
        ]
        self.template: PredictedLayers | None = None
        if config.match == "template":
            if not hasattr(network, "template"):
                raise UserError(f"{model.card.name} came without its template; pass --set match=direct")
            labels = network.template.cpu().numpy()
            self.template = PredictedLayers.given(labels, model.frame, codes, run.device)

    def both_directions(self) -> tuple[np.ndarray, np.ndarray, dict[str, list[float]]]:
        """Fields from fixed to moving and back on the lattice, and the objective of every fit."""
        fixed, moving = self.sides
        of_fixed, of_moving = self.masks
        if self.template is None:
            forward, there = self._field(fixed, moving, of_fixed)
            backward, back = self._field(moving, fixed, of_moving)
            return forward, backward, {"match": there, "match back": back}
        to_template = [
            self._field(side, self.template, mask) for side, mask in zip(self.sides, self.masks, strict=True)
        ]
        from_template = [self._field(self.template, side, None) for side in self.sides]
        forward = through_template(to_template[0][0], from_template[1][0])
        backward = through_template(to_template[1][0], from_template[0][0])
        names = "fixed to template", "moving to template", "template to fixed", "template to moving"
        traces = [trace for _, trace in (*to_template, *from_template)]
        return forward, backward, dict(zip(names, traces, strict=True))

    def _field(
        self, here: PredictedLayers, there: PredictedLayers, mask: np.ndarray | None
    ) -> tuple[np.ndarray, list[float]]:
        config = self.config
        places = here.points(config.points, config.point_count, mask, self.frame, self.seed)
        spline = config.kernel, config.smoothing
        return keypoint_field(here, there, places, config.fit(), config.neighbours, spline, lattice(self.frame))
