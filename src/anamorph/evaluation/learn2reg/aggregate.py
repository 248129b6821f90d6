from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Metric = Literal["sdlogj", "dice", "hd95", "tre"]
_UPPER_TAIL = ("sdlogj", "tre")


def aggregate(values: Sequence[float], metric: Metric) -> dict[str, float]:
    """Mean, standard deviation and the quantile called "30" of the pairs' values, as the evaluator computes them.

    "30" is meant to describe the hard cases: the 0.7 quantile of SDlogJ and TRE, the 0.3 quantile of Dice and also of
    HD95, where it describes the easy ones. NaN and infinity go into mean and standard deviation as they are.
    """
    array = np.asarray(values, np.float64)
    if array.size == 0:
        return dict.fromkeys(("mean", "std", "30"), float("nan"))
    with np.errstate(invalid="ignore"):
        quantile = np.quantile(array, 0.7 if metric in _UPPER_TAIL else 0.3)
        return {"mean": float(array.mean()), "std": float(array.std()), "30": float(quantile)}
