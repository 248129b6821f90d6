"""The numbers of a report as text: tiles, tables and rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anamorph.evaluation import Agreement, PairMetrics
from anamorph.geometry.lengths import MISSING, numbers_mm
from anamorph.image import Image
from anamorph.report.palette import label_colour


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
    """One label: Dice and HD95 before and after."""

    name: int
    colour: str
    dice: tuple[str, str]
    hd95: tuple[str, str]
    worse: bool


def text(value: float | None, digits: int) -> str:
    """A number with fixed digits; a dash when there is none."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def mm(value: float | None, decimals: int) -> str:
    """A length in mm without its unit, with as many decimals as its size asks for; a dash when there is none."""
    return numbers_mm([value], decimals)[0]


def tiles(metrics: PairMetrics, timings: Mapping[str, float]) -> list[Tile]:
    """The key numbers, most telling first."""
    before, after = metrics.before, metrics.after
    inverse = metrics.inverse_consistency_mm
    found = []
    if after.dice:
        count = f"mean of {len(after.dice)} label{'s' * (len(after.dice) != 1)}"
        found.append(Tile("Dice", text(after.mean_dice, 3), "", text(before.mean_dice, 3), count))
        found.append(Tile("HD95", mm(after.mean_hd95_mm, 1), "mm", mm(before.mean_hd95_mm, 1), count))
    if after.tre_mm:
        count = f"mean of {len(after.tre_mm)} landmark{'s' * (len(after.tre_mm) != 1)}"
        found.append(Tile("Landmark error", mm(after.mean_tre_mm, 2), "mm", mm(before.mean_tre_mm, 2), count))
    folding = metrics.jacobian["folding_percent"]
    digits = 3 if 0 < folding < 0.1 else 2
    found.append(Tile("Folding", text(folding, digits), "%", note="of voxels", half=True))
    if timings:
        found.append(Tile("Time", text(total_seconds(timings), 1), "s", note="all stages", half=True))
    spread = f"95 % below {mm(inverse['p95'], 2)}, largest {mm(inverse['max'], 1)}"
    found.append(Tile("Inverse consistency", mm(inverse["mean"], 2), "mm", note=spread))
    return found


def total_seconds(timings: Mapping[str, float]) -> float:
    """Sum over the stages; ``"stage: part"`` is already in ``"stage"``."""
    return sum(
        seconds for name, seconds in timings.items() if name.partition(": ")[0] not in timings or ": " not in name
    )


def label_rows(metrics: PairMetrics, ranks: Mapping[int, int]) -> list[LabelRow]:
    """One row per label that both scans have; ``ranks`` gives the colours of the outlines."""
    before, after = metrics.before, metrics.after

    def pair(of: str, name: int, digits: int) -> tuple[str, str]:
        form = mm if of.endswith("_mm") else text
        return form(getattr(before, of).get(name), digits), form(getattr(after, of).get(name), digits)

    return [
        LabelRow(
            name,
            label_colour(ranks.get(name, 0)),
            pair("dice", name, 3),
            pair("hd95_mm", name, 1),
            after.dice[name] < before.dice.get(name, 0),
        )
        for name in sorted(after.dice)
    ]


def overview(metrics: PairMetrics) -> list[tuple[str, str, str]]:
    """Name, before, after of every number of the pair as a whole; a map's own numbers have no before."""
    before, after = metrics.before, metrics.after

    def both(name: str, of: str, digits: int) -> list[tuple[str, str, str]]:
        values = getattr(before, of), getattr(after, of)
        form = mm if of.endswith("_mm") else text
        return [] if values[1] is None else [(name, form(values[0], digits), form(values[1], digits))]

    jacobian, inverse = metrics.jacobian, metrics.inverse_consistency_mm
    return [
        *both("Mean Dice", "mean_dice", 3),
        *both("Mean HD95, mm", "mean_hd95_mm", 2),
        *both("Mean landmark error, mm", "mean_tre_mm", 2),
        *_worst_landmark(before, after),
        ("Image similarity (no measure of accuracy)", _similarity(before), _similarity(after)),
        ("Folding (det J ≤ 0), %", "", text(jacobian["folding_percent"], 4)),
        ("Volume changed more than tenfold, %", "", text(jacobian["extreme_volume_percent"], 3)),
        ("det J, smallest to largest", "", f"{text(jacobian['min'], 2)} to {text(jacobian['max'], 2)}"),
        ("SDlogJ (true log det J)", "", text(jacobian["sdlogj"], 3)),
        ("SDlogJ as Learn2Reg computes it", "", text(jacobian["sdlogj_learn2reg"], 3)),
        ("Inverse consistency, mean, mm", "", mm(inverse["mean"], 3)),
        ("Inverse consistency, 95th percentile, mm", "", mm(inverse["p95"], 3)),
        ("Inverse consistency, largest, mm", "", mm(inverse["max"], 2)),
        ("Fixed field of view mapped outside, %", "", text(metrics.outside_percent, 1)),
    ]


def _similarity(agreement: Agreement) -> str:
    return "not measurable" if agreement.similarity is None else text(agreement.similarity, 4)


def _worst_landmark(before: Agreement, after: Agreement) -> list[tuple[str, str, str]]:
    if not after.tre_mm:
        return []
    return [("Largest landmark error, mm", mm(max(before.tre_mm, default=None), 2), mm(max(after.tre_mm), 2))]


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
