"""Skin, body wall, cavity and diaphragm: the part of the body that is not a list of solids."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Torso(NamedTuple):
    """Cross-sections are superellipses (exponent 2.5); the diaphragm is two ellipsoids blended into one roof. RAS mm.

    Outlines are (half width, half depth, y of the centre).
    """

    skin: tuple[float, float, float]
    wall: tuple[float, float, float]
    cavity: tuple[float, float, float]
    dome_right: tuple[float, float, float, float, float, float]  # centre, then radii
    dome_left: tuple[float, float, float, float, float, float]

    def rows(self) -> np.ndarray:
        """``(5, 6)`` float32 for the renderer: one row per part, filled up with zeros."""
        return np.array([[*part, *[0.0] * (6 - len(part))] for part in self], np.float32)


def random_torso(rng: np.random.Generator) -> Torso:
    """A torso of ordinary build."""
    width, depth = rng.uniform(152, 164), rng.uniform(104, 113)
    side_fat, front_fat = rng.uniform(12, 22), rng.uniform(13, 22)
    wall = (width - side_fat, depth - front_fat, 2.0)
    cavity = (wall[0] - 17, wall[1] - 10, 4.0)
    top = rng.uniform(98, 106)
    return Torso(
        skin=(width, depth, 0.0),
        wall=wall,
        cavity=cavity,
        dome_right=(62.0, 2.0, 0.0, 82.0, 92.0, top),
        dome_left=(-62.0, 2.0, 0.0, 80.0, 90.0, top - 12),
    )


def outline(half_width: float, half_depth: float, y_centre: float, angle: np.ndarray) -> np.ndarray:
    """``(N, 2)`` points of an outline at angles from +x towards +y."""
    c, s = np.cos(angle), np.sin(angle)
    scale = (np.abs(c) ** 2.5 + np.abs(s) ** 2.5) ** (-1 / 2.5)
    return np.column_stack([half_width * scale * c, y_centre + half_depth * scale * s])
