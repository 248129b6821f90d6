"""Colon and small bowel: walls, and contents that are fluid, faeces, contrast medium or gas."""

from __future__ import annotations

import numpy as np

from anamorph.phantom.shapes import Organ, Point, smooth_path, tube_along

NO_GAS = 1e6


def bowel(rng: np.random.Generator) -> list[Organ]:
    """Loops in rows that do not grow into each other, then the colon around them."""
    return [*_small_bowel(rng), *_colon(rng)]


def _small_bowel(rng: np.random.Generator) -> list[Organ]:
    loops = []
    for row, z in enumerate(np.arange(-48.0, -250.0, -24.0)):
        for layer, y in enumerate((-12.0, 14.0, 40.0, 64.0)):
            # The rows narrow to the front, as the belly does, and leave the great vessels and the spine free behind.
            half = 82 - 0.25 * max(y, 0)
            sides = [(-half, -28.0), (30.0, half)] if layer == 0 else [(-half, half)]
            for left, right in sides:
                x = np.arange(left, right + 1, 19.0)
                wiggle = 9 * np.sin(x / 17 + rng.uniform(0, 6))
                jitter = rng.normal(0, 3, (len(x), 2))
                knots: list[Point] = [
                    (float(a), float(y + j[0] + 4 * np.cos(a / 23 + row)), float(z + b + j[1]))
                    for a, b, j in zip(x, wiggle, jitter, strict=True)
                ]
                path = smooth_path(knots, 2)
                radii = rng.uniform(10, 13) + rng.normal(0, 0.7, len(path))
                contents, gas = _contents(rng, y)
                loops.append(
                    Organ(
                        f"small bowel {row}.{layer}",
                        tube_along(path, radii),
                        62,
                        core_hu=contents,
                        shell_mm=2.4,
                        gas_above_mm=gas,
                        rough_mm=0.8,
                        texture_hu=9,
                        region="abdomen",
                    )
                )
    rng.shuffle(loops)
    return loops


def _contents(rng: np.random.Generator, y: float) -> tuple[float, float]:
    """Value of the contents and the y above which there is gas."""
    value = float(rng.choice([18, 30, 45, 210], p=[0.35, 0.3, 0.2, 0.15]))
    return value, y + rng.uniform(0, 8) if rng.random() < 0.15 else NO_GAS


def _colon(rng: np.random.Generator) -> list[Organ]:
    side = rng.uniform(-3, 3)
    ascending: list[Point] = [(84, -8, -190), (98, -14, -150), (104, -12, -105), (98, 2, -72)]
    transverse: list[Point] = [
        (98, 2, -72),
        (78, 42, -72 + side),
        (30, 66, -88),
        (-25, 68, -84),
        (-72, 50, -40),
        (-98, 18, -12),
    ]
    descending: list[Point] = [
        (-98, 18, -12),
        (-112, -18, -28),
        (-114, -30, -80),
        (-110, -26, -140),
        (-92, -8, -195),
        (-40, -15, -235),
    ]
    organs = []
    for name, knots, width, contents, gas in (
        ("ascending colon", ascending, 23.0, 35.0, 4.0 + side),
        ("descending colon", descending, 14.5, 40.0, NO_GAS),
        ("transverse colon", transverse, 17.0, 25.0, 57.0),
    ):
        path = smooth_path(knots, 5)
        haustra = width * (1 + 0.11 * np.cos(np.arange(len(path)) * 2.1))
        organs.append(
            Organ(
                name,
                tube_along(path, haustra),
                60,
                core_hu=contents,
                shell_mm=2.6,
                gas_above_mm=gas,
                rough_mm=1.3,
                texture_hu=32,
                region="abdomen",
            )
        )
    return organs
