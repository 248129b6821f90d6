"""Box plots, as the numbers that a template draws: percent of the axis across, pixels down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anamorph.report.cohort.axis import Axis, axis_for
from anamorph.report.cohort.box import Box, box
from anamorph.report.cohort.cohort_report import CohortReport, CohortRow
from anamorph.report.cohort.label_bars import label_metric, labels_of
from anamorph.report.cohort.metric import Metric, lookup, metrics_of

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
