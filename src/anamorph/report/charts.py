"""Courses of numbers as curves over a common axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anamorph.report.colours import label_colour

WIDTH, HEIGHT = 520.0, 210.0
"""Of the box of a chart, in units of the drawing."""
NEAR = 0.12
"""Ticks this close to an end of the axis, as a share of its length, would hide its number."""
HIDDEN = 2.0
"""A curve that is nowhere further from a later one, in units of the drawing, lies under it."""


@dataclass(frozen=True)
class Curve:
    """The course of one number over time; NaN where it is unknown."""

    name: str
    values: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Courses that share a unit."""

    title: str
    unit: str
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Line:
    """A curve as a path of the drawing; ``under`` names a later one that hides it, so that it is drawn wider."""

    name: str
    colour: str
    dashed: bool
    path: str
    under: str = ""


@dataclass(frozen=True)
class Drawing:
    """A chart ready to draw: its lines, and ticks of both axes as places and texts."""

    chart: Chart
    lines: list[Line]
    heights: list[tuple[float, str]]
    times: list[tuple[float, str]]
    time_name: str
    width: float = WIDTH
    height: float = HEIGHT


def drawn(chart: Chart, times: Sequence[float], time_name: str) -> Drawing:
    """Lay a chart out.

    Args:
        chart: what to draw.
        times: of the values of every curve.
        time_name: what the times are, with their unit.
    """
    values = np.array([value for curve in chart.curves for value in curve.values if np.isfinite(value)] or [0.0])
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    span, duration = (high - low) or 1.0, (times[-1] - times[0]) or 1.0
    heights = [HEIGHT * (high - np.array(curve.values, float)) / span for curve in chart.curves]
    across = WIDTH * (np.array(times, float) - times[0]) / duration
    lines = []
    for rank, curve in enumerate(chart.curves):
        points = [(x, y) for x, y in zip(across, heights[rank], strict=True) if np.isfinite(y)]
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points) if points else ""
        above = [chart.curves[n].name for n in range(rank + 1, len(heights)) if _hides(heights[n], heights[rank])]
        lines.append(Line(curve.name, label_colour(rank), curve.dashed, path, above[0] if above else ""))
    ticks = sorted({low, high, 0.0, (low + high) / 2})
    ends = sorted({times[0], (times[0] + times[-1]) / 2, times[-1]})
    shown = [tick for tick in ticks if tick in (low, high) or NEAR < (high - tick) / span < 1 - NEAR]
    return Drawing(
        chart,
        lines,
        [(HEIGHT * (high - value) / span, f"{value:.3g}") for value in shown],
        [(WIDTH * (time - times[0]) / duration, f"{time:.3g}") for time in ends],
        time_name,
    )


def _hides(above: np.ndarray, below: np.ndarray) -> bool:
    known = np.isfinite(below)
    return bool(known.any()) and bool((np.abs(above[known] - below[known]) <= HIDDEN).all())
