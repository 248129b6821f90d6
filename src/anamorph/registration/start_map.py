"""What a linear start does to the fixed scan, as numbers and as the lines that terminals and reports show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import significant
from anamorph.transforms.affine import AffineParts
from anamorph.transforms.maps import Affine

WORDS = "shift", "turn", "scale"


def describe_map(start: Affine, fixed: Grid, overlap_percent: float) -> dict[str, Any]:
    """Shift, turn, stretches and overlap of a linear map as plain values, and the first three in words too.

    Args:
        start: of fixed to moving points; it is seen from the middle of the fixed scan.
        fixed: grid.
        overlap_percent: of the fixed field of view that lies in the moving one after it.
    """
    parts = AffineParts.of(start, fixed.centre_mm)
    return {
        "shift_ras_mm": [significant(value, 6) for value in parts.shift_mm],
        "turn_deg": round(parts.turn_deg, 3),
        "turn_axis_ras": [round(value, 4) for value in parts.turn_axis],
        "stretch_percent": [round(100 * value, 2) for value in parts.stretches],
        "mirrored": parts.mirrored,
        "overlap_percent": round(overlap_percent, 1),
    } | dict(zip(WORDS, parts.in_words(fixed.finest_mm), strict=True))


def map_rows(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is shown of a map that :func:`describe_map` described, each with its name; nothing where none is."""
    if "overlap_percent" not in described:
        return []
    overlap = f"{described['overlap_percent']:.0f} % of the fixed field of view"
    return [*((name, described[name]) for name in WORDS), ("overlap", overlap)]
