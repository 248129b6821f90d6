"""The page of a registered series: films before and after, and the course of every number over time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from anamorph.image.background import looks_like_ct
from anamorph.image.image import Labels
from anamorph.image.series import ImageSeries
from anamorph.report.charts import Chart, drawn
from anamorph.report.colours import label_colour
from anamorph.report.page import fill, save
from anamorph.report.pictures import ct_window, data_uri, enlarged, film_uri, robust_window, to_grey
from anamorph.report.views import View, focus_voxel, orthogonal_views

MOST_FRAMES = 40
"""Of a film; of longer series every so many-th frame is shown."""
FILM_MS = 2000
"""Length of a film."""
_LINE_PIXELS = 240
"""Width of a picture whose columns are frames."""


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
    charts = [drawn(chart, report.times, report.time_name) for chart in report.charts]
    return fill("series.html.j2", report=report, charts=charts, cards=_cards(report, view))


@dataclass(frozen=True)
class _Card:
    title: str
    caption: str
    pictures: list[_Shown]
    legend: list[tuple[str, str]] = field(default_factory=list)
    """Names and colours of lines."""


@dataclass(frozen=True)
class _Shown:
    """A picture; ``still`` takes the place of one that moves for those who want no motion."""

    name: str
    source: str
    shape: float
    """Width by height."""
    still: str = ""


def _cards(report: SeriesReport, view: View) -> list[_Card]:
    before = np.stack([view.take(frame.data[0]) for frame in report.before.frames]).astype(np.float32)
    after = np.stack([view.take(frame.data[0]) for frame in report.after.frames]).astype(np.float32)
    window = ct_window(before) if looks_like_ct(report.before.frames[0]) else robust_window(before)
    slices = [view.take(labels.data[0]) for labels in report.labels]
    values = sorted({int(value) for one in slices for value in np.unique(one) if value})
    painted = {value: label_colour(rank) for rank, value in enumerate(values)}
    outlines = [_outlines(one, painted) for one in slices]
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
            [_film("frames as they are", films[0][::step], pace, shape)],
            [(f"label {value}", colour) for value, colour in painted.items()],
        ),
        _Card(
            "Brought to the target",
            "The warped frames: a still picture is what is wanted.",
            [_film("warped frames", films[1][::step], pace, shape)],
        ),
        _Card(
            "Over time",
            "The middle column of the picture, a column for each frame: before, and after.",
            [_Shown(name, data_uri(row), 1.0) for name, row in zip(("before", "after"), rows, strict=True)],
        ),
        _Card(
            "Change over time",
            "Standard deviation over the frames, on one scale: before, and after.",
            [
                _Shown(name, data_uri(enlarged(to_grey(s, brightest))), shape)
                for name, s in zip(("before", "after"), spread, strict=True)
            ],
        ),
    ]


def _over_time(columns: np.ndarray) -> np.ndarray:
    """``(T, rows)`` grey values as a picture whose columns are frames."""
    return enlarged(columns.T.repeat(max(_LINE_PIXELS // len(columns), 1), axis=1))


def _film(name: str, frames: Sequence[np.ndarray], pace_ms: int, shape: float) -> _Shown:
    return _Shown(name, film_uri(frames, pace_ms), shape, data_uri(frames[0]))


def _outlines(labels: np.ndarray, painted: Mapping[int, str]) -> list[tuple[str, np.ndarray]]:
    """The colour of each label and the enlarged pixels of its border."""
    found = []
    for label in (int(value) for value in np.unique(labels) if value):
        inside = enlarged(labels == label)
        border = inside.copy()  # within the label, so that neighbours do not hide each other's
        border[1:-1, 1:-1] &= ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])
        found.append((painted[label], border))
    return found


def _painted(grey: np.ndarray, outlines: list[tuple[str, np.ndarray]]) -> np.ndarray:
    picture = enlarged(grey)[..., None].repeat(3, axis=2)
    for colour, border in outlines:
        picture[border] = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    return picture
