from __future__ import annotations

import os
from typing import Any

from anamorph.report.page import fill, inline_script, save
from anamorph.report.pair_report import PairReport


def write_report(path: str | os.PathLike[str], report: PairReport) -> None:
    """Write a report as one HTML file that needs nothing else: pictures, styles and the script are inside.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, render(report))


def render(report: PairReport) -> str:
    """The page as text."""
    return fill("report.html.j2", **_content(report), **inline_script("report.js"))


def _content(report: PairReport) -> dict[str, Any]:
    from anamorph.report import chart, figures, numbers

    metrics = report.metrics
    ranks = figures.label_ranks(report)
    content: dict[str, Any] = {
        "report": report,
        "viewer": None,
        "maps": [],
        "inputs": [],
        "tiles": numbers.tiles(metrics, report.timings) if metrics else [],
        "overview": numbers.overview(metrics) if metrics else [],
        "label_columns": numbers.label_columns(metrics) if metrics else [],
        "label_rows": numbers.label_rows(metrics, ranks) if metrics else [],
        "checks": [check for check in report.verdict.checks if check.measured is not None],
        "curves": [c for name, values in report.trace.items() if (c := chart.curve(name, values))],
        "timings": [(name, f"{s:.2f}", s / max(report.timings.values())) for name, s in report.timings.items()],
        "geometry": [numbers.geometry_row("fixed", report.fixed), numbers.geometry_row("moving", report.moving)],
        "settings": list(numbers.flat_rows(report.settings)),
        "provenance": list(numbers.flat_rows(report.provenance)),
    }
    if report.warped is None:
        content["inputs"] = figures.inputs(report)
    else:
        content["viewer"], content["maps"] = figures.comparison(report, figures.report_views(report))
    return content
