"""The table of gates: numbers of a pair, the limits they must keep, and the words for either case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from anamorph.evaluation.pair import PairMetrics
from anamorph.geometry import voxel_scale

Status = Literal["PASS", "WARN", "FAIL"]
SEVERITY: tuple[Status, ...] = ("PASS", "WARN", "FAIL")
Question = Literal["signs of failure", "accuracy"]
Words = Callable[[PairMetrics, float], str]

MISSED_DICE = 0.01
"""A label below overlaps with its counterpart by chance at most."""
LABEL_LOSS = 0.1
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
    """One row of the table: a number of a pair and the two limits that it must keep.

    Args:
        name: the key of the gate in ``result.json``.
        question: which of the two answers of a verdict the gate belongs to.
        meaning: what is measured, in a few words.
        unit: of the number and, unless ``per_voxel``, of the limits.
        warn: the first limit; a number at the limit keeps it.
        fail: the second limit.
        measure: the number; None when the pair has none (the gate is left out), NaN when it could not be measured
            (the gate fails).
        good: the sentence when both limits are kept.
        bad: the sentence when one is not.
        low_is_bad: numbers below the limits trip the gate, otherwise numbers above them.
        per_voxel: the limits are in voxels (:attr:`PairMetrics.voxel_mm`), the number is in mm.
    """

    name: str
    question: Question
    meaning: str
    unit: str
    warn: float
    fail: float
    measure: Callable[[PairMetrics], float | None]
    good: Words
    bad: Words
    low_is_bad: bool = False
    per_voxel: bool = False

    def limits(self, metrics: PairMetrics) -> tuple[float, float]:
        """Both limits for a pair, in the unit of the number; those in mm are for voxels of ordinary size."""
        in_mm = voxel_scale(metrics.voxel_mm) if self.unit == "mm" else 1.0
        scale = metrics.voxel_mm if self.per_voxel else in_mm
        return scale * self.warn, scale * self.fail

    def check(self, metrics: PairMetrics) -> Check | None:
        """Compare a pair with this gate; None if the pair has no such number."""
        measured = self.measure(metrics)
        if measured is None:
            return None
        warn, fail = self.limits(metrics)
        if math.isnan(measured):
            message = f"{self.meaning}: could not be measured"
            return Check(self.name, self.question, "FAIL", None, fail, self.unit, message)
        tripped = [measured < limit if self.low_is_bad else measured > limit for limit in (warn, fail)]
        status = SEVERITY[sum(tripped)]
        words = self.good if status == "PASS" else self.bad
        threshold = fail if status == "FAIL" else warn
        return Check(self.name, self.question, status, measured, threshold, self.unit, words(metrics, measured))


def missed_labels(metrics: PairMetrics) -> list[int]:
    """Labels of both scans that end without overlap."""
    return [label for label, value in sorted(metrics.after.dice.items()) if value < MISSED_DICE]


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


def _loss(before: float | None, after: float | None) -> float | None:
    """By how much a number fell; zero where it rose."""
    return None if before is None or after is None else max(before - after, 0.0)


def _similarity_loss(metrics: PairMetrics) -> float | None:
    """NaN where the result shows nothing of the fixed body that was in view before."""
    before, after = metrics.before.similarity, metrics.after.similarity
    return math.nan if before is not None and after is None else _loss(before, after)


def _label_losses(metrics: PairMetrics) -> dict[int, float]:
    before, after = metrics.before.dice, metrics.after.dice
    return {label: before[label] - after[label] for label in sorted(before.keys() & after.keys())}


def _largest_label_loss(metrics: PairMetrics) -> float | None:
    losses = _label_losses(metrics)
    return max(0.0, *losses.values()) if losses else None


def _lost_much(metrics: PairMetrics) -> str:
    before, after = metrics.before.dice, metrics.after.dice
    losers = [label for label, loss in _label_losses(metrics).items() if loss > LABEL_LOSS]
    worst = max(losers, key=lambda label: before[label] - after[label])
    return f"{named(losers)} lost overlap: {change(f'Dice of label {worst}', before[worst], after[worst])}"


def _missed_percent(metrics: PairMetrics) -> float | None:
    return 100 * len(missed_labels(metrics)) / len(metrics.after.dice) if metrics.after.dice else None


def _dice_after(metrics: PairMetrics) -> str:
    after, lowest = metrics.after, metrics.after.lowest_dice
    if lowest is None or after.mean_dice is None:
        return "no label in both scans"
    if len(after.dice) == 1:
        return f"Dice of label {lowest[0]} is {lowest[1]:.3f}"
    return (
        f"mean Dice of {len(after.dice)} labels is {after.mean_dice:.3f}, "
        f"the lowest {lowest[1]:.3f} (label {lowest[0]})"
    )


def _dice_change(metrics: PairMetrics) -> str:
    return change("mean Dice", metrics.before.mean_dice or 0.0, metrics.after.mean_dice or 0.0)


def _tre_change(metrics: PairMetrics) -> str:
    before, after = metrics.before.mean_tre_mm or 0.0, metrics.after.mean_tre_mm or 0.0
    return change("the mean landmark error", before, after, ".3g", " mm")


GATES: tuple[Gate, ...] = (
    Gate(
        name="folding",
        question="signs of failure",
        meaning="voxels where the map folds (det J ≤ 0)",
        unit="%",
        warn=0.1,
        fail=1.0,
        measure=lambda m: m.jacobian["folding_percent"],
        good=lambda m, v: "the map does not fold" if v == 0 else f"the map hardly folds, in {v:.2g} % of the voxels",
        bad=lambda m, v: f"the map folds in {v:.2f} % of the voxels",
    ),
    Gate(
        name="volume_change",
        question="signs of failure",
        meaning="voxels that shrink or grow more than tenfold",
        unit="%",
        warn=1.0,
        fail=10.0,
        measure=lambda m: m.jacobian["extreme_volume_percent"],
        good=lambda m, v: "few voxels or none shrink or grow more than tenfold",
        bad=lambda m, v: f"{v:.1f} % of the voxels shrink or grow more than tenfold",
    ),
    Gate(
        name="inverse_consistency",
        question="signs of failure",
        meaning="mean distance after mapping there and back",
        unit="mm",
        warn=1.0,
        fail=5.0,
        measure=lambda m: m.inverse_consistency_mm.get("mean"),
        good=lambda m, v: f"the two directions agree to {v:.2g} mm on average",
        bad=lambda m, v: f"the two directions disagree by {v:.3g} mm on average",
    ),
    Gate(
        name="field_of_view",
        question="signs of failure",
        meaning="fixed field of view mapped outside the moving scan",
        unit="%",
        warn=60.0,
        fail=95.0,
        measure=lambda m: m.outside_percent,
        good=lambda m, v: f"{100 - v:.0f} % of the fixed field of view is mapped into the moving scan",
        bad=lambda m, v: f"{v:.0f} % of the fixed field of view is mapped outside the moving scan",
    ),
    Gate(
        name="similarity_loss",
        question="signs of failure",
        meaning="loss of image similarity",
        unit="",
        warn=0.005,
        fail=0.05,
        measure=_similarity_loss,
        good=lambda m, v: "image similarity did not fall, which says nothing about accuracy",
        bad=lambda m, v: f"the images agree less than before registration (similarity fell by {v:.3f})",
    ),
    Gate(
        name="dice_loss",
        question="signs of failure",
        meaning="loss of mean Dice",
        unit="",
        warn=0.005,
        fail=0.05,
        measure=lambda m: _loss(m.before.mean_dice, m.after.mean_dice),
        good=lambda m, v: _dice_change(m),
        bad=lambda m, v: f"the labels overlap less than before registration: {_dice_change(m)}",
    ),
    Gate(
        name="label_loss",
        question="signs of failure",
        meaning="largest loss of Dice of one label",
        unit="",
        warn=LABEL_LOSS,
        fail=math.inf,
        measure=_largest_label_loss,
        good=lambda m, v: "no label lost much overlap",
        bad=lambda m, v: _lost_much(m),
    ),
    Gate(
        name="tre_increase",
        question="signs of failure",
        meaning="increase of the mean landmark error",
        unit="mm",
        warn=0.1,
        fail=1.0,
        measure=lambda m: _loss(m.after.mean_tre_mm, m.before.mean_tre_mm),
        good=lambda m, v: _tre_change(m),
        bad=lambda m, v: f"the landmarks are further apart than before registration: {_tre_change(m)}",
    ),
    Gate(
        name="labels_lost",
        question="signs of failure",
        meaning="labels that vanish when warped",
        unit="",
        warn=0,
        fail=math.inf,
        measure=lambda m: float(len(m.labels_lost)) if m.after.dice else None,
        good=lambda m, v: "no label vanishes when warped",
        bad=lambda m, v: f"{named(m.labels_lost)} vanish{'es' * (v == 1)} when warped",
    ),
    Gate(
        name="mean_dice",
        question="accuracy",
        meaning="mean Dice after registration",
        unit="",
        warn=0.5,
        fail=0.3,
        measure=lambda m: m.after.mean_dice,
        good=lambda m, v: _dice_after(m),
        bad=lambda m, v: f"the labels overlap little: {_dice_after(m)}",
        low_is_bad=True,
    ),
    Gate(
        name="labels_missed",
        question="accuracy",
        meaning=f"labels of both scans that end without overlap (Dice below {MISSED_DICE})",
        unit="%",
        warn=0,
        fail=50.0,
        measure=_missed_percent,
        good=lambda m, v: "every label overlaps",
        bad=lambda m, v: (
            f"{len(missed_labels(m))} of {len(m.after.dice)} labels end without overlap: {named(missed_labels(m))}"
        ),
    ),
    Gate(
        name="landmark_error",
        question="accuracy",
        meaning="mean landmark error after registration",
        unit="mm",
        warn=2.5,
        fail=10.0,
        measure=lambda m: m.after.mean_tre_mm,
        good=lambda m, v: f"the mean landmark error is {v:.3g} mm, {v / m.voxel_mm:.1f} voxels",
        bad=lambda m, v: f"the landmarks are far apart: {v:.3g} mm on average, {v / m.voxel_mm:.1f} voxels",
        per_voxel=True,
    ),
    Gate(
        name="landmark_far",
        question="accuracy",
        meaning="largest landmark error after registration",
        unit="mm",
        warn=10.0,
        fail=math.inf,
        measure=lambda m: max(m.after.tre_mm, default=None),
        good=lambda m, v: f"the largest landmark error is {v:.3g} mm, {v / m.voxel_mm:.1f} voxels",
        bad=lambda m, v: f"one landmark or more ends {v:.3g} mm away, {v / m.voxel_mm:.1f} voxels",
        per_voxel=True,
    ),
)
