"""The numbers of a report as text: tiles, tables and rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anamorph.evaluation.gates import Check
from anamorph.evaluation.kept_tissue import KeptPiece
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics.landmarks import tre_mm
from anamorph.evaluation.metrics.metric import Column, Metric
from anamorph.evaluation.numbers import Numbers
from anamorph.evaluation.seen_labels import SeenLabels
from anamorph.evaluation.verdict import all_gates
from anamorph.geometry.lengths import MISSING, numbers_mm
from anamorph.image.image import Image
from anamorph.image.points import Points
from anamorph.report.colours import label_colour
from anamorph.transforms.maps import Affine, Transform


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

    name: str
    colour: str
    cells: list[tuple[str, str]]
    worse: bool


def text(value: float | None, digits: int) -> str:
    """A number with fixed digits; a dash when there is none."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def mm(value: float | None, decimals: int) -> str:
    """A length in mm without its unit, with as many decimals as its size asks for; a dash when there is none."""
    return numbers_mm([value], decimals)[0]


def shown(metric: Metric, value: float | None, voxel_mm: float) -> str:
    """A number with the digits of its metric; lengths get more where they are small, a dash stands for none.

    Lengths below a thousandth of a voxel are zero.
    """
    if metric.unit == "mm":
        return mm(0.0 if _is_nothing(metric, value, voxel_mm) else value, metric.digits)
    return text(value, metric.digits)


def _is_nothing(metric: Metric, value: float | None, voxel_mm: float) -> bool:
    return metric.unit == "mm" and value is not None and abs(value) < NOTHING_VOX * voxel_mm


NOTHING_VOX = 1e-3
"""Shorter lengths are what rounding leaves of zero."""
TrueError = Mapping[str, Mapping[str, float]]
"""Distances in mm from the true map, ``before`` and ``after``, each ``mean``, ``p95`` and ``max``."""


def tiles(metrics: Measured, timings: Mapping[str, float], true_error_mm: TrueError | None = None) -> list[Tile]:
    """The key numbers, most telling first; the time stands beside the first that leaves room."""
    found = [_tile(column, metrics) for column in metrics.columns() if column.metric.prominence == "tile"]
    if true_error_mm:
        before, after = (mm(true_error_mm[when]["mean"], 2) for when in ("before", "after"))
        found.insert(0, Tile("True error", after, "mm", before, note="mean inside the body; the true map is known"))
    if timings:
        beside = next((place for place, tile in enumerate(found, 1) if tile.half), len(found))
        found.insert(beside, Tile("Time", text(total_seconds(timings), 1), "s", note="all stages", half=True))
    return found


def key_numbers(metrics: Measured, count: int) -> list[Tile]:
    """The most telling numbers: those of tiles before those of tables, what was measured before too first."""
    columns = [column for column in metrics.columns() if column.metric.prominence != "file"]
    columns.sort(key=lambda column: (column.metric.prominence != "tile", column.metric.at_rest is not None))
    return [_tile(column, metrics) for column in columns[:count]]


def _tile(column: Column, metrics: Measured) -> Tile:
    metric, value = column.metric, metrics.after.mean(column.name)
    of_the_map, voxel_mm = metric.at_rest is not None, metrics.voxel_mm
    note = metric.note(metrics.after) if metric.note else _count(column, metrics.after)
    return Tile(
        column.title.partition(" (det")[0],
        _folding(value) if metric.unit == "%" else shown(metric, value, voxel_mm),
        metric.unit,
        "" if of_the_map else shown(metric, metrics.before.mean(column.name), voxel_mm),
        "" if of_the_map and _is_nothing(metric, value, voxel_mm) else note,
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
class LandmarkRow:
    """A pair of landmarks in RAS mm, and how far apart they are before and after."""

    name: str
    fixed: str
    moving: str
    before: str
    after: str
    worse: bool


def landmark_rows(fixed: Points | None, moving: Points | None, transform: Transform | None) -> list[LandmarkRow]:
    """A row for each pair of landmarks, the one that ends furthest apart first."""
    if fixed is None or moving is None or transform is None:
        return []
    here, there = fixed.matched(moving)
    before, after = (tre_mm(here, there, one) for one in (Affine.identity(), transform))
    places = [[", ".join(f"{value:.1f}" for value in point) for point in set_.positions_mm] for set_ in (here, there)]
    names = here.labels or [str(n) for n in range(1, len(here) + 1)]
    return [
        LandmarkRow(names[n], places[0][n], places[1][n], mm(before[n], 2), mm(after[n], 2), bool(after[n] > before[n]))
        for n in sorted(range(len(here)), key=lambda n: -after[n])
    ]


def true_error_rows(true_error_mm: TrueError) -> list[tuple[str, str, str]]:
    """Name, before and after of each distance from the true map."""
    if not true_error_mm:
        return []
    told = (("mean", "mean"), ("p95", "95 %"), ("max", "largest"))
    before, after = (true_error_mm[when] for when in ("before", "after"))
    return [(name, mm(before[key], 2), mm(after[key], 2)) for key, name in told]


@dataclass(frozen=True)
class CheckRow:
    """One check of the verdict in words, and what was measured against which limit."""

    message: str
    detail: str
    status: str


def check_rows(checks: Sequence[Check], named: Named) -> list[CheckRow]:
    """The checks of a verdict, in its order."""
    meanings = {gate.name: gate.meaning for gate in all_gates()}
    return [
        CheckRow(named.in_text(check.message), _detail(check, meanings.get(check.name)), check.status)
        for check in checks
    ]


def _detail(check: Check, meaning: str | None) -> str:
    if check.measured is None or check.threshold is None:
        return ""
    measured, limit = (f"{value:.3g} {check.unit}".strip() for value in (check.measured, check.threshold))
    return f"{meaning or check.name}: {measured}, limit {limit}"


@dataclass(frozen=True)
class TimingRow:
    """Seconds of a stage, or of a part of one, and the share of the longest."""

    name: str
    seconds: str
    share: float
    is_part: bool


def timing_rows(timings: Mapping[str, float]) -> list[TimingRow]:
    """The stages, each followed by its parts."""
    longest = max(timings.values(), default=0.0) or 1.0
    stages = [name for name in timings if name.partition(": ")[0] not in timings or ": " not in name]
    rows = []
    for stage in stages:
        rows.append(TimingRow(stage, f"{timings[stage]:.2f}", timings[stage] / longest, False))
        parts = [name for name in timings if name.startswith(f"{stage}: ") and name not in stages]
        for part in parts:
            name = part.removeprefix(f"{stage}: ")
            rows.append(TimingRow(name, f"{timings[part]:.2f}", timings[part] / longest, True))
    return rows


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


@dataclass(frozen=True)
class SeenRow:
    """A label that a guide sees: how sure and trusted it is, and its overlap before and after."""

    name: str
    colour: str
    cells: tuple[str, str, str, str]


def seen_rows(seen: SeenLabels) -> list[SeenRow]:
    """A row for each label of a guide."""
    return [
        SeenRow(
            row.name,
            label_colour(rank),
            (text(row.sure, 2), text(row.trust, 2), text(row.before, 3), text(row.after, 3)),
        )
        for rank, row in enumerate(seen.rows)
    ]


def label_columns(metrics: Measured) -> list[Column]:
    """The metrics that are known by label."""
    return [column for column in metrics.columns() if column.metric.per == "label"]


class Named:
    """Names of labels, each with its value: ``liver (6)``; the value alone where there is no name."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names

    def __call__(self, label: int) -> str:
        """The name of one label."""
        return f"{self.names[label]} ({label})" if label in self.names else str(label)

    def in_text(self, text: str) -> str:
        """A sentence of a verdict, in which ``label 5`` and ``labels 5, 6`` have their names, where all have one."""
        return re.sub(r"\blabels? (\d+(?:, \d+)*)\b", self._in_sentence, text)

    def _in_sentence(self, found: re.Match[str]) -> str:
        labels = [int(label) for label in found[1].split(", ")]
        return self.all(labels) if all(label in self.names for label in labels) else found[0]

    def all(self, labels: Sequence[int]) -> str:
        """The names of several labels in one line."""
        return ", ".join(map(self, labels))


def label_rows(metrics: Measured, colours: Mapping[int, str], names: Mapping[int, str]) -> list[LabelRow]:
    """One row per label that both scans have; ``colours`` are those of the outlines.

    A label is worse if the first metric says so.
    """
    columns, named = label_columns(metrics), Named(names)
    before = [metrics.before.labels(column.name) for column in columns]
    after = [metrics.after.labels(column.name) for column in columns]
    return [
        LabelRow(
            named(label),
            colours.get(label, label_colour(0)),
            [
                (
                    shown(column.metric, start.get(label), metrics.voxel_mm),
                    shown(column.metric, end.get(label), metrics.voxel_mm),
                )
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
            "" if column.metric.at_rest is not None else _cell(column, metrics.before, metrics.voxel_mm),
            _cell(column, metrics.after, metrics.voxel_mm),
        )
        for column in metrics.columns()
        if column.metric.per != "axis" and (files or column.metric.prominence != "file")
    ]
    used = [] if metrics.used is None else overview(metrics.used, files)
    return rows + [(f"{name} (used)", before, after) for name, before, after in used]


def _heading(column: Column) -> str:
    of = ", mean" if column.metric.per in ("label", "point") else ""
    return f"{column.title}{of}, {column.metric.unit}" if column.metric.unit else f"{column.title}{of}"


def _cell(column: Column, numbers: Numbers, voxel_mm: float) -> str:
    value = numbers.mean(column.name)
    return "not measurable" if value is not None and math.isnan(value) else shown(column.metric, value, voxel_mm)


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
