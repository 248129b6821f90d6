"""All numbers of one pair of a data set for one predicted field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from anamorph.data.dataset import Case, Pair
from anamorph.errors import UserError
from anamorph.evaluation import learn2reg
from anamorph.evaluation.label_regions import voxel_counts
from anamorph.evaluation.learn2reg.config import EvaluationConfig
from anamorph.evaluation.measure import RegisteredPair
from anamorph.evaluation.numbers import Score, nan_mean, score
from anamorph.evaluation.predictions import Prediction
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.points import Points
from anamorph.image.read import read_image, read_labels, read_mask, read_points
from anamorph.transforms.maps import Affine, Displacement

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
    """What is known about a pair; labels are on the grids of the images, masks are there where they count."""

    fixed: Image
    moving: Image
    fixed_labels: Labels | None
    moving_labels: Labels | None
    fixed_mask: Mask | None
    moving_mask: Mask | None
    points: Mapping[str, tuple[Points, Points]]
    labels: tuple[int, ...]

    @classmethod
    def read(
        cls, pair: Pair, config: EvaluationConfig, maps: LabelMaps, image: Callable[[Path], Image] = read_image
    ) -> PairTruth:
        """Read what the configuration needs.

        Args:
            pair: the scans of a data set.
            config: what is measured.
            maps: reads label maps.
            image: reads scans.

        Raises:
            UserError: a file that is needed is missing, damaged, or does not fit its image.
        """
        fixed, moving = image(pair.fixed.image), image(pair.moving.image)
        if config.expected_shape not in (None, fixed.grid.shape):
            raise UserError(
                f"{pair.fixed.image}: {fixed.grid.shape} voxels, but the configuration expects {config.expected_shape}"
            )
        labels: list[Labels | None] = [None, None]
        if config.labels:
            labels = [_labels_of(case, one.grid, maps) for case, one in ((pair.fixed, fixed), (pair.moving, moving))]
        points = {dest: _points_of(pair, dest, fixed.grid, moving.grid) for dest in config.destinations}
        return cls(
            fixed,
            moving,
            fixed_labels=labels[0],
            moving_labels=labels[1],
            fixed_mask=_mask_of(pair.fixed.mask, fixed.grid) if config.masked else None,
            moving_mask=_mask_of(pair.moving.mask, moving.grid) if config.masked else None,
            points=points,
            labels=config.labels,
        )

    @property
    def fixed_grid(self) -> Grid:
        """The grid of the fixed scan."""
        return self.fixed.grid

    @property
    def moving_grid(self) -> Grid:
        """The grid of the moving scan."""
        return self.moving.grid

    def registered(self, prediction: Prediction | None = None) -> RegisteredPair:
        """The pair with a predicted transform; without one, with the identity of the world."""
        forward, backward = (
            (Affine.identity(), None)
            if prediction is None
            else (prediction.fixed_to_moving, prediction.moving_to_fixed)
        )
        return RegisteredPair(
            self.fixed,
            self.moving,
            forward,
            backward,
            fixed_labels=self.fixed_labels,
            moving_labels=self.moving_labels,
            points=self.points,
            fixed_mask=self.fixed_mask,
            moving_mask=self.moving_mask,
            labels=frozenset(self.labels) if self.labels else None,
        )

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


def _labels_of(case: Case, grid: Grid, maps: LabelMaps) -> Labels:
    if case.label is None:
        raise UserError(f"{case.key} has no label map, which Dice and HD95 need; add it to the data set")
    labels = maps.read(case.label)
    _check_shape(labels, case.label, grid)
    return Labels(labels.data, grid, labels.name)


def _mask_of(path: Path | None, grid: Grid) -> Mask | None:
    if path is None:
        return None
    mask = read_mask(path)
    _check_shape(mask, path, grid)
    return Mask(mask.data, grid, mask.name)


def _check_shape(companion: Image, path: Path, grid: Grid) -> None:
    if companion.grid.shape != grid.shape:
        raise UserError(f"{path}: {companion.grid.shape} voxels do not fit an image of {grid.shape}")


def _points_of(pair: Pair, dest: str, fixed_grid: Grid, moving_grid: Grid) -> tuple[Points, Points]:
    fixed, moving = pair.points(dest)
    if fixed is None or moving is None:
        raise UserError(f"{(pair.moving if fixed else pair.fixed).key} has no {dest}; add them to the data set")
    return read_points(fixed, grid=fixed_grid).matched(read_points(moving, grid=moving_grid))


def compatible_scores(truth: PairTruth, disp_vox: np.ndarray, config: EvaluationConfig) -> dict[str, Score]:
    """What Learn2Reg's evaluator would say of a field of voxels.

    Args:
        truth: what the field is compared with.
        disp_vox: ``(3, I, J, K)`` moving voxel minus fixed voxel.
        config: what the evaluator would measure.
    """
    jacobian = Displacement(disp_vox, truth.fixed_grid).jacobian_determinant()
    mask = None if truth.fixed_mask is None else truth.fixed_mask.data[0]
    sdlogj = learn2reg.sdlogj(jacobian, mask)
    scores: dict[str, Score] = {}
    warped = None
    if truth.fixed_labels is not None and truth.moving_labels is not None:
        fixed, moving = truth.fixed_labels.data[0], truth.moving_labels.data[0]
        warped = learn2reg.warp_labels(moving, disp_vox)
    for wanted in config.measures:
        if wanted.metric == "sdlogj":
            scores[wanted.name] = score(sdlogj)
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
    if any(wanted.metric == "sdlogj" for wanted in config.measures):
        scores["num_foldings"] = score(learn2reg.foldings_counted(jacobian))
    return scores


def _voxels(points: Points, grid: Grid) -> np.ndarray:
    """Voxel indices as the file gave them: what went through millimetres must not leave the image by rounding."""
    return points.to_voxel(grid).round(9)
