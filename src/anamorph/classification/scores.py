"""How well probabilities tell two labels apart, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Interval = tuple[float, float]
THRESHOLD = 0.5
"""Of the probability. It is not fitted: the models weigh both labels alike."""
_Z = 1.959964  # of 95 %


@dataclass(frozen=True)
class Share:
    """A number of patients out of all that it could have been, with Wilson's 95 % interval."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """Between 0 and 1."""
        return self.hits / self.of

    @property
    def interval(self) -> Interval:
        """Wilson (1927)."""
        p, n, z = self.value, self.of, _Z
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max((middle - half) / (1 + z * z / n), 0.0), min((middle + half) / (1 + z * z / n), 1.0)


@dataclass(frozen=True)
class Scores:
    """Scores over patients; accuracy, sensitivity and specificity at a probability of 0.5.

    Args:
        sensitivity: of the patients with the positive label, those predicted so.
        specificity: of the others, those predicted so.
        auc: area under the curve: how often a positive patient has a higher probability than a negative one.
        auc_interval: 95 %; see :func:`auc_interval`.
        roc: ``(false positive rate, true positive rate)`` from (0, 0) to (1, 1).
    """

    sensitivity: Share
    specificity: Share
    auc: float
    auc_interval: Interval
    roc: tuple[tuple[float, float], ...]

    @property
    def accuracy(self) -> Share:
        """Patients predicted rightly."""
        return Share(self.sensitivity.hits + self.specificity.hits, self.sensitivity.of + self.specificity.of)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity; 0.5 by chance, however unequal the groups are."""
        return (self.sensitivity.value + self.specificity.value) / 2

    @property
    def beyond_chance(self) -> bool:
        """Whether an area of 0.5 lies below the interval."""
        return self.auc_interval[0] > 0.5

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        shares = {
            name: {"value": share.value, "interval": share.interval, "patients": share.of}
            for name, share in (
                ("accuracy", self.accuracy),
                ("sensitivity", self.sensitivity),
                ("specificity", self.specificity),
            )
        }
        true, false = self.sensitivity, self.specificity
        return {
            "auc": {"value": self.auc, "interval": self.auc_interval},
            "balanced_accuracy": self.balanced_accuracy,
            **shares,
            "confusion": {
                "true_positive": true.hits,
                "false_negative": true.of - true.hits,
                "true_negative": false.hits,
                "false_positive": false.of - false.hits,
            },
            "roc": self.roc,
        }


def score(probabilities: np.ndarray, positive: np.ndarray) -> Scores:
    """Score ``(P,)`` probabilities of ``(P,)`` patients, of whom some are positive and some are not."""
    said = probabilities >= THRESHOLD
    area = auc(probabilities, positive)
    counts = int(positive.sum()), int((~positive).sum())
    return Scores(
        Share(int((said & positive).sum()), counts[0]),
        Share(int((~said & ~positive).sum()), counts[1]),
        area,
        auc_interval(area, *counts),
        _roc(probabilities, positive),
    )


def auc(probabilities: np.ndarray, positive: np.ndarray) -> float:
    """Area under the curve as the statistic of Mann and Whitney; ties count half."""
    difference = probabilities[positive][:, None] - probabilities[~positive]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def auc_interval(area: float, positive: int, negative: int) -> Interval:
    """95 % confidence interval of an area over so many patients.

    Newcombe, Statistics in Medicine 2006, method 5: the areas that differ from the one found by less than 1.96 times
    the standard deviation they would have themselves. Unlike those of DeLong and of the bootstrap it does not shrink to
    a point where a few patients happen to be separated without an error.
    """

    def too_far(candidate: float) -> bool:
        n = (positive + negative) / 2 - 1
        spread = 1 + n * (1 - candidate) / (2 - candidate) + n * candidate / (1 + candidate)
        return (candidate - area) ** 2 > _Z * _Z * candidate * (1 - candidate) * spread / (positive * negative)

    def bound(end: float) -> float:
        inside, outside = area, end
        if not too_far(end):
            return end
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if too_far(middle) else (middle, outside)
        return inside

    return bound(0.0), bound(1.0)


def _roc(probabilities: np.ndarray, positive: np.ndarray) -> tuple[tuple[float, float], ...]:
    thresholds = np.unique(probabilities)[::-1]
    above = [probabilities >= threshold for threshold in thresholds]
    points = [(float(said[~positive].mean()), float(said[positive].mean())) for said in above]
    return ((0.0, 0.0), *points)
