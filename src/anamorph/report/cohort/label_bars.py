from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.report.cohort.cohort_report import CohortReport, CohortRow
from anamorph.report.cohort.metric import Metric, digits_for, lookup

_GAP = 0.2
_THINNEST = 0.03


@dataclass(frozen=True)
class LabelScale:
    """How the labels of every pair are shown as little bars, in the same order and at the same scale.

    Args:
        metric: the most telling metric that is known per label.
        labels: in the order of the bars.
        full: the value of a bar of full height.
    """

    metric: Metric
    labels: Sequence[str]
    full: float


@dataclass(frozen=True)
class LabelBars:
    """The labels of one pair: a bar each, as a path in a box of ``len(labels)`` x 1, and the worst of them."""

    path: str
    worst: str
    value: float
    text: str
    description: str


def labels_of(rows: Iterable[CohortRow], metric: str) -> list[str]:
    """All labels that have the metric: numbers in ascending order, names as they come."""
    names = list(dict.fromkeys(name for row in rows for name in row.per_label.get(metric, {})))
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def label_metric(report: CohortReport, name: str) -> Metric:
    """A metric with the digits that suit its values per label."""
    values = _values(report.rows, name)
    return Metric(name, report.metric_directions[name], digits_for(values))


def label_scale(report: CohortReport) -> LabelScale | None:
    """The scale of the first metric that a listed row has per label; None without any."""
    for name in report.metric_directions:
        finite = [value for value in _values(report.listed, name) if math.isfinite(value)]
        if finite:
            highest = max(finite)
            full = 1.0 if highest <= 1 else float(np.percentile(finite, 95))
            return LabelScale(label_metric(report, name), labels_of(report.listed, name), full or 1.0)
    return None


def label_bars(values: Mapping[str, float | None], scale: LabelScale) -> LabelBars | None:
    """The bars of one pair; None if no label has a value."""
    known = {name: v for name in scale.labels if not math.isnan(v := lookup(values, name))}
    if not known:
        return None
    path = "".join(
        f"M{place + _GAP / 2:g},1V{1 - min(max(known[name] / scale.full, _THINNEST), 1):.3f}h{1 - _GAP:g}V1z"
        for place, name in enumerate(scale.labels)
        if name in known
    )
    worst = max(known, key=lambda name: scale.metric.badness(known[name]))
    description = ", ".join(f"{name} {scale.metric.text(value)}" for name, value in known.items())
    return LabelBars(path, worst, known[worst], scale.metric.text(known[worst]), description)


def _values(rows: Iterable[CohortRow], metric: str) -> list[float]:
    return [lookup(values, label) for row in rows if (values := row.per_label.get(metric)) for label in values]
