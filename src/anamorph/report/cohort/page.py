"""The page of an evaluation, and its box plots as the numbers that a template draws: percent across, pixels down."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.report.cohort.model import NO_RESULT, CohortReport, CohortRow, Metric, lookup, metrics_of, worst_first
from anamorph.report.cohort.paired import comparisons, shared_scans
from anamorph.report.cohort.tables import entries, label_metric, label_scale, labels_of, of_the_map, summaries
from anamorph.report.colours import label_colour
from anamorph.report.page import fill, inline_script, save
from anamorph.report.pictures import file_uri

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


LANE = 16  # height of one box with its margins, pixels
ALL = "all pairs"

Anchors = Mapping[int, str]


@dataclass(frozen=True)
class Dot:
    """An outlier; ``anchor`` is where its pair stands in the table, if it does."""

    x: float
    beyond: bool
    anchor: str
    text: str


@dataclass(frozen=True)
class DrawnBox:
    """The box of one method."""

    method: str
    colour: str
    y: float
    low: float
    first: float
    middle: float
    third: float
    high: float
    dots: list[Dot]
    median: str
    text: str


@dataclass(frozen=True)
class Group:
    """The boxes of one label, or of the pairs as a whole."""

    name: str
    boxes: list[DrawnBox]


@dataclass(frozen=True)
class Chart:
    """One metric: all groups over a common axis; ``lanes`` is the number of methods."""

    metric: str
    direction: str
    axis: Axis
    groups: list[Group]
    lanes: int

    @property
    def beyond(self) -> bool:
        """True if outliers were left to the end of the axis."""
        return any(dot.beyond for group in self.groups for drawn in group.boxes for dot in drawn.dots)


def charts(report: CohortReport, colours: Mapping[str, str], anchors: Anchors) -> list[Chart]:
    """A chart for every metric that has values.

    Args:
        report: the evaluation.
        colours: CSS colour of each method.
        anchors: where a row stands in the table, by ``id`` of the row.
    """
    whole = {metric.name: metric for metric in metrics_of(report)}
    drawn = []
    for name in report.metric_directions:
        labels = labels_of(report.rows, name)
        groups: list[tuple[str, Metric, str | None]] = [(ALL, whole[name], None)] if name in whole else []
        groups += [(label, label_metric(report, name), label) for label in labels]
        if chart := _chart(report, name, groups, colours, anchors):
            drawn.append(chart)
    return drawn


def _chart(
    report: CohortReport,
    name: str,
    groups: Sequence[tuple[str, Metric, str | None]],
    colours: Mapping[str, str],
    anchors: Anchors,
) -> Chart | None:
    rows = {method: [row for row in report.rows if row.method == method] for method in report.methods}
    found: dict[tuple[str, str], tuple[Box, list[float]]] = {}
    for title, _, label in groups:
        for method, own in rows.items():
            values = [_value(row, name, label) for row in own]
            if (plot := box(values)) is not None:
                found[title, method] = plot, values
    if not found:
        return None
    axis = axis_for(
        (plot for plot, _ in found.values()),
        (values[place] for plot, values in found.values() for place in plot.outliers),
    )
    drawn = []
    for title, metric, _ in groups:
        boxes = []
        for lane, method in enumerate(report.methods):
            if (title, method) in found:
                plot, values = found[title, method]
                dots = [_dot(rows[method][place], values[place], metric, axis, anchors) for place in plot.outliers]
                boxes.append(_drawn(plot, method, colours[method], (lane + 0.5) * LANE, title, metric, axis, dots))
        drawn.append(Group(title, boxes))
    return Chart(name, report.metric_directions[name], axis, drawn, len(report.methods))


def _value(row: CohortRow, metric: str, label: str | None) -> float:
    return lookup(row.metrics, metric) if label is None else lookup(row.per_label.get(metric, {}), label)


def _dot(row: CohortRow, value: float, metric: Metric, axis: Axis, anchors: Anchors) -> Dot:
    text = f"{row.key}, {row.method}: {metric.text(value)}"
    return Dot(axis.percent(value), not axis.shows(value), anchors.get(id(row), ""), text)


def _drawn(
    plot: Box, method: str, colour: str, y: float, title: str, metric: Metric, axis: Axis, dots: list[Dot]
) -> DrawnBox:
    median = metric.text(plot.median)
    text = (
        f"{title}, {method}: median {median}, middle half {metric.text(plot.first)} to {metric.text(plot.third)}, "
        f"{plot.count} pair{'s' * (plot.count != 1)}"
    )
    low, first, middle, third, high = map(axis.percent, (plot.low, plot.first, plot.median, plot.third, plot.high))
    return DrawnBox(method, colour, y, low, first, middle, third, high, dots, median, text)


_BASELINE_COLOUR = "#9aa0a6"
WORST_SHOWN = 6
FIRST_NUMBERS = 6
"""Metrics that are shown at once; the others on request."""
# Pictures are inside the page, so that it can be moved and sent as one file; a browser decodes them only as they come
# near the view. About 12 kB each up to 300 of them, then smaller, so that the page stays quick to open.
_LARGEST, _SMALLEST, _FULL_SIZE_UP_TO = 480, 160, 300


def write_cohort_report(path: str | os.PathLike[str], report: CohortReport) -> None:
    """Write the page of a whole evaluation as one HTML file that needs nothing else; thumbnails are inside.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, render(report))


def render(report: CohortReport) -> str:
    """The page as text."""
    return fill("cohort.html.j2", **_content(report), **inline_script("cohort.js"))


def _content(report: CohortReport) -> dict[str, Any]:
    metrics = metrics_of(report)
    rows = worst_first(report.listed, metrics)
    anchors = {id(row): f"pair-{place}" for place, row in enumerate(rows, 1)}
    colours = _colours(report)
    scale, of_map = label_scale(report), of_the_map(report, metrics)
    listed = entries(report, rows, metrics, scale, _pictures(rows), anchors)
    statuses = [entry.status for entry in listed]
    finished = [entry for entry in listed if entry.status != NO_RESULT]
    return {
        "report": report,
        "metrics": metrics,
        "scale": scale,
        "colours": colours,
        "entries": listed,
        "failed": [entry for entry in listed if entry.status == NO_RESULT],
        "worst": finished[:WORST_SHOWN] if any(entry.picture for entry in finished[:WORST_SHOWN]) else [],
        "has_pictures": any(entry.picture for entry in listed),
        "methods": [method for method in report.methods if method != report.baseline],
        "pairs": len({row.key for row in report.rows}),
        "counts": {name: statuses.count(name) for name in (NO_RESULT, "FAIL", "WARN", "PASS") if name in statuses},
        "summaries": summaries(report, metrics, colours),
        "first": FIRST_NUMBERS,
        "comparisons": comparisons(report, metrics[:FIRST_NUMBERS], of_map),
        "shared_scans": shared_scans(report),
        "charts": charts(report, colours, anchors),
    }


def _colours(report: CohortReport) -> dict[str, str]:
    rivals = [method for method in report.methods if method != report.baseline]
    colours = {method: label_colour(rank) for rank, method in enumerate(rivals)}
    return colours if report.baseline is None else {report.baseline: _BASELINE_COLOUR} | colours


def _pictures(rows: Sequence[CohortRow]) -> dict[Path, str | None]:
    paths = [row.thumbnail for row in rows if row.thumbnail is not None]
    shrink = math.sqrt(_FULL_SIZE_UP_TO / max(len(paths), _FULL_SIZE_UP_TO))
    return {path: file_uri(path, max(_SMALLEST, round(_LARGEST * shrink))) for path in set(paths)}
