from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.evaluation.gates import Gate
from anamorph.evaluation.learn2reg.measures import inner, shifted_log
from anamorph.evaluation.metrics.metric import Metric
from anamorph.evaluation.numbers import Direction
from anamorph.transforms.folding import folded_cells

LOG_DET_LIMITS = (1e-3, 1e3)
EXTREME_VOLUME_CHANGE = 10.0
LOG_AT_REST = math.log(4)
"""The shifted logarithm where nothing changes: without it a deviation is the same, and keeps its digits in float32."""


def jacobian_summary(jacobian: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float]:
    """What the Jacobian determinants of a map say about it.

    Args:
        jacobian: ``(I, J, K)`` determinants; 1 is unchanged volume.
        mask: ``(I, J, K)``; only voxels above 0 count. Everything by default.

    Returns:
        ``folding_percent``: voxels with ``det <= 0`` (or not a number), of all voxels.
        ``extreme_volume_percent``: voxels that are unfolded and shrink or grow more than tenfold.
        ``sdlogj``: standard deviation of ``log det`` over unfolded voxels; determinants are clipped to [1e-3, 1e3], as
        a few voxels just short of folding would otherwise rule the number.
        ``sdlogj_learn2reg``: what Learn2Reg's evaluation calls SDlogJ, for comparison with its tables only: the
        standard deviation of ``log(clip(det + 3, 1e-9, 1e9))`` without the two outermost voxels on each side. It is not
        a standard deviation of the log Jacobian.
        ``min``, ``max``, ``mean``: of the determinants. NaN where no voxel counts.
    """
    inside = inner(jacobian)
    if mask is not None:
        jacobian, inside = jacobian[mask > 0], inside[inner(mask) > 0]
    return summary_of([sums_of(jacobian, inside)])


@dataclass(frozen=True)
class Sums:
    """What has to be known of the determinants of a part: smallest and largest, and sums, float64."""

    smallest: float
    largest: float
    sums: np.ndarray


def sums_of(determinants: np.ndarray, inside: np.ndarray) -> Sums:
    """Of the determinants of some voxels, and of those among them that are not at the border of the scan."""
    if determinants.size == 0:
        return Sums(np.inf, -np.inf, np.zeros(9))
    smallest, largest = float(determinants.min()), float(determinants.max())
    unfolded = determinants if smallest > 0 else determinants[determinants > 0]
    extreme = np.count_nonzero(unfolded > EXTREME_VOLUME_CHANGE) + np.count_nonzero(
        unfolded < 1 / EXTREME_VOLUME_CHANGE
    )
    sums = [determinants.size, determinants.sum(dtype=np.float64), unfolded.size, extreme]
    for logs in (np.log(np.clip(unfolded, *LOG_DET_LIMITS)), shifted_log(inside) - LOG_AT_REST):
        sums += [logs.sum(dtype=np.float64), float(np.square(logs).sum())]  # in pairs, so that float32 is exact enough
    return Sums(smallest, largest, np.array([*sums, inside.size], np.float64))


def summary_of(parts: Sequence[Sums]) -> dict[str, float]:
    """The numbers of :func:`jacobian_summary` from those of parts."""
    sums = np.sum([part.sums for part in parts], axis=0)
    count, total, unfolded, extreme, logs, squares, shifted, shifted_squares, inside = sums
    if count == 0:
        return dict.fromkeys(_NAMES, float("nan"))
    values = (
        100 * (1 - unfolded / count),
        100 * extreme / count,
        _std(unfolded, logs, squares),
        _std(inside, shifted, shifted_squares),
        min(part.smallest for part in parts),
        max(part.largest for part in parts),
        total / count,
    )
    return {name: float(value) for name, value in zip(_NAMES, values, strict=True)}


_NAMES = ("folding_percent", "extreme_volume_percent", "sdlogj", "sdlogj_learn2reg", "min", "max", "mean")


def _std(count: float, total: float, squares: float) -> float:
    return math.sqrt(max(squares / count - (total / count) ** 2, 0.0)) if count else float("nan")


FOLDING = Metric(
    name="folding_percent",
    title="Folding (det J ≤ 0)",
    unit="%",
    better="lower",
    measure=lambda pair: pair.deformation.summary["folding_percent"],
    meaning="voxels with det J <= 0 by central differences, per cent",
    at_rest=0.0,
    digits=4,
    prominence="tile",
    group="jacobian",
    note=lambda numbers: "of voxels",
    gates=(
        Gate(
            name="folding",
            question="signs of failure",
            meaning="voxels where the map folds (det J ≤ 0)",
            warn=0.1,
            fail=1.0,
            good=lambda m, v: (
                "the map does not fold" if v == 0 else f"the map hardly folds, in {v:.2g} % of the voxels"
            ),
            bad=lambda m, v: f"the map folds in {v:.2f} % of the voxels",
        ),
    ),
)
EXTREME_VOLUME = Metric(
    name="extreme_volume_percent",
    title="Volume changed more than tenfold",
    unit="%",
    better="lower",
    measure=lambda pair: pair.deformation.summary["extreme_volume_percent"],
    meaning="voxels that shrink or grow more than tenfold, per cent",
    at_rest=0.0,
    group="jacobian",
    gates=(
        Gate(
            name="volume_change",
            question="signs of failure",
            meaning="voxels that shrink or grow more than tenfold",
            warn=1.0,
            fail=10.0,
            good=lambda m, v: "few voxels or none shrink or grow more than tenfold",
            bad=lambda m, v: f"{v:.1f} % of the voxels shrink or grow more than tenfold",
        ),
    ),
)
SDLOGJ = Metric(
    name="sdlogj",
    title="SDlogJ",
    better="lower",
    measure=lambda pair: pair.deformation.summary["sdlogj"],
    meaning="standard deviation of log det J where nothing folds",
    at_rest=0.0,
    group="jacobian",
)
SDLOGJ_LEARN2REG = Metric(
    name="sdlogj_learn2reg",
    title="SDlogJ as Learn2Reg computes it",
    better="lower",
    measure=lambda pair: pair.deformation.summary["sdlogj_learn2reg"],
    meaning="standard deviation of log(det J + 3), for comparison with the challenge's tables only",
    at_rest=0.0,
    prominence="file",
    group="jacobian",
)


def _determinant(name: str, better: Direction, word: str) -> Metric:
    return Metric(
        name=f"jacobian_{name}",
        title=f"{word.title()} det J",
        better=better,
        measure=lambda pair: pair.deformation.summary[name],
        meaning=f"the {word} determinant of the map's derivative; 1 is unchanged volume",
        at_rest=1.0,
        digits=2,
        prominence="file",
        group="jacobian",
    )


SMALLEST = _determinant("min", "higher", "smallest")
LARGEST = _determinant("max", "lower", "largest")
MEAN = _determinant("mean", "lower", "mean")


def non_diffeomorphic_volume_percent(disp_vox: np.ndarray) -> float:
    """The share of the volume that a map turns inside out, by finite differences that miss nothing.

    Each cell between eight neighbouring voxels is cut into five tetrahedra in both possible ways, which corresponds to
    all forward, backward and two mixed differences; what counts is the volume, after the map, of those that are turned
    inside out, averaged over the two ways (Liu et al. 2024, "On finite difference Jacobian computation in deformable
    image registration"). Central differences, and with them ``folding_percent``, are blind to folds of a single voxel.

    Args:
        disp_vox: ``(3, I, J, K)``, voxels of its own grid.

    Returns:
        Per cent of the volume between the voxel centres; 0 for an image of a single slice, which has none.
    """
    cells = np.prod(np.array(disp_vox.shape[1:]) - 1)
    return 0.0 if cells == 0 else 100 * folded_cells(disp_vox) / float(cells)


NON_DIFFEOMORPHIC_VOLUME = Metric(
    name="non_diffeomorphic_volume_percent",
    title="Non-diffeomorphic volume",
    unit="%",
    better="lower",
    measure=lambda pair: pair.deformation.non_diffeomorphic_percent,
    meaning="volume turned inside out by finite differences, per cent",
    at_rest=0.0,
    group="",
)
