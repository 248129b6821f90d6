"""The two solids that organs are made of, and the organ: solids that share a tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

KEEP_LABEL = -1  # an organ inside another one, such as a vessel in the liver
COLUMNS = 16  # of the packed table of solids

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """A (super)ellipsoid, RAS mm; exponent 2 is round, 4 is a block with round edges.

    ``turn_deg`` rotates about x, then y, then z.
    """

    centre: Point
    radii: Point
    turn_deg: Point = (0.0, 0.0, 0.0)
    exponent: int = 2

    kind = 0

    def row(self) -> np.ndarray:
        """``(16,)``: centre, rotation from the world to the axes, radii, exponent."""
        to_axes = rotation(self.turn_deg).T
        return np.concatenate([self.centre, to_axes.ravel(), self.radii, [self.exponent]])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of a box around the solid."""
        reach = np.abs(rotation(self.turn_deg)) @ np.array(self.radii)
        return np.array(self.centre) - reach, np.array(self.centre) + reach


@dataclass(frozen=True)
class Tube:
    """A straight piece of a tube with round ends whose radius changes linearly, RAS mm."""

    start: Point
    end: Point
    start_radius: float
    end_radius: float

    kind = 1

    def row(self) -> np.ndarray:
        """``(16,)``: start, end, radii, unused zeros."""
        return np.concatenate([self.start, self.end, [self.start_radius, self.end_radius], np.zeros(COLUMNS - 8)])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of a box around the solid."""
        ends, reach = np.array([self.start, self.end]), max(self.start_radius, self.end_radius)
        return ends.min(axis=0) - reach, ends.max(axis=0) + reach


Solid = Ellipsoid | Tube


@dataclass(frozen=True)
class Organ:
    """Solids painted with one tissue; organs later in the list cover earlier ones.

    Args:
        name: what it is.
        solids: their union.
        hu: value of the tissue, or of its shell where there is a core.
        label: number in the label map; 0 for none, ``KEEP_LABEL`` to leave what lies below.
        core_hu: value deeper than ``shell_mm``: medulla, marrow, contents.
        shell_mm: thickness of cortex or wall.
        gas_above_mm: contents anterior of this y are gas, as in a patient lying on the back.
        blend_mm: over what distance solids flow into one another.
        rough_mm: amplitude of the bumps of the surface.
        texture_hu: amplitude of the smooth random texture.
        region: where the organ may be; beyond, it is cut. ``"wall"`` is everything under the fat of the skin.
    """

    name: str
    solids: tuple[Solid, ...]
    hu: float
    label: int = 0
    core_hu: float | None = None
    shell_mm: float = 0.0
    gas_above_mm: float = 1e6
    blend_mm: float = 0.0
    rough_mm: float = 0.0
    texture_hu: float = 6.0
    region: Literal["body", "wall", "abdomen", "thorax"] = "body"


def rotation(turn_deg: Point) -> np.ndarray:
    """``(3, 3)`` rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def tube_along(path: np.ndarray, radii: np.ndarray | float) -> tuple[Tube, ...]:
    """Pieces of tube through the points ``(N, 3)`` with a radius at each."""
    radii = np.broadcast_to(radii, len(path))
    points = [(float(x), float(y), float(z)) for x, y, z in path]
    return tuple(Tube(points[n], points[n + 1], float(radii[n]), float(radii[n + 1])) for n in range(len(points) - 1))


def smooth_path(knots: list[Point], pieces: int = 4) -> np.ndarray:
    """``(N, 3)`` points of a Catmull-Rom curve through the knots."""
    ends = np.array(knots, np.float64)
    padded = np.vstack([2 * ends[0] - ends[1], ends, 2 * ends[-1] - ends[-2]])
    t = np.linspace(0, 1, pieces, endpoint=False)[:, None]
    curve = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        curve.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.vstack([*curve, ends[-1:]])
