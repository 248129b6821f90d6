from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from anamorph.report import numbers
from anamorph.report.cohort.cohort_report import CohortReport, Direction

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
