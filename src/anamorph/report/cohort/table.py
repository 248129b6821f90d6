"""The rows of the table of pairs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from anamorph.report.cohort.cohort_report import CohortReport, CohortRow
from anamorph.report.cohort.label_bars import LabelBars, LabelScale, label_bars
from anamorph.report.cohort.metric import Metric
from anamorph.report.cohort.order import severity, status


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


def _baseline(report: CohortReport, metrics: Sequence[Metric]) -> dict[str, dict[str, float | None]]:
    """The baseline's numbers by pair, where they can be compared.

    A number that is zero in all of them (folding, SDlogJ) is of the map, and there is no map before registration.
    """
    rows = [row for row in report.rows if row.method == report.baseline]
    compared = [metric.name for metric in metrics if any(row.metrics.get(metric.name) for row in rows)]
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
