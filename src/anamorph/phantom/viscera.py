"""Organs, trees of vessels, colon and small bowel with what they contain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from anamorph.phantom.shapes import KEEP_LABEL, Ellipsoid, Organ, Point, Solid, Tube, smooth_path, tube_along

BLOOD_HU = 165.0


@dataclass(frozen=True)
class Variation:
    """How one person's organs differ from the atlas: each is moved and scaled a little."""

    rng: np.random.Generator
    shift_mm: float = 3.0
    scale: float = 0.06

    def of(self, *solids: Ellipsoid) -> list[Ellipsoid]:
        """The same solids, moved together and scaled together."""
        shift = self.rng.uniform(-self.shift_mm, self.shift_mm, 3)
        scale = 1 + self.rng.uniform(-self.scale, self.scale)
        pivot = np.array(solids[0].centre)
        changed = []
        for one in solids:
            x, y, z = pivot + scale * (np.array(one.centre) - pivot) + shift
            a, b, c = (scale * r for r in one.radii)
            changed.append(Ellipsoid((x, y, z), (a, b, c), one.turn_deg, one.exponent))
        return changed


def liver(vary: Variation, label: int) -> tuple[list[Organ], Tree]:
    """Two lobes, the portal tree from the hilum and the hepatic veins from the vena cava."""
    lobes = vary.of(
        Ellipsoid((66, -2, 34), (66, 78, 66)),
        Ellipsoid((88, -4, -16), (38, 58, 62), (0, 8, 0)),
        Ellipsoid((-2, 42, 48), (62, 36, 34), (0, -12, -8)),
        Ellipsoid((30, 20, 40), (50, 50, 44)),
    )
    inside = deep_inside(lobes, 0.86)
    hilum = np.array([36.0, 8.0, 14.0])
    portal = Tree()
    branches = (((1.0, 0.0, 0.25), 30, 5.2), ((-0.35, 0.8, 0.55), 34, 4.2), ((0.8, 0.4, -0.6), 30, 4.0))
    for heading, length, radius in branches:
        branch = grow_tree(vary.rng, hilum, np.array(heading), length, radius, 5, inside)
        portal.solids += branch.solids
        portal.forks += branch.forks
    hepatic = Tree()
    for heading in ((0.9, -0.1, -0.45), (0.55, 0.75, -0.35), (-0.4, 0.85, -0.3)):
        branch = grow_tree(vary.rng, np.array([22.0, -14.0, 78.0]), np.array(heading), 36, 4.6, 5, inside)
        hepatic.solids += branch.solids
        hepatic.forks += branch.forks
    trunk = tube_along(smooth_path([(2, -2, -6), (14, 0, 2), (36, 8, 14)]), 6.5)
    organs = [
        Organ("liver", tuple(lobes), 108, label, blend_mm=22, rough_mm=2.2, texture_hu=7, region="abdomen"),
        Organ("portal vein", (*trunk, *portal.solids), 172, KEEP_LABEL, texture_hu=3, region="abdomen"),
        Organ("hepatic veins", tuple(hepatic.solids), 160, KEEP_LABEL, texture_hu=3, region="abdomen"),
    ]
    portal.forks += hepatic.forks
    return organs, portal


def spleen(vary: Variation, label: int) -> tuple[list[Organ], Tree]:
    """With the splenic vein branching into it."""
    parts = vary.of(
        Ellipsoid((-104, -30, 40), (24, 44, 48), (14, 0, -22)),
        Ellipsoid((-98, -48, 56), (24, 30, 32), (0, 0, -30)),
    )
    tree = grow_tree(
        vary.rng, np.array([-84.0, -26.0, 38.0]), np.array([-1, -0.2, 0.2]), 15, 2.8, 4, deep_inside(parts, 0.85)
    )
    organs = [
        Organ("spleen", tuple(parts), 122, label, blend_mm=12, rough_mm=1.8, texture_hu=7, region="abdomen"),
        Organ("splenic vessels", tuple(tree.solids), BLOOD_HU, KEEP_LABEL, texture_hu=3, region="abdomen"),
    ]
    return organs, tree


def kidney(vary: Variation, side: int, label: int) -> list[Organ]:
    """Cortex around the medulla, a sinus of fat with the pelvis in it; ``side`` is +1 on the right."""
    z = -30.0 if side > 0 else -14.0
    (body,) = vary.of(Ellipsoid((side * 64, -48, z), (26, 25, 54), (-12, side * 10, side * 25)))
    x, y, z = body.centre
    name = "right" if side > 0 else "left"
    sinus = Ellipsoid((x - side * 17, y + 9, z), (15, 8, 22), body.turn_deg)
    pelvis: Solid = Tube((x - side * 8, y + 4, z - 4), (x - side * 28, y + 16, z - 10), 5, 3)
    return [
        Organ(f"{name} kidney", (body,), 196, label, 142, shell_mm=6.5, rough_mm=1.2, texture_hu=18),
        Organ(f"{name} renal sinus", (sinus,), -70, rough_mm=1.5),
        Organ(f"{name} renal pelvis", (pelvis,), 12, texture_hu=3),
    ]


def stomach(vary: Variation, label: int, duodenum_label: int) -> list[Organ]:
    """Fluid with a bubble of air on top, emptying into the duodenum."""
    parts = vary.of(
        Ellipsoid((-60, 10, 58), (34, 40, 34)),
        Ellipsoid((-58, 34, 26), (28, 30, 38), (0, 14, 0)),
        Ellipsoid((-26, 48, -6), (40, 20, 19), (0, -16, 0)),
    )
    level = float(vary.rng.uniform(32, 42))
    loop: list[Point] = [
        (8, 44, -14),
        (34, 30, -8),
        (50, 8, -14),
        (52, -4, -40),
        (38, -10, -62),
        (4, -6, -66),
        (-26, 2, -46),
    ]
    path = smooth_path(loop, 4)
    return [
        Organ("duodenum", tube_along(path, np.linspace(13, 11, len(path))), 60, duodenum_label, 24, 2.8,
              rough_mm=0.8, texture_hu=8, region="abdomen"),
        Organ("stomach", tuple(parts), 66, label, 20, 4.0, level, blend_mm=24, rough_mm=2.0, texture_hu=9,
              region="abdomen"),
    ]  # fmt: skip


def pancreas(label: int) -> Organ:
    """Tail at the spleen, head in the curve of the duodenum."""
    knots: list[Point] = [(-80, -20, 30), (-56, -8, 24), (-26, 2, 14), (2, 8, 2), (24, 6, -8), (32, 2, -26)]
    path = smooth_path(knots, 4)
    radii = np.interp(np.linspace(0, 1, len(path)), [0, 0.4, 0.65, 0.85, 1], [9, 11, 9, 15, 12])
    return Organ(
        "pancreas", tube_along(path, radii), 92, label, blend_mm=3, rough_mm=2.0, texture_hu=16, region="abdomen"
    )


def gallbladder(vary: Variation, label: int) -> Organ:
    """Bile, under the liver."""
    parts = vary.of(Ellipsoid((52, 40, -22), (16, 16, 30), (28, 10, 0)))
    return Organ("gallbladder", tuple(parts), 45, label, 9, 1.8, texture_hu=3, region="abdomen")


def oesophagus(label: int) -> Organ:
    """Down in front of the spine and through the diaphragm into the stomach."""
    knots: list[Point] = [(2, -20, 320), (0, -20, 180), (-10, -16, 110), (-24, -6, 84), (-44, 2, 66)]
    return Organ("oesophagus", tube_along(smooth_path(knots, 4), 9.0), 55, label, 20, 4.0, texture_hu=6)


def heart_and_lungs(vary: Variation) -> list[Organ]:
    """The heart and what holds it; branching vessels make the lungs something to match."""
    chambers = vary.of(Ellipsoid((-28, 30, 132), (58, 42, 44), (0, 18, 0)), Ellipsoid((12, 24, 150), (40, 38, 48)))
    middle: Solid = Tube((0, -18, 60), (0, -18, 330), 27, 32)
    vessels: list[Solid] = []
    for side in (-1, 1):
        for z in (150.0, 200.0, 250.0):
            for heading in ((side, -0.6, -0.7), (side, 0.5, -0.6)):
                room = deep_inside([Ellipsoid((side * 72, 0, 190), (58, 74, 150))], 1.0)
                root = np.array([side * 24.0, -10.0, z])
                vessels += grow_tree(vary.rng, root, np.array(heading), 34, 4.5, 6, room).solids
    return [
        Organ("lung vessels", tuple(vessels), 45, region="thorax"),
        Organ("mediastinum", (middle,), -60, rough_mm=2, texture_hu=30),
        Organ("heart", tuple(chambers), 75, core_hu=158, shell_mm=9, blend_mm=14, rough_mm=2, region="thorax"),
    ]


def great_vessels(spine_at: object, aorta_label: int, cava_label: int) -> list[Organ]:
    """Aorta and vena cava along the spine, with the renal vessels and the two iliacs of each."""
    assert callable(spine_at)
    aorta = np.array([spine_at(z) for z in np.arange(320.0, -121.0, -20.0)]) + np.array([-8, 30, 0])
    aorta[:, 1] += np.interp(aorta[:, 2], [40, 200], [0, -16])
    cava = np.array([spine_at(z) for z in np.arange(-120.0, 41.0, 20.0)]) + np.array([20, 29, 0])
    cava = np.vstack([cava, [[22, -14, 62], [22, -10, 84], [20, 2, 112]]])
    renal: list[Solid] = []
    for side in (-1, 1):
        renal += tube_along(
            smooth_path([(side * 50, -36, -22), (side * 28, -20, -14), (16, float(cava[5, 1]), -12)]), 4.2
        )
    arteries: list[Solid] = [*tube_along(aorta, np.interp(aorta[:, 2], [-120, 100, 300], [9, 11, 13]))]
    veins: list[Solid] = [*tube_along(cava, np.append(np.full(9, 10.5), [11.5, 11.5, 11.5]))]
    for side in (-1, 1):
        fork, meet = aorta[-1], cava[0]
        arteries += tube_along(fork + np.array([[0, 0, 0], [side * 26, 4, -50], [side * 56, 20, -130]]), 5.5)
        veins += tube_along(meet + np.array([[0, 0, 0], [side * 26 - 10, -2, -50], [side * 54 - 14, 14, -130]]), 7)
    mesenteric: list[Solid] = []
    for x, z in ((-4.0, 10.0), (6.0, 4.0)):
        mesenteric += tube_along(
            smooth_path([(x, -8, z), (x, 6, z - 22), (x + 2, 16, z - 80), (x + 20, 10, z - 150)]), 4.0
        )
    splenic = tube_along(smooth_path([(4, -2, -2), (-30, -10, 18), (-62, -20, 30), (-88, -28, 38)]), 4.0)
    return [
        Organ("renal veins", tuple(renal), BLOOD_HU, texture_hu=3),
        Organ("mesenteric vessels", tuple(mesenteric), 150, texture_hu=3),
        Organ("splenic vein", splenic, BLOOD_HU, texture_hu=3),
        Organ("inferior vena cava", tuple(veins), 140, cava_label, texture_hu=4),
        Organ("aorta", tuple(arteries), 172, aorta_label, texture_hu=3),
    ]


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


@dataclass
class Tree:
    """Pieces of vessel, and the points where one becomes two, thickest first."""

    solids: list[Solid] = field(default_factory=list)
    forks: list[np.ndarray] = field(default_factory=list)


def grow_tree(
    rng: np.random.Generator,
    root: np.ndarray,
    direction: np.ndarray,
    length_mm: float,
    radius_mm: float,
    generations: int,
    inside: Callable[[np.ndarray], bool],
) -> Tree:
    """A tree that forks at the end of every piece and stops where it would leave its organ.

    Args:
        rng: source of the angles.
        root: where the trunk starts, RAS mm.
        direction: where the trunk heads.
        length_mm: of the trunk; every generation is a fifth shorter.
        radius_mm: of the trunk; two daughters together carry what the mother carries (Murray's law).
        generations: of branches.
        inside: whether a point may hold a vessel.
    """
    tree = Tree()
    front = [(root, direction / np.linalg.norm(direction), length_mm, radius_mm)]
    for generation in range(generations):
        following = []
        for start, heading, length, radius in front:
            end = start + length * heading
            if not inside(end):
                continue
            tree.solids.append(Tube(_point(start), _point(end), radius, 0.85 * radius))
            if generation > 0:
                tree.forks.append(start)
            side = np.cross(heading, rng.standard_normal(3))
            side /= np.linalg.norm(side)
            for sign in (-1, 1):
                turned = heading + sign * side * rng.uniform(0.45, 0.85)
                following.append((end, turned / np.linalg.norm(turned), length * rng.uniform(0.7, 0.9), radius * 0.79))
        front = following
    tree.forks = [np.array(p) for p in dict.fromkeys(_point(f) for f in tree.forks)]
    return tree


def deep_inside(ellipsoids: list[Ellipsoid], depth: float = 0.85) -> Callable[[np.ndarray], bool]:
    """Whether a point lies within any of the ellipsoids shrunk to a fraction of their radii."""

    def test(point: np.ndarray) -> bool:
        for one in ellipsoids:
            row = one.row()
            local = row[3:12].reshape(3, 3) @ (point - row[:3]) / row[12:15]
            if (local**2).sum() < depth**2:
                return True
        return False

    return test


def _point(p: np.ndarray) -> tuple[float, float, float]:
    return float(p[0]), float(p[1]), float(p[2])
