from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
