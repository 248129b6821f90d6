from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.report.cohort.cohort_report import CohortReport, CohortRow
from anamorph.report.cohort.metric import Metric
from anamorph.report.cohort.order import status


@dataclass(frozen=True)
class Average:
    """Mean and standard deviation over the finite values; ``share`` says how many if not all results have one."""

    mean: str
    deviation: str
    share: str
    best: bool


@dataclass(frozen=True)
class MethodSummary:
    """One method over all its pairs."""

    name: str
    colour: str
    is_baseline: bool
    pairs: int
    counts: Counter[str]
    averages: list[Average]


def summaries(report: CohortReport, metrics: Sequence[Metric], colours: dict[str, str]) -> list[MethodSummary]:
    """One summary per method, the baseline first; the best of several methods is marked for each metric."""
    rows = {method: [row for row in report.rows if row.method == method] for method in report.methods}
    means = {method: [_mean(own, metric) for metric in metrics] for method, own in rows.items()}
    rivals = [method for method in report.methods if method != report.baseline]
    best = [_best([means[method][place] for method in rivals], metric) for place, metric in enumerate(metrics)]
    return [
        MethodSummary(
            method,
            colours[method],
            method == report.baseline,
            len(own),
            Counter(status(row) for row in own),
            [
                _average(own, metric, method in rivals and means[method][place] == best[place])
                for place, metric in enumerate(metrics)
            ],
        )
        for method, own in rows.items()
    ]


def _finite(rows: Sequence[CohortRow], metric: Metric) -> list[float]:
    return [value for row in rows if math.isfinite(value := metric.of(row.metrics))]


def _mean(rows: Sequence[CohortRow], metric: Metric) -> float | None:
    values = _finite(rows, metric)
    return float(np.mean(values)) if values else None


def _best(means: Sequence[float | None], metric: Metric) -> float | None:
    """The best mean of several methods; None if there is nothing to compare."""
    known = [mean for mean in means if mean is not None]
    return min(known, key=metric.badness) if len(known) > 1 else None


def _average(rows: Sequence[CohortRow], metric: Metric, best: bool) -> Average:
    values = _finite(rows, metric)
    finished = sum(row.error is None for row in rows)
    share = f"{len(values)} of {finished}" if len(values) < finished else ""
    if not values:
        return Average(metric.text(math.nan), "", "", False)
    return Average(metric.text(float(np.mean(values))), metric.text(float(np.std(values))), share, best)
