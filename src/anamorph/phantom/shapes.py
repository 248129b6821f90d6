"""Solids, and the arrays with a coarse index of which solid is where that the renderer takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

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


CELL_MM = 12.0
LOW_MM = np.array([-210.0, -150.0, -320.0])
HIGH_MM = -LOW_MM
REGIONS = {"body": 0, "abdomen": 1, "thorax": 2, "wall": 3}


class Scene(NamedTuple):
    """Tables the kernels read: one row per solid, one per organ, one list of solids per cell of space."""

    solids: np.ndarray
    solid_kind: np.ndarray
    solid_organ: np.ndarray
    tissue: np.ndarray  # shell, core, shell mm, gas level, blend, roughness, texture
    organ_label: np.ndarray
    organ_region: np.ndarray
    cell_start: np.ndarray
    cell_count: np.ndarray
    cell_solids: np.ndarray
    cell_origin: np.ndarray
    cell_mm: np.float32
    bumps: np.ndarray
    bump_mm: np.float32
    texture: np.ndarray
    texture_mm: np.float32


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
        solids=np.array([solid.row() for _, solid in owners], np.float32),
        solid_kind=np.array([solid.kind for _, solid in owners], np.int32),
        solid_organ=np.array([n for n, _ in owners], np.int32),
        tissue=np.array([_tissue(organ) for organ in organs], np.float32),
        organ_label=np.array([organ.label for organ in organs], np.int32),
        organ_region=np.array([REGIONS[organ.region] for organ in organs], np.int32),
        cell_start=start,
        cell_count=count,
        cell_solids=members,
        cell_origin=LOW_MM.astype(np.float32),
        cell_mm=np.float32(CELL_MM),
        bumps=_periodic_noise(rng, 3.0),
        bump_mm=np.float32(7.0),
        texture=_periodic_noise(rng, 1.6),
        texture_mm=np.float32(3.5),
    )


def _tissue(organ: Organ) -> list[float]:
    core = organ.hu if organ.core_hu is None else organ.core_hu
    return [
        organ.hu,
        core,
        organ.shell_mm,
        organ.gas_above_mm,
        organ.blend_mm,
        organ.rough_mm,
        organ.texture_hu,
    ]


def _index(solids: list[Solid], margins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every cell: where its list starts, how long it is, and all lists in one array."""
    shape = tuple(int(n) for n in np.ceil((HIGH_MM - LOW_MM) / CELL_MM))
    cells, members = [], []
    for n, solid in enumerate(solids):
        low, high = solid.bounds()
        first = np.clip(np.floor((low - margins[n] - LOW_MM) / CELL_MM), 0, np.array(shape) - 1).astype(int)
        last = np.clip(np.floor((high + margins[n] - LOW_MM) / CELL_MM), 0, np.array(shape) - 1).astype(int)
        box = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last, strict=True)), indexing="ij")
        touched = np.ravel_multi_index(box, shape).ravel()
        cells.append(touched)
        members.append(np.full(len(touched), n, np.int32))
    cell = np.concatenate(cells)
    order = np.argsort(cell, kind="stable")  # keeps the order of painting within a cell
    count = np.bincount(cell, minlength=int(np.prod(shape)))
    start = np.cumsum(count) - count
    return start.reshape(shape), count.reshape(shape), np.concatenate(members)[order]


def _periodic_noise(rng: np.random.Generator, sigma: float, side: int = 64) -> np.ndarray:
    """A cube of smooth noise that repeats, of unit standard deviation and at most 2.5 in size."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal((side,) * 3, np.float32), sigma, mode="wrap")
    return np.clip(noise / noise.std(), -2.5, 2.5)
