"""Solids, and the arrays with a coarse index of which solid is where that the renderer takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

KEEP_LABEL = -1  # an organ inside another one, such as a vessel in the liver
TUBE = 0  # where ellipsoids have their exponent
NUMBERS = 15  # that describe a solid

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

    @property
    def kind(self) -> int:
        """The exponent, as solids of one exponent are drawn together."""
        return self.exponent

    def row(self) -> np.ndarray:
        """``(15,)``: centre, rotation from the world to the axes, radii."""
        return np.concatenate([self.centre, rotation(self.turn_deg).T.ravel(), self.radii])

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

    kind = TUBE

    def row(self) -> np.ndarray:
        """``(15,)``: start, end, radii, unused zeros."""
        return np.concatenate([self.start, self.end, [self.start_radius, self.end_radius], np.zeros(NUMBERS - 8)])

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


CELL_MM = 12.0
LOW_MM = np.array([-210.0, -150.0, -320.0], np.float32)
CELLS = (35, 25, 54)  # up to -LOW_MM
BUMP_MM, TEXTURE_MM = 7.0, 3.5


class Scene(NamedTuple):
    """What the renderer reads: organs, a table of their solids, and one list of solids per cell of space."""

    organs: list[Organ]
    organ_blend_mm: np.ndarray
    solids: np.ndarray  # (15, N)
    solid_kind: np.ndarray
    solid_organ: np.ndarray
    cell_start: np.ndarray
    cell_count: np.ndarray
    cell_solids: np.ndarray
    bumps: np.ndarray
    texture: np.ndarray


def build_scene(organs: list[Organ], rng: np.random.Generator, voxel_mm: float) -> Scene:
    """Pack organs in the order in which they are painted.

    Args:
        organs: first painted first.
        rng: source of surface bumps and texture.
        voxel_mm: size of the largest voxel, over which surfaces are blurred.
    """
    owners = [(n, solid) for n, organ in enumerate(organs) for solid in organ.solids]
    margins = np.array([2 + voxel_mm + 4 * organ.rough_mm + organ.blend_mm for organ in organs])
    start, count, members = _index([solid for _, solid in owners], np.array([margins[n] for n, _ in owners]))
    return Scene(
        organs=organs,
        organ_blend_mm=np.array([organ.blend_mm for organ in organs], np.float32),
        solids=np.array([solid.row() for _, solid in owners], np.float32).T.copy(),
        solid_kind=np.array([solid.kind for _, solid in owners], np.int8),
        solid_organ=np.array([n for n, _ in owners], np.int16),
        cell_start=start,
        cell_count=count,
        cell_solids=members,
        bumps=_periodic_noise(rng, 3.0),
        texture=_periodic_noise(rng, 1.6),
    )


def cell_of(points: np.ndarray) -> np.ndarray:
    """Along each axis, the cell of points ``(..., 3)``; outside all of them, the nearest."""
    return np.clip(np.floor((points - LOW_MM) / CELL_MM), 0, np.array(CELLS) - 1).astype(int)


def _index(solids: list[Solid], margins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every cell: where its list starts, how long it is, and all lists in one array."""
    cells, members = [], []
    for n, solid in enumerate(solids):
        low, high = solid.bounds()
        first, last = cell_of(low - margins[n]), cell_of(high + margins[n])
        box = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last, strict=True)), indexing="ij")
        touched = np.ravel_multi_index(box, CELLS).ravel()
        cells.append(touched)
        members.append(np.full(len(touched), n))
    cell = np.concatenate(cells)
    order = np.argsort(cell, kind="stable")  # keeps the order of painting within a cell
    count = np.bincount(cell, minlength=int(np.prod(CELLS)))
    start = np.cumsum(count) - count
    return start, count, np.concatenate(members)[order]


def _periodic_noise(rng: np.random.Generator, sigma: float, side: int = 64) -> np.ndarray:
    """A cube of smooth noise that repeats, of unit standard deviation and at most 2.5 in size.

    Its last planes are the first ones again.
    """
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal((side,) * 3, np.float32), sigma, mode="wrap")
    return np.pad(np.clip(noise / noise.std(), -2.5, 2.5), (0, 1), mode="wrap")
