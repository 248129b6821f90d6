"""The verdict on a registration: two answers, signs of failure and accuracy, and one word for both.

A registration is never deleted or withheld, it is labelled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from anamorph.evaluation.gates import SEVERITY, Check, Gate, Question, Status, gates_of
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics.metric import all_metrics
from anamorph.evaluation.numbers import plain
from anamorph.types import GraveWarning

Signs = Literal["none", "some", "clear"]
_SIGNS: dict[Status, Signs] = {"PASS": "none", "WARN": "some", "FAIL": "clear"}
_RATING: dict[Status, str] = {"PASS": "within limits", "WARN": "doubtful", "FAIL": "poor"}
NOT_MEASURED = "not measured"
KEEP_BACK = "all labels, landmarks and outlines that were given pulled; keep some back to measure by"
HOW_TO_MEASURE = "give labels or landmarks of both scans"


@dataclass(frozen=True)
class Accuracy:
    """How accurate a registration is by labels and landmarks.

    Args:
        status: the worst of the gates on the numbers; None if nothing was measured.
        numbers: after registration, of labels and landmarks: means, and the worst label with its value.
        words: the most telling of them.
        remedy: how it can be measured, if it was not.
    """

    status: Status | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    remedy: str = HOW_TO_MEASURE

    @property
    def measured(self) -> bool:
        """Whether there was something to measure it by."""
        return self.status is not None

    @property
    def word(self) -> str:
        """The answer in a word or two: "within limits", "doubtful", "poor", or "not measured"."""
        return NOT_MEASURED if self.status is None else _RATING[self.status]

    @property
    def summary(self) -> str:
        """The answer in words: a rating and the numbers, or that nothing was measured and what to give."""
        if self.status is None:
            return f"{self.word} ({self.remedy})"
        return f"{self.word}: {', '.join(self.words)}"


@dataclass(frozen=True)
class Verdict:
    """Two answers, whether anything went wrong and how accurate the result is, and the worst of both as one word.

    PASS, WARN and FAIL are for programs. Where nothing was measured PASS says no more than that nothing looks wrong.
    """

    status: Status
    checks: list[Check]
    accuracy: Accuracy = field(default_factory=Accuracy)

    @property
    def signs_of_failure(self) -> Signs:
        """Whether anything went wrong, by the checks that need no ground truth and by what got worse."""
        return _SIGNS[_worst(self._of("signs of failure"))]

    @property
    def reasons(self) -> list[str]:
        """Why it is not PASS, worst first."""
        return _reasons(self.checks)

    @property
    def reasons_for(self) -> dict[Question, list[str]]:
        """The reasons by the question they answer."""
        questions: tuple[Question, ...] = ("signs of failure", "accuracy")
        return {question: _reasons(self._of(question)) for question in questions}

    @property
    def headline(self) -> str:
        """Both answers in one line."""
        told = {"none": "no signs of failure", "some": "some signs of failure", "clear": "clear signs of failure"}
        return f"{told[self.signs_of_failure]}; accuracy {self.accuracy.summary}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        accuracy = {
            "measured": self.accuracy.measured,
            "status": self.accuracy.status,
            "summary": self.accuracy.summary,
            **self.accuracy.numbers,
        }
        return plain(
            {
                "status": self.status,
                "headline": self.headline,
                "signs_of_failure": self.signs_of_failure,
                "accuracy": accuracy,
                "reasons": self.reasons,
                "checks": [dataclasses.asdict(check) for check in self.checks],
            }
        )

    def _of(self, question: Question) -> list[Check]:
        return [check for check in self.checks if check.question == question]


def all_gates() -> list[Gate]:
    """The gates of all metrics, in the order of a verdict."""
    return gates_of(all_metrics())


def verdict(metrics: Measured, warnings: Sequence[str] = ()) -> Verdict:
    """Judge a registration by the gates of its metrics and the warnings of the method.

    A warning makes it WARN at least, a grave one FAIL.

    Args:
        metrics: the numbers of the pair.
        warnings: what the method or the look at the input warned of, one line each.
    """
    checks = [check for gate in all_gates() if (check := gate.check(metrics))]
    for text in warnings:
        status: Status = "FAIL" if isinstance(text, GraveWarning) else "WARN"
        checks.append(Check("method_warning", "signs of failure", status, None, None, "", text))
    return Verdict(_worst(checks), checks, _accuracy(metrics, checks))


def failed(message: str) -> Verdict:
    """The verdict on a run that gave no transform."""
    check = Check("run", "signs of failure", "FAIL", None, None, "", message)
    return Verdict("FAIL", [check], Accuracy(remedy="there is no transform"))


def gates_markdown() -> str:
    """The table of gates as it stands in the documentation."""
    rows = ["| gate | answers | measures | WARN | FAIL |", "|---|---|---|---|---|"]
    for gate in all_gates():
        unit = "voxels" if gate.per_voxel else gate.unit
        side = "below" if gate.low_is_bad else "above"
        warn, fail = (
            f"{side} {limit:g} {unit}".strip() if math.isfinite(limit) else "–" for limit in (gate.warn, gate.fail)
        )
        rows.append(f"| `{gate.name}` | {gate.question} | {gate.meaning} | {warn} | {fail} |")
    rows.append(
        "| `method_warning` | signs of failure | warnings of the method or about the input | any "
        "| scans that nothing relates |"
    )
    return "\n".join(rows)


def _accuracy(metrics: Measured, checks: Sequence[Check]) -> Accuracy:
    own = [check for check in checks if check.question == "accuracy"]
    if own:
        columns = [column for column in metrics.columns() if column.metric.compares]
        words = [c.metric.phrase(metrics.after) for c in columns if c.metric.phrase and c.points != "keypoints"]
        return Accuracy(_worst(own), _numbers(metrics), tuple(words), "")
    if metrics.used is not None:
        return Accuracy(remedy=KEEP_BACK)
    if metrics.labels_only_fixed or metrics.labels_only_moving:
        return Accuracy(remedy="the two label maps have no label in common")
    return Accuracy()


def _numbers(metrics: Measured) -> dict[str, float]:
    """Means of what is compared, and the worst label by the first metric of labels; keys as in ``result.json``."""
    found: dict[str, float] = {}
    columns = [column for column in metrics.columns() if column.metric.compares and column.metric.per != "axis"]
    for column in columns:
        mean = metrics.after.mean(column.name)
        assert mean is not None
        found[column.key if column.metric.per == "pair" else f"mean_{column.key}"] = mean
    for column in columns:
        if labels := metrics.after.labels(column.name):
            end, side = (min, "lowest") if column.metric.better == "higher" else (max, "largest")
            label = end(labels, key=labels.__getitem__)
            return found | {f"{side}_{column.key}_label": label, f"{side}_{column.key}": labels[label]}
    return found


def _worst(checks: Sequence[Check]) -> Status:
    return max((check.status for check in checks), key=SEVERITY.index, default="PASS")


def _reasons(checks: Sequence[Check]) -> list[str]:
    worst_first = sorted(checks, key=lambda check: -SEVERITY.index(check.status))
    return [check.message for check in worst_first if check.status != "PASS"]
