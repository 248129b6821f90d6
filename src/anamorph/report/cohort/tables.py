"""The tables of the page: one row per method, one per pair, with its labels as little bars."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from anamorph.geometry.lengths import MISSING
from anamorph.report.cohort.model import CohortReport, CohortRow, Metric, digits_for, lookup, severity, status

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


_NOTHING = Average(MISSING, "", "", False)


def summaries(report: CohortReport, metrics: Sequence[Metric], colours: dict[str, str]) -> list[MethodSummary]:
    """One summary per method, the baseline first; the best of several methods is marked for each metric."""
    rows = {method: [row for row in report.rows if row.method == method] for method in report.methods}
    means = {method: [_mean(own, metric) for metric in metrics] for method, own in rows.items()}
    rivals = [method for method in report.methods if method != report.baseline]
    of_map = of_the_map(report, metrics)
    best = [
        None if metric.name in of_map else _best([means[method][place] for method in rivals], metric)
        for place, metric in enumerate(metrics)
    ]
    return [
        MethodSummary(
            method,
            colours[method],
            method == report.baseline,
            len(own),
            Counter(status(row) for row in own),
            [
                _NOTHING
                if method == report.baseline and metric.name in of_map
                else _average(own, metric, method in rivals and means[method][place] == best[place])
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
    """The best mean of several methods; None if there is nothing to compare, or all read alike."""
    known = [mean for mean in means if mean is not None]
    return min(known, key=metric.badness) if len({metric.text(mean) for mean in known}) > 1 else None


def _average(rows: Sequence[CohortRow], metric: Metric, best: bool) -> Average:
    values = _finite(rows, metric)
    finished = sum(row.error is None for row in rows)
    share = f"{len(values)} of {finished}" if len(values) < finished else ""
    if not values:
        return Average(metric.text(math.nan), "", "", False)
    return Average(metric.text(float(np.mean(values))), metric.text(float(np.std(values))), share, best)


@dataclass(frozen=True)
class Cell:
    """One number: as text, the baseline's beside it, and as something to sort by (empty if missing)."""

    metric: str
    text: str
    before: str
    worse: bool
    value: str


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    row: CohortRow
    anchor: str
    status: str
    severity: int
    href: str
    picture: str | None
    cells: list[Cell]
    bars: LabelBars | None
    bars_value: str


def entries(
    report: CohortReport,
    rows: Sequence[CohortRow],
    metrics: Sequence[Metric],
    scale: LabelScale | None,
    pictures: Mapping[Path, str | None],
    anchors: Mapping[int, str],
) -> list[Entry]:
    """The rows of the table in the order given, each beside the baseline's numbers of its pair."""
    before = _baseline(report, metrics)
    listed = []
    for row in rows:
        bars = label_bars(row.per_label.get(scale.metric.name, {}), scale) if scale else None
        listed.append(
            Entry(
                row,
                anchors[id(row)],
                status(row),
                severity(row),
                href(row.report_link) if row.report_link else "",
                pictures.get(row.thumbnail) if row.thumbnail else None,
                [_cell(m, m.of(row.metrics), m.of(before.get(row.key, {}))) for m in metrics],
                bars,
                _sortable(bars.value) if bars else "",
            )
        )
    return listed


def of_the_map(report: CohortReport, metrics: Sequence[Metric]) -> set[str]:
    """Metrics that are zero for every pair of the baseline (folding, SDlogJ): there is no map before registration."""
    rows = [row for row in report.rows if row.method == report.baseline]
    return {metric.name for metric in metrics if rows and not any(row.metrics.get(metric.name) for row in rows)}


def _baseline(report: CohortReport, metrics: Sequence[Metric]) -> dict[str, dict[str, float | None]]:
    """The baseline's numbers by pair, where they can be compared."""
    rows = [row for row in report.rows if row.method == report.baseline]
    of_map = of_the_map(report, metrics)
    compared = [metric.name for metric in metrics if metric.name not in of_map]
    return {row.key: {name: row.metrics[name] for name in compared if name in row.metrics} for row in rows}


def href(link: str) -> str:
    """The address of a file: relative ones stay so, and nothing in a name is read as a scheme, a query or a host."""
    path = Path(link)
    return path.as_uri() if path.is_absolute() else quote(os.fsencode(path.as_posix()))


def _cell(metric: Metric, value: float, before: float) -> Cell:
    shown = "" if math.isnan(before) or math.isnan(value) else metric.text(before)
    return Cell(metric.name, metric.text(value), shown, metric.is_worse(value, before), _sortable(value))


def _sortable(value: float) -> str:
    """A number as JavaScript reads it; empty if it is missing."""
    return "" if math.isnan(value) else repr(value).replace("inf", "Infinity")
