"""All numbers of one pair of a data set for one predicted field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from anamorph.data import Pair
from anamorph.errors import UserError
from anamorph.evaluation import learn2reg
from anamorph.evaluation.dice import dice
from anamorph.evaluation.hausdorff import hd95_mm
from anamorph.evaluation.jacobian import jacobian_summary
from anamorph.evaluation.label_regions import voxel_counts
from anamorph.evaluation.learn2reg.config import EvaluationConfig
from anamorph.evaluation.non_diffeomorphic import non_diffeomorphic_volume_percent
from anamorph.evaluation.pair import Agreement, PairMetrics
from anamorph.evaluation.predictions import in_world, parallel_kernels
from anamorph.evaluation.scores import Score, Scores, nan_mean, scalar
from anamorph.evaluation.tre import tre_mm
from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions, sample_labels
from anamorph.image import Labels, Points
from anamorph.image.read import read_grid, read_labels, read_mask, read_points
from anamorph.transforms import Displacement

LABEL_MAPS_KEPT = 16


class LabelMaps:
    """Reads label maps, and keeps the latest: each scan is in several pairs."""

    def __init__(self, kept: int = LABEL_MAPS_KEPT) -> None:
        self.read = lru_cache(kept)(_read_narrow)

    def present(self, path: Path) -> set[int]:
        """The labels that occur in a map."""
        return set(voxel_counts(self.read(path).data))


def _read_narrow(path: Path) -> Labels:
    labels = read_labels(path)
    fits = labels.data.min() >= 0 and labels.data.max() <= np.iinfo(np.uint16).max
    return Labels(labels.data.astype(np.uint16 if fits else np.int64), labels.grid, str(path))


@dataclass(frozen=True, eq=False)
class PairTruth:
    """What is known about a pair beside its images; labels are on the grids of the images."""

    fixed_grid: Grid
    moving_grid: Grid
    fixed_labels: Labels | None
    moving_labels: Labels | None
    mask: np.ndarray | None
    points: Mapping[str, tuple[Points, Points]]

    @classmethod
    def read(cls, pair: Pair, config: EvaluationConfig, maps: LabelMaps) -> PairTruth:
        """Read what the configuration needs.

        Raises:
            UserError: a file that is needed is missing, damaged, or does not fit its image.
        """
        fixed_grid, moving_grid = read_grid(pair.fixed.image), read_grid(pair.moving.image)
        if config.expected_shape not in (None, fixed_grid.shape):
            raise UserError(
                f"{pair.fixed.image}: {fixed_grid.shape} voxels, but the configuration expects {config.expected_shape}"
            )
        labels = [
            _labels_of(case.label, case.key, grid, maps) if config.labels else None
            for case, grid in ((pair.fixed, fixed_grid), (pair.moving, moving_grid))
        ]
        mask = None
        if config.masked and pair.fixed.mask is not None:
            mask = read_mask(pair.fixed.mask).data[0]
            if mask.shape != fixed_grid.shape:
                raise UserError(f"{pair.fixed.mask}: {mask.shape} voxels do not fit an image of {fixed_grid.shape}")
        points = {dest: _points_of(pair, dest, fixed_grid, moving_grid) for dest in config.destinations}
        return cls(fixed_grid, moving_grid, labels[0], labels[1], mask, points)

    @cached_property
    def fixed_surface(self) -> dict[int, learn2reg.SurfaceElements]:
        """Of every label of the fixed map."""
        assert self.fixed_labels is not None
        return learn2reg.surface_elements(self.fixed_labels.data[0])

    @cached_property
    def labels_in_both(self) -> set[int]:
        """Labels that occur in the fixed and in the moving map."""
        if self.fixed_labels is None or self.moving_labels is None:
            return set()
        return set(voxel_counts(self.fixed_labels.data)) & set(voxel_counts(self.moving_labels.data))


def _labels_of(path: Path | None, key: str, grid: Grid, maps: LabelMaps) -> Labels:
    if path is None:
        raise UserError(f"{key} has no label map, which Dice and HD95 need; add it to the data set")
    labels = maps.read(path)
    if labels.grid.shape != grid.shape:
        raise UserError(f"{path}: {labels.grid.shape} voxels do not fit an image of {grid.shape}")
    return labels


def _points_of(pair: Pair, dest: str, fixed_grid: Grid, moving_grid: Grid) -> tuple[Points, Points]:
    fixed, moving = pair.points(dest)
    if fixed is None or moving is None:
        raise UserError(f"{(pair.moving if fixed else pair.fixed).key} has no {dest}; add them to the data set")
    return read_points(fixed, grid=fixed_grid).matched(read_points(moving, grid=moving_grid))


def measure(
    truth: PairTruth, disp_vox: np.ndarray, config: EvaluationConfig, before: Agreement | None = None
) -> tuple[Scores, PairMetrics]:
    """Measure one map of a pair in both ways of counting.

    Args:
        truth: what the map is compared with.
        disp_vox: ``(3, I, J, K)`` moving voxel minus fixed voxel.
        config: what the evaluator would measure.
        before: the agreement without registration; of this map itself if None.
    """
    with parallel_kernels:
        jacobian = Displacement(disp_vox, truth.fixed_grid).jacobian_determinant()
        positions = disp_vox + identity_positions(truth.fixed_grid.shape)
    deformation = jacobian_summary(jacobian)
    sdlogj = deformation["sdlogj_learn2reg"] if truth.mask is None else learn2reg.sdlogj(jacobian, truth.mask)
    compatible = _compatible(truth, disp_vox, sdlogj, config)
    if any(wanted.metric == "sdlogj" for wanted in config.measures):
        compatible["num_foldings"] = scalar(learn2reg.foldings_counted(jacobian))
    tre = _tre_mm(truth, disp_vox)
    overlap, distance, lost = _labels_agreement(truth, positions, config)
    after = Agreement(dice=overlap, hd95_mm=distance, tre_mm=tuple(next(iter(tre.values()), ())))
    metrics = PairMetrics(
        before=before or after,
        after=after,
        jacobian=deformation,
        inverse_consistency_mm={},  # a submission has one direction
        outside_percent=_outside_percent(positions, truth.moving_grid),
        labels_lost=lost,
        voxel_mm=max(truth.fixed_grid.voxel_mm, truth.moving_grid.voxel_mm),
    )
    correct: dict[str, Score] = {}
    if truth.fixed_labels is not None:
        correct["dice"] = Score(mean=nan_mean([*overlap.values()]), detailed=overlap)
        correct["hd95_mm"] = Score(mean=nan_mean([*distance.values()]), detailed=distance)
    correct |= {f"tre_mm_{dest}": Score(mean=nan_mean(values), detailed=values) for dest, values in tre.items()}
    for name in ("sdlogj", "folding_percent", "extreme_volume_percent"):
        correct[name] = scalar(deformation[name])
    correct["non_diffeomorphic_volume_percent"] = scalar(non_diffeomorphic_volume_percent(disp_vox))
    correct["outside_percent"] = scalar(metrics.outside_percent)
    return Scores(compatible, correct), metrics


def _compatible(truth: PairTruth, disp_vox: np.ndarray, sdlogj: float, config: EvaluationConfig) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    warped = None
    if truth.fixed_labels is not None and truth.moving_labels is not None:
        fixed, moving = truth.fixed_labels.data[0], truth.moving_labels.data[0]
        warped = learn2reg.warp_labels(moving, disp_vox)
    for wanted in config.measures:
        if wanted.metric == "sdlogj":
            scores[wanted.name] = scalar(sdlogj)
        elif wanted.metric == "dice" and warped is not None:
            values = learn2reg.dice(fixed, moving, warped, wanted.labels)
            scores[wanted.name] = Score(mean=nan_mean(values), detailed=values)
        elif wanted.metric == "hd95" and warped is not None:
            surface = learn2reg.surface_elements(warped)
            values = learn2reg.hd95_vox(truth.fixed_surface, surface, truth.labels_in_both, wanted.labels)
            scores[wanted.name] = Score(mean=nan_mean(values), detailed=values)
        elif wanted.metric == "tre":
            fixed_points, moving_points = truth.points[wanted.dest]
            errors = learn2reg.tre_mm(
                _voxels(fixed_points, truth.fixed_grid),
                _voxels(moving_points, truth.moving_grid),
                disp_vox,
                truth.moving_grid.spacing_mm,
            )
            scores[wanted.name] = Score(mean=float(errors.mean()), detailed=errors.tolist())
    return scores


def _voxels(points: Points, grid: Grid) -> np.ndarray:
    """Voxel indices as the file gave them: what went through millimetres must not leave the image by rounding."""
    return points.to_voxel(grid).round(9)


def _labels_agreement(
    truth: PairTruth, positions: np.ndarray, config: EvaluationConfig
) -> tuple[dict[int, float], dict[int, float], tuple[int, ...]]:
    """Dice, HD95 in mm, and which labels vanished, of the labels that both scans have."""
    if truth.fixed_labels is None or truth.moving_labels is None:
        return {}, {}, ()
    with parallel_kernels:
        warped = Labels(sample_labels(truth.moving_labels.data[0], positions), truth.fixed_grid)
    fixed = Labels(truth.fixed_labels.data, truth.fixed_grid)
    shared = truth.labels_in_both & set(config.labels)
    lost = tuple(sorted(shared - set(voxel_counts(warped.data))))
    return dice(fixed, warped, shared), hd95_mm(fixed, warped, shared), lost


def _tre_mm(truth: PairTruth, disp_vox: np.ndarray) -> dict[str, list[float]]:
    if not truth.points:
        return {}
    transform = in_world(disp_vox, truth.fixed_grid, truth.moving_grid)
    with parallel_kernels:
        return {dest: tre_mm(fixed, moving, transform).tolist() for dest, (fixed, moving) in truth.points.items()}


def _outside_percent(positions: np.ndarray, moving_grid: Grid) -> float:
    limits = np.array(moving_grid.shape, np.float32) - np.float32(0.5)
    outside = np.zeros(positions.shape[1:], bool)
    for place, limit in zip(positions, limits, strict=True):
        outside |= (place < -0.5) | (place > limit)
    return 100 * float(outside.mean())
