"""What the page of an evaluation shows: rows, metrics with their digits, and the order of pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from anamorph.report import numbers

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class CohortRow:
    """One pair, registered by one method. A number that is missing, None or NaN is shown as a dash.

    Args:
        key: of the pair, such as ``"0001_0000<--0002_0000"``; the same for all methods.
        method: who registered it.
        verdict: ``"PASS"``, ``"WARN"`` or ``"FAIL"``; None when nobody judged the pair.
        metrics: number of the pair as a whole by metric.
        per_label: metric, then name of the label, then number.
        thumbnail: a JPEG or PNG file, put into the page in small; see :func:`write_thumbnail`.
        report_link: file of the pair's own report, absolute or relative to the folder of the page.
        error: why the pair has no result.
        reasons: why the verdict is not PASS, one line each.
        answers: the two answers of the verdict in one line, shown with it.
        names: of the two scans, where the key is made of numbers.
    """

    key: str
    method: str
    verdict: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    per_label: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    thumbnail: Path | None = None
    report_link: str | None = None
    error: str | None = None
    reasons: Sequence[str] = ()
    answers: str = ""
    names: str = ""


@dataclass(frozen=True)
class CohortReport:
    """Everything the page of an evaluation shows.

    Args:
        title: headline.
        rows: one per pair and method, in any order.
        metric_directions: metrics to show, the most telling first, each with ``"higher"`` or ``"lower"`` for the better
            end; the name carries the unit (``"HD95, mm"``). Other metrics of the rows are not shown.
        notes: remarks on the evaluation, one paragraph each.
        baseline: the method among the rows that stands for the state before registration. Its numbers are shown beside
            those of the others, and its rows are not listed.

    Raises:
        ValueError: a direction is neither ``"higher"`` nor ``"lower"``.
    """

    title: str
    rows: Sequence[CohortRow]
    metric_directions: Mapping[str, Direction]
    notes: Sequence[str] = ()
    baseline: str | None = None

    def __post_init__(self) -> None:
        for metric, direction in self.metric_directions.items():
            if direction not in get_args(Direction):
                raise ValueError(f"{metric}: the better end is 'higher' or 'lower', not {direction!r}")

    @property
    def listed(self) -> list[CohortRow]:
        """The rows without those of the baseline."""
        return [row for row in self.rows if row.method != self.baseline]

    @property
    def methods(self) -> list[str]:
        """All methods in the order of the rows, the baseline first."""
        names = dict.fromkeys(row.method for row in self.rows)
        return sorted(names, key=lambda name: name != self.baseline)


_SIGNIFICANT, _DECIMALS = 3, 3


@dataclass(frozen=True)
class Metric:
    """A measured quantity: which end is better, and with how many digits it is written.

    A value may be infinite (the distance to a label that vanished); one that is missing is NaN.
    """

    name: str
    direction: Direction
    digits: int

    def of(self, values: Mapping[str, float | None]) -> float:
        """The value of this metric among others by name."""
        return lookup(values, self.name)

    def text(self, value: float) -> str:
        """The value as it is shown."""
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return numbers.text(value, self.digits)

    def badness(self, value: float) -> float:
        """Larger is worse, and a missing value is the worst."""
        if math.isnan(value):
            return math.inf
        return value if self.direction == "lower" else -value

    def is_worse(self, value: float, before: float) -> bool:
        """True if a value is worse than another by more than its last digit shows."""
        if math.isnan(value) or math.isnan(before) or value == before:
            return False
        return self.badness(value) - self.badness(before) > 0.5 * 10.0**-self.digits


def lookup(values: Mapping[str, float | None], name: str) -> float:
    """A value by name; NaN if it is absent or None."""
    value = values.get(name)
    return math.nan if value is None else float(value)


def metrics_of(report: CohortReport) -> list[Metric]:
    """The metrics of which at least one row has a value, in the order of the report."""
    found = []
    for name, direction in report.metric_directions.items():
        values = [lookup(row.metrics, name) for row in report.rows]
        if not all(math.isnan(value) for value in values):
            found.append(Metric(name, direction, digits_for(values)))
    return found


def digits_for(values: Iterable[float]) -> int:
    """Decimals that show a typical value with three significant digits, and with one if that takes more than three."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not sizes:
        return _DECIMALS
    leading = math.floor(math.log10(float(np.median(sizes))))
    return max(0, min(_SIGNIFICANT - 1 - leading, max(_DECIMALS, -leading)))


NO_RESULT = "no result"
_SEVERITY = {NO_RESULT: 0, "FAIL": 1, "WARN": 2, "PASS": 3, "": 4}


def status(row: CohortRow) -> str:
    """``"no result"`` for a pair that failed, else its verdict, else nothing."""
    if row.error is not None:
        return NO_RESULT
    return row.verdict if row.verdict in _SEVERITY else ""


def severity(row: CohortRow) -> int:
    """0 for a pair without a result, 1 for FAIL, 2 for WARN, 3 for PASS, 4 without a verdict."""
    return _SEVERITY[status(row)]


def worst_first(rows: Iterable[CohortRow], metrics: Sequence[Metric]) -> list[CohortRow]:
    """Pairs without a result, then FAIL, WARN, PASS; among equals the worst by the first metric, then by the next."""

    def place(row: CohortRow) -> tuple[object, ...]:
        return severity(row), *(-metric.badness(metric.of(row.metrics)) for metric in metrics), row.key

    return sorted(rows, key=place)
