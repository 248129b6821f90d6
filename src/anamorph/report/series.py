"""The page of a registered series: films before and after, and the course of every number over time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from anamorph.image.background import looks_like_ct
from anamorph.image.image import Labels
from anamorph.image.series import ImageSeries
from anamorph.report.colours import label_colour
from anamorph.report.page import fill, save
from anamorph.report.pictures import ct_window, data_uri, enlarged, film_uri, robust_window, to_grey
from anamorph.report.views import View, focus_voxel, orthogonal_views

WIDTH, HEIGHT = 520.0, 210.0
"""Of the box of a chart, in units of the drawing."""
MOST_FRAMES = 40
"""Of a film; of longer series every so many-th frame is shown."""
FILM_MS = 2000
"""Length of a film."""
NEAR = 0.12
"""Ticks this close to an end of the axis, as a share of its length, would hide its number."""
_LINE_PIXELS = 240
"""Width of a picture whose columns are frames."""


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
class SeriesReport:
    """What the page shows.

    Args:
        title: of the page.
        facts: what was done and found, a sentence each.
        times: of the frames.
        time_name: what the times are, with their unit.
        charts: courses over time.
        before: the frames.
        after: the warped frames.
        labels: carried to every frame; empty if there are none.
        table: its head and its rows, as text.
    """

    title: str
    facts: Sequence[str]
    times: Sequence[float]
    time_name: str
    charts: Sequence[Chart]
    before: ImageSeries
    after: ImageSeries
    labels: Sequence[Labels] = ()
    table: tuple[Sequence[str], Sequence[Sequence[str]]] = field(default=((), ()))


def write_series_page(path: str | os.PathLike[str], report: SeriesReport) -> None:
    """Write the page as one HTML file; all pictures are inside.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, series_page(report))


def series_page(report: SeriesReport) -> str:
    """The page as text."""
    first = report.before.frames[0]
    view = orthogonal_views(first.grid, focus_voxel(first, report.labels[0] if report.labels else None))[0]
    charts = [_drawn(chart, report.times) for chart in report.charts]
    return fill("series.html.j2", report=report, charts=charts, cards=_cards(report, view), width=WIDTH, height=HEIGHT)


@dataclass(frozen=True)
class _Card:
    title: str
    caption: str
    pictures: list[tuple[str, str, float]]
    """What each shows, its source, and its width by its height."""


def _cards(report: SeriesReport, view: View) -> list[_Card]:
    before = np.stack([view.take(frame.data[0]) for frame in report.before.frames]).astype(np.float32)
    after = np.stack([view.take(frame.data[0]) for frame in report.after.frames]).astype(np.float32)
    window = ct_window(before) if looks_like_ct(report.before.frames[0]) else robust_window(before)
    outlines = [_outlines(view.take(labels.data[0])) for labels in report.labels]
    films = (
        (
            [_painted(to_grey(s, window), o) for s, o in zip(before, outlines, strict=True)]
            if outlines
            else [enlarged(to_grey(s, window)) for s in before]
        ),
        [enlarged(to_grey(s, window)) for s in after],
    )
    step = -(-len(before) // MOST_FRAMES)
    pace = max(FILM_MS // len(films[0][::step]), 20)
    shape = view.width_mm / view.height_mm
    column = view.pixels[1] // 2
    rows = [_over_time(to_grey(slices, window)[:, :, column]) for slices in (before, after)]
    spread = [slices.std(axis=0) for slices in (before, after)]
    brightest = 0.0, float(max(np.percentile(spread[0], 99.5), 1e-6))
    return [
        _Card(
            "The series",
            "The frames as they are, with the labels that were carried to them."
            if outlines
            else "The frames as they are.",
            [("frames as they are", film_uri(films[0][::step], pace), shape)],
        ),
        _Card(
            "Brought to the target",
            "The warped frames: a still picture is what is wanted.",
            [("warped frames", film_uri(films[1][::step], pace), shape)],
        ),
        _Card(
            "Over time",
            "The middle column of the picture, a column for each frame: before, and after.",
            [(name, data_uri(row), 1.0) for name, row in zip(("before", "after"), rows, strict=True)],
        ),
        _Card(
            "Change over time",
            "Standard deviation over the frames, on one scale: before, and after.",
            [
                (name, data_uri(enlarged(to_grey(s, brightest))), shape)
                for name, s in zip(("before", "after"), spread, strict=True)
            ],
        ),
    ]


def _over_time(columns: np.ndarray) -> np.ndarray:
    """``(T, rows)`` grey values as a picture whose columns are frames."""
    return enlarged(columns.T.repeat(max(_LINE_PIXELS // len(columns), 1), axis=1))


def _outlines(labels: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The colour of each label and the enlarged pixels of its border."""
    found = []
    for rank, label in enumerate(np.unique(labels[labels > 0])):
        inside = enlarged(labels == label)
        border = np.zeros_like(inside)
        border[:-1] |= inside[:-1] != inside[1:]
        border[:, :-1] |= inside[:, :-1] != inside[:, 1:]
        found.append((label_colour(rank), border))
    return found


def _painted(grey: np.ndarray, outlines: list[tuple[str, np.ndarray]]) -> np.ndarray:
    picture = enlarged(grey)[..., None].repeat(3, axis=2)
    for colour, border in outlines:
        picture[border] = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    return picture


@dataclass(frozen=True)
class _Line:
    name: str
    colour: str
    dashed: bool
    path: str


@dataclass(frozen=True)
class _Drawing:
    chart: Chart
    lines: list[_Line]
    heights: list[tuple[float, str]]
    """Ticks of the vertical axis: place and text."""
    times: list[tuple[float, str]]


def _drawn(chart: Chart, times: Sequence[float]) -> _Drawing:
    values = np.array([value for curve in chart.curves for value in curve.values if np.isfinite(value)] or [0.0])
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    span, duration = (high - low) or 1.0, (times[-1] - times[0]) or 1.0

    def place(time: float, value: float) -> tuple[float, float]:
        return WIDTH * (time - times[0]) / duration, HEIGHT * (high - value) / span

    lines = []
    for rank, curve in enumerate(chart.curves):
        points = [place(t, v) for t, v in zip(times, curve.values, strict=True) if np.isfinite(v)]
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points) if points else ""
        lines.append(_Line(curve.name, label_colour(rank), curve.dashed, path))
    ticks = sorted({low, high, 0.0, (low + high) / 2})
    ends = sorted({times[0], (times[0] + times[-1]) / 2, times[-1]})
    shown = [tick for tick in ticks if tick in (low, high) or NEAR < (high - tick) / span < 1 - NEAR]
    return _Drawing(
        chart,
        lines,
        [(place(times[0], value)[1], f"{value:.3g}") for value in shown],
        [(place(time, low)[0], f"{time:.3g}") for time in ends],
    )
