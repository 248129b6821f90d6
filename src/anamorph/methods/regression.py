"""``regression``: the baseline of ``slicreg``, which learns coordinates in place of supervoxels.

1. A network tells where in a template each voxel of a scan belongs.
2. A random walk on a graph of some of these voxels smooths the displacements, a thin-plate spline carries them on.
3. A scan is registered to another by way of the template, both directions, made inverse to each other.
4. Optionally the field is refined on this pair, as that of ``convex`` is.

The publication (Heinrich and Hansen, MIDL 2021) describes the baseline in a sentence; the numbers here are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.methods.base import Run, setting
from anamorph.methods.learned import (
    Found,
    NetworkConfig,
    TemplatePair,
    TemplateSpace,
    carries_spline,
    lattice,
    through_template,
)
from anamorph.methods.presets import AS_TRAINED, with_own
from anamorph.networks.trained import output_grid
from anamorph.optimise.keypoint_field import KeypointGraph
from anamorph.transforms.thin_plate import ThinPlate

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.networks.supervoxel_network import CoordinateNetwork


@dataclass(frozen=True, eq=False)
class PredictedPlaces:
    """Points ``(N, 3)`` of a scan, and the points of the template they belong to, in mm of the frame."""

    here: np.ndarray
    there: np.ndarray
    frame: Grid

    @classmethod
    def predict(
        cls,
        network: CoordinateNetwork,
        image: Tensor,
        frame: Grid,
        count: int,
        mask: np.ndarray | None,
        seed: int,
    ) -> PredictedPlaces:
        """Of a scan ``(1, C, I, J, K)``: random outputs of the network that fall into the template's foreground.

        Args:
            network: in evaluation mode, on the device of the scan.
            image: the scan in the frame.
            frame: of the network.
            count: of points.
            mask: ``(I, J, K)`` bool in the frame: other places are left out.
            seed: of the choice.
        """
        import torch

        with torch.no_grad():
            moves = network(image)[0].float().cpu().numpy()
        grid = output_grid(frame)
        at = np.indices(grid.shape, np.float32) * 2 + 1
        goal = at + moves * (np.array(frame.shape, np.float32)[:, None, None, None] / 2)
        template = network.template.cpu().numpy()[:1]
        useful = sample(template, np.ascontiguousarray(goal), "nearest", 0)[0] > 0
        if mask is not None:
            useful &= mask[1::2, 1::2, 1::2]
        chosen = np.random.default_rng(seed).permutation(np.flatnonzero(useful))[:count]
        here, there = (frame.voxel_to_world(v.reshape(3, -1)[:, chosen].T) for v in (at, goal))
        return cls(here, there, frame)

    def fields(self, neighbours: int, beta: float, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
        """Fields ``(3, I, J, K)`` on the lattice from the scan to the template and back.

        Args:
            neighbours: of each point in the graph of the random walk.
            beta: how far neighbours share their displacements.
            smoothing: of the thin-plate splines.
        """
        grid = lattice(self.frame)
        if not carries_spline(self.here):
            zero = np.zeros((3, *grid.shape), np.float32)
            return zero, zero.copy()
        graph = KeypointGraph.of_neighbours(self.here, neighbours)
        moves = graph.random_walk(self.there - self.here, beta)
        onward = ThinPlate(self.here, moves, "r", smoothing)
        back = ThinPlate(self.here + moves, -moves, "r", smoothing)
        return onward.displacement_on(grid).disp_vox, back.displacement_on(grid).disp_vox


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

    def match(self, pair: TemplatePair, run: Run) -> Found:
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
        if not all(carries_spline(side.here) for side in sides):
            run.warnings.append(f"{model.card.name} finds too little of the template in these scans to register them")
        return Found(forward, backward, lattice(model.frame))
