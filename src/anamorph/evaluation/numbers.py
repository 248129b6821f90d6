"""Numbers of one pair by the names of their metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

import numpy as np

Direction = Literal["higher", "lower"]


class Score(TypedDict):
    """A number of a pair and what it is the mean of: a list, values by label, or the number itself."""

    mean: float
    detailed: Any


class Numbers(dict[str, Score]):
    """The numbers of a pair in one state, before or after registration, by the columns of their metrics."""

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Numbers, values by label and sequences under their names."""
        return cls({name: score(value) for name, value in values.items()})

    def mean(self, name: str) -> float | None:
        """The number, or the mean of its parts; None where the pair has none, NaN where it could not be measured."""
        found = self.get(name)
        if found is None or (isinstance(found["detailed"], dict | list | tuple) and not found["detailed"]):
            return None
        return found["mean"]

    def column(self, name: str) -> str:
        """The column of a metric: its name, or that of its first set of points."""
        named = (one for one in (name, f"{name}_landmarks", f"{name}_keypoints") if one in self)
        return next(named, name)

    def labels(self, name: str) -> dict[int, float]:
        """The values by label; empty without any."""
        found = self.get(name)
        return {} if found is None or not isinstance(found["detailed"], dict) else by_label(found)

    def parts(self, name: str) -> list[float]:
        """The values of labels in ascending order, of points as they come, or the number itself."""
        found = self.get(name)
        if found is None:
            return []
        detailed = found["detailed"]
        if isinstance(detailed, dict):
            return [value for _, value in sorted(by_label(found).items())]
        return list(detailed) if isinstance(detailed, list | tuple) else [detailed]


@dataclass(frozen=True)
class Scores:
    """All numbers of one map of one pair in the two ways of counting.

    ``compatible`` is what Learn2Reg's evaluator would say, named as the evaluation configuration names it; ``correct``
    has the names of :data:`anamorph.evaluation.metrics.METRICS`.
    """

    compatible: Mapping[str, Score]
    correct: Numbers


def scores_from(compatible: Any, correct: Any) -> Scores:
    """Scores of the content of a JSON file.

    Raises:
        ValueError: a number is missing or is something else.
    """
    for name, one in [*compatible.items(), *correct.items()]:
        detailed = one["detailed"]
        if isinstance(detailed, dict):
            values = [value for label, value in detailed.items() if int(label) >= 0]
        else:
            values = detailed if isinstance(detailed, list) else [detailed]
        for value in (one["mean"], *values):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} is {str(value)[:40]}, no number")
            float(value)  # raises where a whole number is too large for one
    return Scores(compatible, Numbers(correct))


def score(value: float | Mapping[int, float] | Iterable[float] | None) -> Score:
    """A value as it is stored; None and an empty collection have the mean NaN."""
    if isinstance(value, Mapping):
        detailed: Any = {int(label): float(one) for label, one in value.items()}
        return Score(mean=_mean([*detailed.values()]), detailed=detailed)
    if isinstance(value, Iterable):
        detailed = [float(one) for one in value]
        return Score(mean=_mean(detailed), detailed=detailed)
    number = math.nan if value is None else float(value)
    return Score(mean=number, detailed=number)


def by_label(one: Score) -> dict[int, float]:
    """The detailed values of a score; JSON has made text of the labels if it was read from a file."""
    return {int(label): value for label, value in one["detailed"].items()}


def nan_mean(values: Sequence[float]) -> float:
    """Mean without NaN; NaN if nothing is left."""
    kept = [value for value in values if not math.isnan(value)]
    return float(np.mean(kept)) if kept else float("nan")


def _mean(values: Sequence[float]) -> float:
    """Mean; NaN if one of the values is, or if there are none."""
    return float(np.mean(values)) if values else float("nan")


def aggregate(values: Sequence[float], better: Direction) -> dict[str, float]:
    """Mean, standard deviation, and "30": the quantile that 30 % of the pairs do not reach, in the tail of the worse.

    Numbers that are not finite are left out; ``n`` says how many are left.
    """
    array = np.array([value for value in values if math.isfinite(value)])
    if array.size == 0:
        return {"mean": float("nan"), "std": float("nan"), "30": float("nan"), "n": 0}
    worse = float(np.quantile(array, 0.3 if better == "higher" else 0.7))
    return {"mean": float(array.mean()), "std": float(array.std()), "30": worse, "n": array.size}


def plain(value: Any) -> Any:
    """Turn nested values into what JSON can hold: keys become text, tuples lists, numbers that are not finite None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
