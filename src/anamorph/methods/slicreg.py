"""``slicreg``: registration by segmentation into supervoxels (Heinrich and Hansen, MIDL 2021).

1. A network names, for every voxel and for each of several layers, the supervoxel of a template it belongs to.
2. Adam moves points of one scan to where the other has the same supervoxels, neighbours alike.
3. A thin-plate spline carries their displacements to all other places; both directions, made inverse to each other.
4. Optionally the field is refined on this pair, as that of ``convex`` is; the probabilities of the supervoxels can be
   compared beside the descriptors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.features.layer_codes import (
    CodedLayers,
    code_labels,
    code_scores,
    draw_codes,
    draw_signs,
    project_scores,
    random_points,
    supervoxel_centres,
)
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.methods.base import Run, setting
from anamorph.methods.guide import lane_bytes
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
from anamorph.methods.working_frame import Scan
from anamorph.networks.trained import output_grid
from anamorph.optimise.keypoint_field import KeypointGraph, KeypointSettings, fit_keypoints
from anamorph.transforms.thin_plate import Kernel, ThinPlate

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.networks.supervoxel_network import SupervoxelNetwork


LayerFeatures = Literal["soft", "one-hot"]
LayerPoints = Literal["centres", "random"]
CHUNK = 16
"""Classes whose scores are brought to the full resolution at a time."""


@dataclass(frozen=True, eq=False)
class PredictedLayers:
    """Supervoxels of one scan in the frame of the network: features to compare, and labels ``(L, I, J, K)``."""

    coded: CodedLayers
    labels: np.ndarray
    grid: Grid
    projected: np.ndarray | None = None
    """Probabilities in few channels ``(C, i, j, k)`` at the outputs of the network."""

    @classmethod
    def given(cls, labels: np.ndarray, frame: Grid, codes: np.ndarray, device: str) -> PredictedLayers:
        """Of label maps ``(L, I, J, K)`` uint8 on the frame itself, such as those of the template."""
        import torch

        return cls(code_labels(torch.from_numpy(labels).to(device), frame, codes), labels, frame)

    @classmethod
    def predict(
        cls,
        network: SupervoxelNetwork,
        image: Tensor,
        frame: Grid,
        codes: np.ndarray,
        features: LayerFeatures,
        signs: np.ndarray | None = None,
    ) -> PredictedLayers:
        """Of a scan ``(1, C, I, J, K)`` in the frame.

        Args:
            network: in evaluation mode, on the device of the scan.
            image: the scan.
            frame: of the network.
            codes: which labels share a code.
            features: ``"soft"`` keeps the probabilities; ``"one-hot"`` takes the likeliest labels at the resolution of
                the frame, as published.
            signs: of the projection of the probabilities; None for none.
        """
        import torch

        projected: Any = None if signs is None else 0

        def seen() -> Iterator[Tensor]:
            nonlocal projected
            for number, scores in enumerate(network.scores_by_layer(image)):
                if signs is not None:
                    projected = projected + project_scores(scores, signs[number])
                yield scores

        with torch.no_grad():
            if features == "one-hot":
                labels = torch.stack([_full_labels(scores, frame) for scores in seen()])
                coded, grid = code_labels(labels, frame, codes), frame
            else:
                grid, likeliest = output_grid(frame), []

                def remembered() -> Iterator[Tensor]:
                    for scores in seen():
                        likeliest.append(scores.argmax(dim=0).byte())
                        yield scores

                coded = code_scores(remembered(), grid, codes)
                labels = torch.stack(likeliest)
        return cls(coded, labels.cpu().numpy(), grid, None if projected is None else projected.cpu().numpy())

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
    if not carries_spline(places):
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
    supervoxel_weight: float = setting(
        0.0, "weight of squared differences of the supervoxels' probabilities beside MIND-SSC in search and refinement"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.neighbours, self.point_iterations) < 1 or self.point_count < 8:
            raise ValueError("neighbours and point_iterations must be at least 1, point_count at least 8")
        if self.point_rate <= 0 or min(self.alpha, self.smoothing, self.supervoxel_weight) < 0:
            raise ValueError("point_rate must be above 0; alpha, smoothing and supervoxel_weight not negative")

    def seen_bytes(self, base: Grid, fixed: Grid, moving: Grid, beside: str | None = None) -> int:
        """Memory of what networks see in two scans, and of the supervoxels."""
        return super().seen_bytes(base, fixed, moving, beside) + lane_bytes(base, int(self.supervoxel_weight > 0))

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

    def match(self, pair: TemplatePair, run: Run) -> Found:
        with run.stage("network", 0.1):
            matching = _Matching(self.config, pair, run)
        with run.stage("match", 0.4):
            forward, backward, trace = matching.both_directions()
        run.trace |= trace
        if not all(trace.values()):
            run.warnings.append(f"{pair.model.card.name} finds too few supervoxels in these scans to match them")
        return Found(forward, backward, lattice(pair.model.frame), matching.seen)


class _Matching:
    """The supervoxels of two scans, and of the template where it is asked for."""

    def __init__(self, config: SlicregConfig, pair: TemplatePair, run: Run) -> None:
        import torch

        model = pair.model
        self.config, self.frame, self.masks, self.seed = config, model.frame, pair.masks, run.seed
        network: Any = model.network
        rng = np.random.default_rng(run.seed)
        codes = draw_codes(network.layers, network.classes, rng)
        compares = config.refine and config.supervoxel_weight > 0
        signs = draw_signs(network.layers, network.classes, rng) if compares else None
        self.sides = [
            PredictedLayers.predict(
                network,
                torch.from_numpy(np.ascontiguousarray(one))[None].to(run.device),
                model.frame,
                codes,
                config.features,
                signs,
            )
            for one in pair.inputs
        ]
        self.template: PredictedLayers | None = None
        if config.match == "template":
            if not hasattr(network, "template"):
                raise UserError(f"{model.card.name} came without its template; pass --set match=direct")
            labels = network.template.cpu().numpy()
            self.template = PredictedLayers.given(labels, model.frame, codes, run.device)

    @property
    def seen(self) -> tuple[Scan, Scan] | None:
        """The probabilities of both scans in few channels, scaled by the root of their weight, if they are compared."""
        grid, scale = output_grid(self.frame), np.float32(np.sqrt(self.config.supervoxel_weight))
        channels = [scale * side.projected for side in self.sides if side.projected is not None]
        if not channels:
            return None
        fixed, moving = (Scan(one, np.ones(grid.shape, np.float32), grid) for one in channels)
        return fixed, moving

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
