"""Whether a case came out right: its result is taken back to the undisturbed scans and measured there.

With ``M_f`` and ``M_m`` the maps of the two worlds that the disturbance made, a result ``T`` from the disturbed fixed
to the disturbed moving scan says ``inverse(M_m) . T . M_f`` of the scans as they were. Labels and landmarks never move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.evaluation.metrics.dice import dice
from anamorph.evaluation.metrics.landmarks import tre_mm
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Points
from anamorph.image.background import looks_like_ct
from anamorph.transforms import Affine, Transform

from .cases import Case
from .disturb import View
from .sources import Subject

DICE_LOSS = 0.02
START_DICE_LOSS = 0.03
"""For the linear start alone."""
LEAST_DICE = 0.1
"""With less, nothing was found, whatever the undisturbed pair did."""
ERROR_FACTOR = 1.5
LEAST_ERROR_VOX = 0.1
"""Exact maps and swapped scans must be right to this, in voxels of the fixed grid; less is no error anywhere."""
ALIGNED_VOX = 1.0
"""A pair that starts right may end this far from where it started."""
SHOWN = 0.2
"""Share of a label that must be in view of both scans to be compared."""
FEWEST_POINTS = 5
BODY_POINTS = 4000
TISSUE_HU = -400.0
TISSUE_LEVEL = 0.15
"""Between the 1st and the 99th percentile of a scan that is no CT."""


@dataclass(frozen=True)
class Judgement:
    """``figure`` is what success was judged by: Dice, or an error in mm or voxels as ``unit`` says.

    ``success`` is None where both scans show too little anatomy in common to judge.
    """

    success: bool | None
    unit: str
    figure: float | None
    undisturbed: float | None
    before: float | None


def judge(
    case: Case,
    subject: Subject,
    views: tuple[View, View],
    found: Transform,
    undisturbed: Transform | None,
    start_only: bool,
) -> Judgement:
    """Measure a case that ended with a result.

    Args:
        case: other than unrelated scans.
        subject: the scans as they were.
        views: the scans as they were registered; swapped ones in their own roles.
        found: the result, of the registered scans.
        undisturbed: the figures of the scans as they were; exact maps need none.
        start_only: the linear start alone was asked for.
    """
    fixed, moving = views
    effective = _effective(found, fixed, moving)
    header = _effective(Affine.identity(), fixed, moving)
    voxel = fixed.image.grid.voxel_mm
    if case.disturbance.startswith("exact"):
        truth = subject.truth or Affine.identity()
        shown = _Region(subject.moving.grid, truth) if subject.truth else None
        error, start = (_known_error(one, truth, subject.fixed, shown) for one in (effective, header))
        return Judgement(_below(error, LEAST_ERROR_VOX * voxel), "mm", error, 0.0, start)
    if undisturbed is None:
        raise ValueError(f"{case.name}: needs the result of the undisturbed pair")
    if case.disturbance == "swapped":
        # Fixed points to moving points by one result, back to fixed points by the other.
        there_and_back = found @ undisturbed
        both = _Region(subject.moving.grid, undisturbed)
        error = _known_error(there_and_back, Affine.identity(), subject.fixed, both)
        return Judgement(_below(error, LEAST_ERROR_VOX * voxel), "mm", error, 0.0, None)
    region: _Region | None = None
    if case.disturbance.startswith("crop"):
        region = _Region(moving.seen, undisturbed, fixed.seen)
    measured = [_figure(case.dataset, subject, one, region) for one in (effective, undisturbed, header)]
    (unit, figure), (_, wanted), (_, before) = measured
    if figure is None or wanted is None or before is None:
        return Judgement(None, unit, figure, wanted, before)
    aligned = ALIGNED_VOX * voxel
    if case.disturbance == "undisturbed":
        right = figure >= before if unit == "Dice" else figure <= max(before, aligned)
        return Judgement(bool(right), unit, figure, wanted, before)
    # Where the undisturbed pair ended below its own start, no wrong result is right by being as bad.
    _, untouched = _figure(case.dataset, subject, Affine.identity(), region)
    assert untouched is not None
    if unit == "Dice":
        least = max(wanted, untouched) - (START_DICE_LOSS if start_only else DICE_LOSS)
        right = figure >= max(least, LEAST_DICE)
    elif untouched < wanted:
        right = figure <= max(ERROR_FACTOR * untouched, aligned)
    else:
        right = figure <= max(ERROR_FACTOR * wanted, LEAST_ERROR_VOX * voxel)
    return Judgement(bool(right), unit, figure, wanted, before)


def _effective(found: Transform, fixed: View, moving: View) -> Transform:
    return moving.moved.inverse() @ found @ fixed.moved


def _below(error: float | None, limit: float) -> bool | None:
    return None if error is None else error < limit


@dataclass(frozen=True)
class _Region:
    """Which fixed points both scans show: in view of the fixed scan, with a partner in view of the moving one."""

    moving_seen: Grid
    partner: Transform
    fixed_seen: Grid | None = None

    def holds(self, points_mm: np.ndarray) -> np.ndarray:
        shown = self.moving_seen.contains(self.partner.map_world(points_mm))
        return shown if self.fixed_seen is None else shown & self.fixed_seen.contains(points_mm)


def _figure(dataset: str, subject: Subject, found: Transform, region: _Region | None) -> tuple[str, float | None]:
    """The error of a known map or of landmarks in mm where a set is known for them, else the mean Dice."""
    if subject.truth is not None:
        shown = region or _Region(subject.moving.grid, subject.truth)
        return "mm", _known_error(found, subject.truth, subject.fixed, shown)
    if dataset == "lung_ct" and subject.fixed_points is not None and subject.moving_points is not None:
        return "mm", _landmark_error(found, subject.fixed_points, subject.moving_points, region)
    if subject.fixed_labels is not None and subject.moving_labels is not None:
        return "Dice", _mean_dice(found, subject.fixed_labels, subject.moving_labels, region)
    return "", None


def _landmark_error(found: Transform, fixed: Points, moving: Points, region: _Region | None) -> float | None:
    one, other = fixed.matched(moving)
    if region is not None:
        kept = region.holds(one.positions_mm)
        one, other = Points(one.positions_mm[kept]), Points(other.positions_mm[kept])
    return float(tre_mm(one, other, found).mean()) if len(one) >= FEWEST_POINTS else None


def _mean_dice(found: Transform, fixed: Labels, moving: Labels, region: _Region | None) -> float | None:
    names = set(fixed.present()) & set(moving.present())
    warped = found.warp_labels(moving, fixed.grid)
    if region is not None:
        inside = _inside(region, fixed.grid)
        own = fixed.data[0]
        names = {name for name in names if (inside & (own == name)).sum() >= SHOWN * (own == name).sum()}
        fixed, warped = (Labels(np.where(inside, one.data[0], 0), one.grid) for one in (fixed, warped))
    overlaps = dice(fixed, warped, names)
    return float(np.mean(list(overlaps.values()))) if overlaps else None


def _inside(region: _Region, grid: Grid) -> np.ndarray:
    """``(I, J, K)``: which voxels the region holds; one plane at a time keeps memory small."""
    plane = np.stack([np.zeros(grid.shape[1:]), *np.indices(grid.shape[1:])], axis=-1)
    steps = np.eye(3)[0] * np.arange(grid.shape[0])[:, None]
    held = [region.holds(grid.voxel_to_world(plane + step).reshape(-1, 3)) for step in steps]
    return np.reshape(held, grid.shape)


def _known_error(found: Transform, truth: Transform, fixed: Image, region: _Region | None) -> float | None:
    """Mean distance of two maps over points inside the fixed body, in mm."""
    points = body_points(fixed)
    if region is not None:
        points = points[region.holds(points)]
    if len(points) < FEWEST_POINTS:
        return None
    return float(np.linalg.norm(found.map_world(points) - truth.map_world(points), axis=1).mean())


def body_points(image: Image) -> np.ndarray:
    """``(N, 3)`` RAS mm: voxels of the scan that are tissue, drawn at random, always the same ones."""
    values = image.data[0]
    low, high = np.percentile(values, (1, 99))
    least = TISSUE_HU if looks_like_ct(image) else low + TISSUE_LEVEL * (high - low)
    places = np.flatnonzero(values > least)
    chosen = np.random.default_rng(0).choice(places, min(BODY_POINTS, len(places)), replace=False)
    return image.grid.voxel_to_world(np.stack(np.unravel_index(np.sort(chosen), values.shape), -1))
