"""What ``slicreg`` knows of a scan: its supervoxels, predicted or given, and the field between two such scans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from anamorph.features.layer_codes import CodedLayers, code_labels, code_scores, random_points, supervoxel_centres
from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.networks.template_model import output_grid
from anamorph.optimise.keypoint_field import KeypointGraph, KeypointSettings, fit_keypoints
from anamorph.transforms.thin_plate import Kernel, ThinPlate

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.networks.supervoxel_network import SupervoxelNetwork

LayerFeatures = Literal["soft", "one-hot"]
LayerPoints = Literal["centres", "random"]
FEWEST_POINTS = 8
"""A scan in which fewer are found is left where it is."""
CHUNK = 16
"""Classes whose scores are brought to the full resolution at a time."""


@dataclass(frozen=True, eq=False)
class PredictedLayers:
    """Supervoxels of one scan in the frame of the network: features to compare, and labels ``(L, I, J, K)``."""

    coded: CodedLayers
    labels: np.ndarray
    grid: Grid

    @classmethod
    def given(cls, labels: np.ndarray, frame: Grid, codes: np.ndarray, device: str) -> PredictedLayers:
        """Of label maps ``(L, I, J, K)`` uint8 on the frame itself, such as those of the template."""
        import torch

        return cls(code_labels(torch.from_numpy(labels).to(device), frame, codes), labels, frame)

    @classmethod
    def predict(
        cls, network: SupervoxelNetwork, image: Tensor, frame: Grid, codes: np.ndarray, features: LayerFeatures
    ) -> PredictedLayers:
        """Of a scan ``(1, C, I, J, K)`` in the frame.

        Args:
            network: in evaluation mode, on the device of the scan.
            image: the scan.
            frame: of the network.
            codes: which labels share a code.
            features: ``"soft"`` keeps the probabilities; ``"one-hot"`` takes the likeliest labels at the resolution of
                the frame, as published.
        """
        import torch

        with torch.no_grad():
            if features == "one-hot":
                likeliest = [_full_labels(scores, frame) for scores in network.scores_by_layer(image)]
                labels = torch.stack(likeliest)
                return cls(code_labels(labels, frame, codes), labels.cpu().numpy(), frame)
            grid, found = output_grid(frame), []

            def remembered() -> Iterator[Tensor]:
                for scores in network.scores_by_layer(image):
                    found.append(scores.argmax(dim=0).byte())
                    yield scores

            coded = code_scores(remembered(), grid, codes)
            return cls(coded, torch.stack(found).cpu().numpy(), grid)

    def points(self, kind: LayerPoints, count: int, mask: np.ndarray | None, frame: Grid, seed: int) -> np.ndarray:
        """Places ``(N, 3)`` in mm of the frame at which a map is fitted.

        Args:
            kind: centres of the supervoxels of all layers, or random voxels of the foreground.
            count: of random ones.
            mask: ``(I, J, K)`` bool in the frame: other places are left out.
            frame: of the network.
            seed: of the choice.
        """
        if kind == "centres":
            found = supervoxel_centres(self.labels)
        else:
            found = random_points(self.labels[0] > 0, count, np.random.default_rng(seed))
        places = self.grid.voxel_to_world(found)
        if mask is None:
            return places
        weights: np.ndarray = mask[None].astype(np.uint8)
        at: np.ndarray = frame.world_to_voxel(places).T.astype(np.float32)
        return places[sample(weights, at, "nearest", 0)[0] > 0]


def keypoint_field(
    fixed: PredictedLayers,
    moving: PredictedLayers,
    places: np.ndarray,
    settings: KeypointSettings,
    neighbours: int,
    spline: tuple[Kernel, float],
    lattice: Grid,
) -> tuple[np.ndarray, list[float]]:
    """The field from one scan to another by their supervoxels.

    Args:
        fixed: whose points move.
        moving: where they look for the same features.
        places: ``(N, 3)`` mm of the frame.
        settings: of the fit.
        neighbours: of each point in the graph.
        spline: kernel and smoothing of the thin-plate spline.
        lattice: where the field is wanted.

    Returns:
        ``(3, I, J, K)`` voxels of the lattice, and the objective per iteration.
    """
    if len(places) < FEWEST_POINTS:
        return np.zeros((3, *lattice.shape), np.float32), []
    grid = moving.coded.grid
    graph = KeypointGraph.of_neighbours(places, neighbours)
    wanted, start = fixed.coded.at(places), grid.world_to_voxel(places)
    found, trace = fit_keypoints(wanted, moving.coded.values, start, graph, settings)
    half = np.array(lattice.shape) * lattice.spacing_mm / 2
    kernel, smoothing = spline
    # The published kernel knows coordinates in which the frame is the cube from -1 to 1.
    metric = np.diag(1 / half) if kernel == "r2logr" else np.eye(3) / half.max()
    thin_plate = ThinPlate(places, found @ grid.affine[:3, :3].T, kernel, smoothing, metric)
    return thin_plate.displacement_on(lattice).disp_vox, trace


def _full_labels(scores: Tensor, frame: Grid) -> Tensor:
    """The likeliest label ``(I, J, K)`` at every voxel of the frame, scores ``(S, i, j, k)`` read linearly."""
    import torch

    weights = [_line_weights(n, m, scores) for n, m in zip(frame.shape, scores.shape[1:], strict=True)]
    best = scores.new_full(frame.shape, -torch.inf)
    labels = torch.zeros(frame.shape, dtype=torch.uint8, device=scores.device)
    for first in range(0, len(scores), CHUNK):
        fine = torch.einsum("sijk,ai,bj,ck->sabc", scores[first : first + CHUNK], *weights)
        value, winner = fine.max(dim=0)
        better = value > best
        labels[better] = (winner[better] + first).byte()
        best = torch.maximum(best, value)
    return labels


def _line_weights(fine: int, coarse: int, like: Tensor) -> Tensor:
    """``(fine, coarse)``: linear reading along a line on which coarse voxel o lies at fine voxel 2 o + 1."""
    import torch

    at = ((torch.arange(fine, device=like.device) - 1) / 2).clamp(0, coarse - 1)
    distance = (at[:, None] - torch.arange(coarse, device=like.device)).abs()
    return (1 - distance).clamp(min=0).to(like.dtype)
