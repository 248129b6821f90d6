"""How sure a mean over a few seeds is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t


def half_interval(values: Sequence[float], share: float = 0.95) -> float:
    """Half the interval of the mean by Student's t; not a number for a single value."""
    count = len(values)
    if count < 2:
        return float("nan")
    return float(t.ppf((1 + share) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
