"""What ``regression`` knows of a scan: where in the template some of its points belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.methods.predicted_layers import FEWEST_POINTS
from anamorph.methods.template_space import lattice
from anamorph.networks.template_model import output_grid
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
        if len(self.here) < FEWEST_POINTS:
            zero = np.zeros((3, *grid.shape), np.float32)
            return zero, zero.copy()
        graph = KeypointGraph.of_neighbours(self.here, neighbours)
        moves = graph.random_walk(self.there - self.here, beta)
        onward = ThinPlate(self.here, moves, "r", smoothing)
        back = ThinPlate(self.here + moves, -moves, "r", smoothing)
        return onward.displacement_on(grid).disp_vox, back.displacement_on(grid).disp_vox
