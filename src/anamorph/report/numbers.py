"""The numbers of a report as text: tiles, tables and rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anamorph.evaluation.kept_tissue import KeptPiece
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics.metric import Column, Metric
from anamorph.evaluation.numbers import Numbers
from anamorph.geometry.lengths import MISSING, numbers_mm
from anamorph.image.image import Image
from anamorph.report.colours import label_colour


@dataclass(frozen=True)
class Tile:
    """A key number: with ``before`` it shows the change, with ``half`` it shares its line with the next."""

    name: str
    value: str
    unit: str = ""
    before: str = ""
    note: str = ""
    half: bool = False


@dataclass(frozen=True)
class LabelRow:
    """One label: every metric that is known by label, before and after."""

    name: int
    colour: str
    cells: list[tuple[str, str]]
    worse: bool


def text(value: float | None, digits: int) -> str:
    """A number with fixed digits; a dash when there is none."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def mm(value: float | None, decimals: int) -> str:
    """A length in mm without its unit, with as many decimals as its size asks for; a dash when there is none."""
    return numbers_mm([value], decimals)[0]


def shown(metric: Metric, value: float | None) -> str:
    """A number with the digits of its metric; lengths get more where they are small, a dash stands for none."""
    return (mm if metric.unit == "mm" else text)(value, metric.digits)


def tiles(metrics: Measured, timings: Mapping[str, float]) -> list[Tile]:
    """The key numbers, most telling first; the time stands beside the first that leaves room."""
    found = [_tile(column, metrics) for column in metrics.columns() if column.metric.prominence == "tile"]
    if timings:
        beside = next((place for place, tile in enumerate(found, 1) if tile.half), len(found))
        found.insert(beside, Tile("Time", text(total_seconds(timings), 1), "s", note="all stages", half=True))
    return found


def _tile(column: Column, metrics: Measured) -> Tile:
    metric, value = column.metric, metrics.after.mean(column.name)
    of_the_map = metric.at_rest is not None
    return Tile(
        column.title.partition(" (det")[0],
        _folding(value) if metric.unit == "%" else shown(metric, value),
        metric.unit,
        "" if of_the_map else shown(metric, metrics.before.mean(column.name)),
        metric.note(metrics.after) if metric.note else _count(column, metrics.after),
        half=metric.unit == "%",
    )


def _folding(percent: float | None) -> str:
    return text(percent, 3 if percent is not None and 0 < percent < 0.1 else 2)


def _count(column: Column, numbers: Numbers) -> str:
    if column.metric.per == "pair":
        return ""
    count = len(numbers.parts(column.name))
    noun = "label" if column.metric.per == "label" else column.points.removesuffix("s")
    return f"mean of {count} {noun}{'s' * (count != 1)}"


def total_seconds(timings: Mapping[str, float]) -> float:
    """Sum over the stages; ``"stage: part"`` is already in ``"stage"``."""
    return sum(
        seconds for name, seconds in timings.items() if name.partition(": ")[0] not in timings or ": " not in name
    )


@dataclass(frozen=True)
class KeptRow:
    """A piece that must not deform, its change of volume and its distance from a rigid motion."""

    name: str
    scan: str
    keeps: str
    cells: list[tuple[str, str]]


def kept_row(piece: KeptPiece) -> KeptRow:
    """The row of a piece."""
    keeps = piece.keeps if piece.weight is None else f"{piece.keeps}, weight {piece.weight:g}"
    volume = text(piece.free.volume_percent, 2), text(piece.after.volume_percent, 3)
    rigid = mm(piece.free.deviation_mm, 2), mm(piece.after.deviation_mm, 3)
    return KeptRow(piece.name, piece.scan, keeps, [volume, rigid])


def label_columns(metrics: Measured) -> list[Column]:
    """The metrics that are known by label."""
    return [column for column in metrics.columns() if column.metric.per == "label"]


def label_rows(metrics: Measured, ranks: Mapping[int, int]) -> list[LabelRow]:
    """One row per label that both scans have; ``ranks`` gives the colours of the outlines.

    A label is worse if the first metric says so.
    """
    columns = label_columns(metrics)
    before = [metrics.before.labels(column.name) for column in columns]
    after = [metrics.after.labels(column.name) for column in columns]
    return [
        LabelRow(
            label,
            label_colour(ranks.get(label, 0)),
            [
                (shown(column.metric, start.get(label)), shown(column.metric, end.get(label)))
                for column, start, end in zip(columns, before, after, strict=True)
            ],
            _is_worse(columns[0].metric, before[0].get(label), after[0].get(label)),
        )
        for label in sorted({label for values in after for label in values})
    ]


def _is_worse(metric: Metric, before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return False
    return after < before if metric.better == "higher" else after > before


def overview(metrics: Measured, files: bool = True) -> list[tuple[str, str, str]]:
    """Name, before, after of every number of the pair as a whole; a map's own numbers have no before.

    Without ``files`` those that are meant for files alone are left out. What labels, landmarks and outlines say that
    pulled comes last, marked as used.
    """
    rows = [
        (
            _heading(column),
            "" if column.metric.at_rest is not None else _cell(column, metrics.before),
            _cell(column, metrics.after),
        )
        for column in metrics.columns()
        if column.metric.per != "axis" and (files or column.metric.prominence != "file")
    ]
    used = [] if metrics.used is None else overview(metrics.used, files)
    return rows + [(f"{name} (used)", before, after) for name, before, after in used]


def _heading(column: Column) -> str:
    of = ", mean" if column.metric.per in ("label", "point") else ""
    return f"{column.title}{of}, {column.metric.unit}" if column.metric.unit else f"{column.title}{of}"


def _cell(column: Column, numbers: Numbers) -> str:
    value = numbers.mean(column.name)
    return "not measurable" if value is not None and math.isnan(value) else shown(column.metric, value)


def geometry_row(role: str, image: Image) -> tuple[str, str, str, str, str, str]:
    """Role, name, size, spacing, orientation and voxel type of a scan."""
    grid = image.grid
    size = " × ".join(map(str, grid.shape)) + (f", {image.channels} channels" if image.channels > 1 else "")
    spacing = " × ".join(f"{s:.3g}" for s in grid.spacing_mm)
    oblique = f", {grid.obliqueness_deg:.0f}° oblique" if grid.obliqueness_deg > 1 else ""
    return role, image.name, size, spacing, grid.orientation + oblique, str(image.data.dtype)


def flat_rows(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as (dotted name, text)."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_rows(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain_text(value)


def _plain_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain_text(item) for item in value) or MISSING
    return MISSING if value is None else str(value)
