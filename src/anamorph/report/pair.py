"""The report of a registered pair: its content, and its file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anamorph.evaluation.measured import Measured
from anamorph.evaluation.verdict import Verdict
from anamorph.image.image import Image, Labels
from anamorph.image.points import Points
from anamorph.report.page import fill, inline_script, save
from anamorph.transforms.maps import Transform


@dataclass(frozen=True)
class PairReport:
    """Everything a report shows; what is None is left out.

    Args:
        title: headline.
        fixed: the fixed scan.
        moving: the moving scan, on its own grid.
        verdict: the label and its reasons.
        warped: the moving scan on the fixed grid; None when the run failed.
        fixed_to_moving: the map, of which slices are looked at.
        moving_to_fixed: the other direction.
        fixed_labels: outlines to draw; any grid.
        moving_labels: outlines before registration, on the grid of the moving labels.
        warped_labels: outlines after registration.
        fixed_points: landmarks, where the views are centred in the absence of labels.
        metrics: the numbers.
        timings: seconds per stage; ``"stage: part"`` is a part of ``"stage"`` and not counted twice.
        trace: objective per iteration of each stage.
        settings: of the method, possibly nested.
        provenance: how to repeat the run, possibly nested.
        start: how the linear start was found, the winner first, one line each.
        warnings: one line each.
        notes: what else is worth knowing about the input, one line each.
        failure: why there is no transform.
    """

    title: str
    fixed: Image
    moving: Image
    verdict: Verdict
    warped: Image | None = None
    fixed_to_moving: Transform | None = None
    moving_to_fixed: Transform | None = None
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    warped_labels: Labels | None = None
    fixed_points: Points | None = None
    metrics: Measured | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    trace: Mapping[str, Sequence[float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    start: Sequence[str] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    failure: str | None = None


WIDTH, HEIGHT = 300.0, 90.0
MOST_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """An objective over its iterations, ready to draw in a box of 300 x 90."""

    name: str
    path: str
    first: str
    last: str
    iterations: int


def curve(name: str, values: Sequence[float]) -> Curve | None:
    """The line through a series; None without two finite values. Values that are not finite leave a gap."""
    finite = [float(v) for v in values if math.isfinite(v)]
    if len(finite) < 2:
        return None
    low, high = min(finite), max(finite)
    height = (high - low) or 1.0
    step = max(1, len(values) // MOST_POINTS)
    kept = sorted({*range(0, len(values), step), len(values) - 1})
    path, pen_down = "", False
    for index in kept:
        value = float(values[index])
        if math.isfinite(value):
            x, y = WIDTH * index / (len(values) - 1), HEIGHT * (high - value) / height
            path += f"{'L' if pen_down else 'M'}{x:.1f},{y:.1f}"
        pen_down = math.isfinite(value)
    return Curve(name, path, f"{finite[0]:.4g}", f"{finite[-1]:.4g}", len(values))


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
    from anamorph.report import figures, numbers

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
        "curves": [c for name, values in report.trace.items() if (c := curve(name, values))],
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
