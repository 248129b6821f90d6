"""Gates: limits that numbers of a pair must keep, and the words for either case. Each stands with its metric."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from anamorph.evaluation.measured import Measured
from anamorph.geometry.grid import voxel_scale

if TYPE_CHECKING:
    from anamorph.evaluation.metrics.metric import Metric

Status = Literal["PASS", "WARN", "FAIL"]
SEVERITY: tuple[Status, ...] = ("PASS", "WARN", "FAIL")
Question = Literal["signs of failure", "accuracy"]
Words = Callable[[Measured, float], str]
_NAMED = 8


@dataclass(frozen=True)
class Check:
    """What one gate says about a pair; ``threshold`` is the limit that was tripped, or the first one if none was."""

    name: str
    question: Question
    status: Status
    measured: float | None
    threshold: float | None
    unit: str
    message: str


@dataclass(frozen=True)
class Gate:
    """A number of a pair and the two limits that it must keep.

    What is left out is taken from the metric that the gate belongs to: its mean after registration is measured, and the
    limits are on the side of its worse end.

    Args:
        name: the key of the gate in ``result.json``.
        question: which of the two answers of a verdict the gate belongs to.
        warn: the first limit; a number at the limit keeps it.
        fail: the second limit.
        meaning: what is measured, in a few words.
        unit: of the number and, unless ``per_voxel``, of the limits.
        measure: the number; None when the pair has none (the gate is left out), NaN when it could not be measured
            (the gate fails).
        good: the sentence when both limits are kept.
        bad: the sentence when one is not.
        low_is_bad: numbers below the limits trip the gate, otherwise numbers above them.
        per_voxel: the limits are in voxels (:attr:`Measured.voxel_mm`), the number is in mm.
    """

    name: str
    question: Question
    warn: float
    fail: float
    meaning: str | None = None
    unit: str | None = None
    measure: Callable[[Measured], float | None] | None = None
    good: Words | None = None
    bad: Words | None = None
    low_is_bad: bool | None = None
    per_voxel: bool = False

    def limits(self, metrics: Measured) -> tuple[float, float]:
        """Both limits for a pair, in the unit of the number; those in mm are for voxels of ordinary size."""
        in_mm = voxel_scale(metrics.voxel_mm) if self.unit == "mm" else 1.0
        scale = metrics.voxel_mm if self.per_voxel else in_mm
        return scale * self.warn, scale * self.fail

    def check(self, metrics: Measured) -> Check | None:
        """Compare a pair with this gate; None if the pair has no such number."""
        assert self.measure is not None
        assert self.good is not None
        assert self.bad is not None
        measured = self.measure(metrics)
        if measured is None:
            return None
        unit = self.unit or ""
        warn, fail = self.limits(metrics)
        if math.isnan(measured):
            message = f"{self.meaning}: could not be measured"
            return Check(self.name, self.question, "FAIL", None, fail, unit, message)
        tripped = [measured < limit if self.low_is_bad else measured > limit for limit in (warn, fail)]
        status = SEVERITY[sum(tripped)]
        words = self.good if status == "PASS" else self.bad
        threshold = fail if status == "FAIL" else warn
        return Check(self.name, self.question, status, measured, threshold, unit, words(metrics, measured))

    def of(self, metric: Metric) -> Gate:
        """Complete a gate with what it leaves out."""

        def told(metrics: Measured, value: float) -> str:
            return f"{metric.title} is {value:.3g} {metric.unit}".strip()

        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        usual = {
            "meaning": metric.title,
            "unit": metric.unit,
            "measure": lambda m: m.after.mean(m.after.column(metric.name)),
            "good": told,
            "bad": told,
            "low_is_bad": metric.better == "higher",
        }
        return Gate(**given | {name: value for name, value in usual.items() if given[name] is None})


def gates_of(metrics: Iterable[Metric]) -> list[Gate]:
    """The gates of metrics in the order of a verdict: signs of failure first, those of the map before those of labels.

    Gates of the map need no ground truth, so every pair has them.
    """
    rows = [(gate.of(metric), metric.compares) for metric in metrics for gate in metric.gates]
    return [gate for gate, _ in sorted(rows, key=lambda row: (row[0].question == "accuracy", row[1]))]


def change(name: str, before: float, after: float, form: str = ".3f", unit: str = "") -> str:
    """How a number changed, as in "mean Dice rose by 0.643 (0.000 to 0.643)"."""
    earlier, later, difference = (format(value, form) for value in (before, after, abs(after - before)))
    if earlier == later:
        return f"{name} stayed at {later}{unit}"
    return f"{name} {'rose' if after > before else 'fell'} by {difference}{unit} ({earlier} to {later}{unit})"


def named(labels: Iterable[int]) -> str:
    """Labels for a sentence: "label 3", "labels 1, 2, 4"; of many the first few."""
    listed = list(labels)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"label{'s' * (len(listed) != 1)} {', '.join(map(str, listed[:_NAMED]))}{more}"


def loss(before: float | None, after: float | None) -> float | None:
    """By how much a number fell; zero where it rose."""
    return None if before is None or after is None else max(before - after, 0.0)
