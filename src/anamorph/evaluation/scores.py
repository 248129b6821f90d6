"""Numbers of one pair under their names, in the two ways of counting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

Direction = Literal["higher", "lower"]


class Score(TypedDict):
    """A number of a pair and what it is the mean of: a list, values by label, or the number itself."""

    mean: float
    detailed: Any


@dataclass(frozen=True)
class Scores:
    """All numbers of one map of one pair.

    ``compatible`` is what Learn2Reg's evaluator would say, named as the evaluation configuration names it; ``correct``
    has the names of :func:`correct_direction`.
    """

    compatible: Mapping[str, Score]
    correct: Mapping[str, Score]


CORRECT: dict[str, tuple[Direction, str]] = {
    "dice": ("higher", "mean Dice of the labels in both scans, moving labels interpolated linearly"),
    "hd95_mm": ("lower", "95 % Hausdorff distance in mm; the diagonal of the image for a label that vanished"),
    "tre_mm_landmarks": ("lower", "landmark error in mm, the field read trilinearly"),
    "tre_mm_keypoints": ("lower", "the same of the keypoints"),
    "sdlogj": ("lower", "standard deviation of log det J where nothing folds"),
    "folding_percent": ("lower", "voxels with det J <= 0 by central differences, per cent"),
    "non_diffeomorphic_volume_percent": ("lower", "volume turned inside out by finite differences, per cent"),
    "extreme_volume_percent": ("lower", "voxels that shrink or grow more than tenfold, per cent"),
    "outside_percent": ("lower", "voxels mapped outside the moving image, per cent"),
}
"""Names of the correct numbers, the better end of each, and what they are."""


def scores_from(compatible: Any, correct: Any) -> Scores:
    """Scores of the content of a JSON file.

    Raises:
        ValueError: a number is missing or is something else.
    """
    for name, score in [*compatible.items(), *correct.items()]:
        detailed = score["detailed"]
        if isinstance(detailed, dict):
            values = [value for label, value in detailed.items() if int(label) >= 0]
        else:
            values = detailed if isinstance(detailed, list) else [detailed]
        for value in (score["mean"], *values):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} is {str(value)[:40]}, no number")
            float(value)  # raises where a whole number is too large for one
    return Scores(compatible, correct)


def scalar(value: float) -> Score:
    """A number that is the mean of nothing."""
    return Score(mean=float(value), detailed=float(value))


def nan_mean(values: Sequence[float]) -> float:
    """Mean without NaN; NaN if nothing is left."""
    kept = [value for value in values if not math.isnan(value)]
    return float(np.mean(kept)) if kept else float("nan")


def aggregate_correct(values: Sequence[float], direction: Direction) -> dict[str, float]:
    """Mean, standard deviation, and "30": the quantile that 30 % of the pairs do not reach, in the tail of the worse.

    Numbers that are not finite are left out; ``n`` says how many are left.
    """
    array = np.array([value for value in values if math.isfinite(value)])
    if array.size == 0:
        return {"mean": float("nan"), "std": float("nan"), "30": float("nan"), "n": 0}
    worse = float(np.quantile(array, 0.3 if direction == "higher" else 0.7))
    return {"mean": float(array.mean()), "std": float(array.std()), "30": worse, "n": array.size}
