from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from anamorph.report.cohort.box import Box

_MOST_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """The range of a chart, from one round number to another, and the round numbers in it."""

    low: float
    high: float
    step: float

    def percent(self, value: float) -> float:
        """How far along the axis a value is; one beyond an end is put on the end."""
        return 100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)

    def shows(self, value: float) -> bool:
        """True if the value is within the range."""
        return self.low <= value <= self.high

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Place in percent and text of each round number."""
        count = round((self.high - self.low) / self.step)
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        values = [self.low + i * self.step for i in range(count + 1)]
        return [(100 * i / count, f"{value:.{digits}f}") for i, value in enumerate(values)]


def axis_for(boxes: Iterable[Box], outliers: Iterable[float]) -> Axis:
    """An axis for boxes and outliers.

    It starts at zero unless all is far from it. A few values ten times as large as the rest must not press all boxes
    together: outliers further out than the whiskers reach across are left to the end of the axis.
    """
    boxes = list(boxes)
    low, high = min(b.low for b in boxes), max(b.high for b in boxes)
    reach = (high - low) or abs(high) or 1.0
    near = [value for value in outliers if low - reach <= value <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    if 0 < low < 0.6 * high or 0 < low == high:
        low = 0.0
    step = _round_step((high - low) or reach)
    low = step * math.floor(low / step + 1e-9)
    return Axis(low, max(step * math.ceil(high / step - 1e-9), low + step), step)


def _round_step(length: float) -> float:
    power = 10.0 ** math.floor(math.log10(length / _MOST_TICKS))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * _MOST_TICKS >= length * (1 - 1e-9))
