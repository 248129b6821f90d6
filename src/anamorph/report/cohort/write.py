from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anamorph.report.cohort.chart import charts
from anamorph.report.cohort.model import NO_RESULT, CohortReport, CohortRow, metrics_of, worst_first
from anamorph.report.cohort.tables import entries, label_scale, summaries
from anamorph.report.colours import label_colour
from anamorph.report.page import fill, inline_script, save
from anamorph.report.pictures import file_uri

_BASELINE_COLOUR = "#9aa0a6"
_WORST_SHOWN = 6
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
    scale = label_scale(report)
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
        "worst": finished[:_WORST_SHOWN] if any(entry.picture for entry in finished[:_WORST_SHOWN]) else [],
        "has_pictures": any(entry.picture for entry in listed),
        "methods": [method for method in report.methods if method != report.baseline],
        "pairs": len({row.key for row in report.rows}),
        "counts": {name: statuses.count(name) for name in (NO_RESULT, "FAIL", "WARN", "PASS") if name in statuses},
        "summaries": summaries(report, metrics, colours),
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
