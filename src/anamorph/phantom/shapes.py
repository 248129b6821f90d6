"""Solids, a coarse index of which solid is where, and values and labels at any points of what they make up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from anamorph.geometry.sampling import sample

if TYPE_CHECKING:
    from anamorph.phantom.anatomy import Torso

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
    low, high = np.array([solid.bounds() for solid in solids]).transpose(1, 0, 2)
    first, beyond = cell_of(low - margins[:, None]), cell_of(high + margins[:, None]) + 1
    numbers = np.arange(np.prod(CELLS), dtype=np.uint16).reshape(CELLS)  # short numbers are sorted by their digits
    touched = [numbers[tuple(map(slice, *ends))].ravel() for ends in zip(first, beyond, strict=True)]
    cell = np.concatenate(touched)
    member = np.repeat(np.arange(len(solids)), [len(one) for one in touched])
    order = np.argsort(cell, kind="stable")  # keeps the order of painting within a cell
    count = np.bincount(cell, minlength=int(np.prod(CELLS)))
    start = np.cumsum(count) - count
    return start, count, member[order]


def _periodic_noise(rng: np.random.Generator, sigma: float, side: int = 64) -> np.ndarray:
    """A cube of smooth noise that repeats, of unit standard deviation and at most 2.5 in size.

    Its last planes are the first ones again.
    """
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal((side,) * 3, np.float32), sigma, mode="wrap")
    return np.pad(np.clip(noise / noise.std(), -2.5, 2.5), (0, 1), mode="wrap")


AIR, SKIN, FAT, MUSCLE, LUNG, GAS = -1000, 20, -105, 58, -840, -960
SKIN_MM, DIAPHRAGM_MM = 2, 3
OUTLINE_EXPONENT = 2.5
AT_ONCE = 2**14
"""Points whose values fit into the cache of a processor."""

Number = np.ndarray | float


def render(
    begin: int,
    end: int,
    positions: np.ndarray,
    matrix: np.ndarray,
    torso: Torso,
    scene: Scene,
    width: float,
    hu_out: np.ndarray,
    label_out: np.ndarray,
) -> None:
    """Values and labels at ``(3, N)`` positions that ``matrix (3, 4)`` takes to RAS mm, for the slab begin..end - 1.

    All numbers are float32; ``width`` is a voxel's size in mm, over which surfaces are blurred.
    """
    for first in range(begin, end, AT_ONCE):
        part = slice(first, min(first + AT_ONCE, end))
        points = matrix[:, :3] @ positions[:, part] + matrix[:, 3:]
        bump = _read_periodic(scene.bumps, points / BUMP_MM)
        skin = _outline(torso.skin, points) + 4 * bump
        hu_out[part], label_out[part] = AIR, 0
        body = np.flatnonzero(skin <= width)
        values = _paint(points[:, body], skin[body], bump[body], torso, scene, width)
        hu_out[first + body], label_out[first + body] = values


def _paint(
    points: np.ndarray, skin: np.ndarray, bump: np.ndarray, torso: Torso, scene: Scene, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Values and labels of points within the skin, in RAS mm."""
    texture = _read_periodic(scene.texture, points / TEXTURE_MM)
    hu = _mix(AIR, SKIN, _covered(skin, width))
    hu = _mix(hu, FAT + 8 * texture, _covered(skin + SKIN_MM, width))
    wall = _outline(torso.wall, points) + 3 * bump
    hu = _mix(hu, MUSCLE + 10 * texture, _covered(wall, width))
    cavity = _outline(torso.cavity, points) + 2 * bump
    hu = _mix(hu, FAT + 8 * texture, _covered(cavity, width))
    roof = _smooth_minimum(_dome(torso.dome_right, points), _dome(torso.dome_left, points), 20)
    # The lungs end on a plane that rises to the front; else they would reach down between the two domes.
    roof = _smooth_minimum(roof, (points[2] - 0.35 * points[1] - 25) * 0.944, 15)
    thorax = np.maximum(cavity, -roof)
    hu = _mix(hu, MUSCLE, _covered(thorax, width))
    hu = _mix(hu, LUNG + 25 * texture, _covered(thorax + DIAPHRAGM_MM, width))

    labels = np.zeros(len(hu), np.uint8)
    limits = {"wall": wall, "abdomen": np.maximum(cavity, roof) + 1, "thorax": thorax}
    for organ, at, distance in _organs_near(points, scene):
        if organ.region in limits:
            distance = np.maximum(distance, limits[organ.region][at])
        distance = distance + organ.rough_mm * bump[at]
        inside = distance < width / 2
        at, distance = at[inside], distance[inside]
        share = _covered(distance, width)
        hu[at] = _mix(hu[at], _tissue(organ, distance, points[1, at], texture[at], width), share)
        if organ.label >= 0:
            labels[at[share >= 0.5]] = organ.label
    return hu, labels


def _tissue(organ: Organ, distance: np.ndarray, y: np.ndarray, texture: np.ndarray, width: float) -> np.ndarray:
    """Values in an organ: of its shell, of its core, and of the gas above a level of the core."""
    shell = organ.hu + organ.texture_hu * texture
    core = shell if organ.core_hu is None else organ.core_hu + organ.texture_hu * texture
    core = _mix(core, GAS, _covered(organ.gas_above_mm - y, width))
    return _mix(shell, core, _covered(distance + organ.shell_mm, width))


def _organs_near(points: np.ndarray, scene: Scene) -> Iterator[tuple[Organ, np.ndarray, np.ndarray]]:
    """In the order of painting: an organ, the points that it may touch, and their signed distances from its surface."""
    # Every pair of a point and of a solid near it; the solids of a point, and so its organs, are in their order.
    cell = np.ravel_multi_index(tuple(cell_of(points.T).T), CELLS)
    count = scene.cell_count[cell]
    point = np.repeat(np.arange(len(cell)), count)
    first = np.repeat(scene.cell_start[cell] - (np.cumsum(count) - count), count)
    solid = scene.cell_solids[first + np.arange(len(point))]
    distance = np.empty(len(point), np.float32)
    kinds = scene.solid_kind[solid]
    for kind in {*scene.solid_kind.tolist()}:
        at = np.flatnonzero(kinds == kind)
        rows, places = scene.solids.take(solid[at], axis=1), points.take(point[at], axis=1)
        distance[at] = _tube(rows, places) if kind == TUBE else _ellipsoid(rows, places, kind)

    # The solids of one organ at one point follow each other, and flow into one another one by one.
    organ = scene.solid_organ[solid]
    begins = np.flatnonzero((np.diff(point, prepend=-1) != 0) | (np.diff(organ, prepend=-1) != 0))
    sizes = np.diff(begins, append=len(point))
    whole = distance[begins]
    blend = scene.organ_blend_mm[organ[begins]]
    for n in range(1, sizes.max(initial=0)):
        at = np.flatnonzero(sizes > n)
        whole[at] = _smooth_minimum(whole[at], distance[begins[at] + n], blend[at])
    point, organ = point[begins], organ[begins]
    order = np.argsort(organ, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(organ[order])) + 1):
        if len(group):
            yield scene.organs[organ[group[0]]], point[group], whole[group]


def _covered(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of a voxel of some width that lies inside a surface at a signed distance."""
    return np.clip(0.5 - distance / width, 0, 1)


def _mix(below: Number, above: Number, share: np.ndarray) -> np.ndarray:
    return below + (above - below) * share


def _smooth_minimum(a: np.ndarray, b: np.ndarray, blend: Number) -> np.ndarray:
    """Quilez' polynomial smooth minimum; the plain one where ``blend`` is 0."""
    h = np.maximum(blend - abs(a - b), 0)
    return np.minimum(a, b) - h * h * 0.25 / np.maximum(blend, 1e-6)


def _outline(outline: tuple[float, float, float], points: np.ndarray) -> np.ndarray:
    """Distance from a superellipse of the x-y plane: half width, half depth, y of the centre."""
    return _superellipsoid([points[0], points[1] - outline[2]], outline[:2], OUTLINE_EXPONENT)


def _dome(dome: tuple[float, ...], points: np.ndarray) -> np.ndarray:
    """Distance from half an ellipsoid on top of a cylinder: centre, then radii."""
    x, y, z = (p - c for p, c in zip(points, dome, strict=False))
    return _superellipsoid([x, y, np.maximum(z, 0)], dome[3:], 2)


def _ellipsoid(rows: np.ndarray, points: np.ndarray, exponent: int) -> np.ndarray:
    """Distance from (super)ellipsoids, one per point; rows as of :meth:`Ellipsoid.row`."""
    offsets = points - rows[:3]
    along = [(rows[n : n + 3] * offsets).sum(axis=0) for n in (3, 6, 9)]
    return _superellipsoid(along, rows[12:15], exponent)


def _superellipsoid(offsets: Iterable[np.ndarray], radii: Iterable[Number], exponent: float) -> np.ndarray:
    """First-order signed distance (f - 1) / |grad f| from where f = (sum |offset / radius|^n)^(1/n) is 1.

    Near the middle, where f has no slope, it is minus the least radius.
    """
    power: Number = 0.0
    slope: Number = 0.0
    for offset, radius in zip(offsets, radii, strict=True):
        share = abs(offset) / radius
        steep = share * np.sqrt(share) if exponent == 2.5 else share ** (exponent - 1)
        power = power + steep * share
        slope = slope + (steep / radius) ** 2
    f = power ** (1 / exponent)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (f - 1) * power / (f * np.sqrt(slope))
    return np.where(f < 1e-2, -reduce(np.minimum, radii), distance)


def _tube(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance from pieces of tube, one per point; rows as of :meth:`Tube.row`."""
    offsets, axis = points - rows[:3], rows[3:6] - rows[:3]
    share = np.clip((offsets * axis).sum(axis=0) / (axis * axis).sum(axis=0), 0, 1)
    offsets -= share * axis
    return np.sqrt((offsets * offsets).sum(axis=0)) - _mix(rows[6], rows[7], share)


def _read_periodic(table: np.ndarray, points: np.ndarray) -> np.ndarray:
    """What is read of a cube that repeats, whose last planes are the first ones again."""
    side = len(table) - 1
    return sample(table[None], points - side * np.floor(points / side))[0]
