"""Evaluates the anatomy at any points of the world: tissue value and label, with partial volume at every surface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce

import numpy as np

from anamorph.geometry.sampling import sample
from anamorph.phantom.anatomy import Torso
from anamorph.phantom.shapes import BUMP_MM, CELLS, TEXTURE_MM, TUBE, Organ, Scene, cell_of

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
