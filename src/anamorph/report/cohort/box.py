from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """A box plot of some values (Tukey): quartiles, whiskers to the last value within 1.5 box lengths, outliers.

    Args:
        low: end of the lower whisker.
        first: lower quartile.
        median: middle.
        third: upper quartile.
        high: end of the upper whisker.
        outliers: places of the values beyond the whiskers among those given.
        count: of the values that went in, which are the finite ones.
    """

    low: float
    first: float
    median: float
    third: float
    high: float
    outliers: tuple[int, ...]
    count: int


def box(values: Sequence[float]) -> Box | None:
    """The box plot of the finite values; None without any."""
    places = [place for place, value in enumerate(values) if math.isfinite(value)]
    if not places:
        return None
    finite = np.array([values[place] for place in places], np.float64)
    first, median, third = (float(v) for v in np.percentile(finite, [25, 50, 75]))
    reach = 1.5 * (third - first)
    inside = (finite >= first - reach) & (finite <= third + reach)
    return Box(
        float(finite[inside].min()),
        first,
        median,
        third,
        float(finite[inside].max()),
        tuple(place for place, kept in zip(places, inside, strict=True) if not kept),
        len(places),
    )
