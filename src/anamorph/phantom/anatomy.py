"""The body wall, the skeleton and their muscles, and the random abdomen that is made of all parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from anamorph.image.points import Points
from anamorph.phantom import viscera
from anamorph.phantom.shapes import Ellipsoid, Organ, Solid, Tube, smooth_path, tube_along
from anamorph.phantom.viscera import bowel

# The first nine as in the abdominal scans this project is developed on.
LABEL_NAMES = {
    1: "spleen",
    2: "pancreas",
    3: "left kidney",
    4: "gallbladder",
    5: "oesophagus",
    6: "liver",
    7: "stomach",
    8: "duodenum",
    9: "right kidney",
    10: "aorta",
    11: "inferior vena cava",
    12: "vertebrae",
}
_NUMBER = {name: number for number, name in LABEL_NAMES.items()}
_MOST_FORKS = 12


@dataclass(frozen=True)
class Anatomy:
    """A torso, its organs (later cover earlier ones) and its landmarks; the origin is the first lumbar vertebra."""

    torso: Torso
    organs: list[Organ]
    landmarks: Points


def random_abdomen(rng: np.random.Generator) -> Anatomy:
    """An abdomen of ordinary build from the heart to the pelvis, RAS mm."""
    torso, spine, vary = random_torso(rng), Spine(rng), viscera.Variation(rng)
    liver, portal = viscera.liver(vary, _NUMBER["liver"])
    spleen, splenic = viscera.spleen(vary, _NUMBER["spleen"])
    kidneys = [
        *viscera.kidney(vary, +1, _NUMBER["right kidney"]),
        *viscera.kidney(vary, -1, _NUMBER["left kidney"]),
    ]
    organs = [
        *viscera.heart_and_lungs(vary),
        *bowel(rng),
        *skeleton(rng, torso, spine, _NUMBER["vertebrae"]),
        *spleen,
        *liver,
        *kidneys,
        *viscera.stomach(vary, _NUMBER["stomach"], _NUMBER["duodenum"]),
        viscera.pancreas(_NUMBER["pancreas"]),
        viscera.gallbladder(vary, _NUMBER["gallbladder"]),
        *viscera.great_vessels(spine.at, _NUMBER["aorta"], _NUMBER["inferior vena cava"]),
        viscera.oesophagus(_NUMBER["oesophagus"]),
    ]
    return Anatomy(torso, organs, _landmarks(organs, spine, portal.forks, splenic.forks))


def _landmarks(
    organs: list[Organ], spine: Spine, liver_forks: list[np.ndarray], spleen_forks: list[np.ndarray]
) -> Points:
    """Forks of vessels, vertebrae, and the middle and the poles of organs."""
    named = {f"liver vessel fork {n + 1}": p for n, p in enumerate(_spread(liver_forks))}
    named |= {f"splenic vessel fork {n + 1}": p for n, p in enumerate(spleen_forks[:2])}
    named |= {f"vertebra {n:+d}": np.array(spine.at(n * LEVEL_MM)) for n in range(-4, 5)}
    by_name = {organ.name: organ for organ in organs}
    for name in ("spleen", "gallbladder", "stomach", "left kidney", "right kidney"):
        named[f"{name} centre"] = np.array(by_name[name].solids[0].row()[:3])
    for name in ("left kidney", "right kidney"):
        row = by_name[name].solids[0].row()
        to_pole = row[9:12] * row[14]
        named[f"{name} upper pole"], named[f"{name} lower pole"] = row[:3] + to_pole, row[:3] - to_pole
    fork = next(solid for solid in by_name["aorta"].solids if abs(solid.row()[2] + 120) < 1)
    named["aortic bifurcation"] = fork.row()[:3]
    return Points(np.array(list(named.values())), tuple(named))


def _spread(forks: list[np.ndarray]) -> list[np.ndarray]:
    """The forks that lie apart, the thickest of each neighbourhood."""
    chosen: list[np.ndarray] = []
    for fork in forks:
        if len(chosen) < _MOST_FORKS and all(np.linalg.norm(fork - other) > 18 for other in chosen):
            chosen.append(fork)
    return chosen


class Torso(NamedTuple):
    """Cross-sections are superellipses (exponent 2.5); the diaphragm is two ellipsoids blended into one roof. RAS mm.

    Outlines are (half width, half depth, y of the centre).
    """

    skin: tuple[float, float, float]
    wall: tuple[float, float, float]
    cavity: tuple[float, float, float]
    dome_right: tuple[float, float, float, float, float, float]  # centre, then radii
    dome_left: tuple[float, float, float, float, float, float]


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


LEVEL_MM = 34.0  # from one vertebra to the next
LEVELS = range(-5, 9)  # 0 lies at the level of the kidneys; 2 and above carry ribs


class Spine:
    """The curve of the spine: centre of the vertebral bodies by height."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.sway_mm, self.sway_phase = rng.uniform(1, 5), rng.uniform(0, 6)
        self.lordosis_mm = rng.uniform(6, 11)

    def at(self, z: float) -> tuple[float, float, float]:
        """Centre at a height, RAS mm."""
        x = self.sway_mm * np.sin(z / 110 + self.sway_phase)
        y = -47 - self.lordosis_mm * np.sin(z / 95 + 0.6)
        return float(x), float(y), z

    def tilt_deg(self, z: float) -> float:
        """Rotation about x that turns a vertebra into the curve."""
        return float(np.degrees(np.arctan(self.lordosis_mm / 95 * np.cos(z / 95 + 0.6))))


def skeleton(rng: np.random.Generator, torso: Torso, spine: Spine, vertebra_label: int) -> list[Organ]:
    """Everything of bone, and the discs and muscles that go with it."""
    bone: dict[str, Any] = {"hu": 480.0, "core_hu": 210.0, "texture_hu": 22.0}
    bodies, arches, discs, canals = [], [], [], []
    for level in LEVELS:
        x, y, z = spine.at(level * LEVEL_MM)
        turn = (spine.tilt_deg(z), 0.0, 0.0)
        size = 1 - 0.035 * max(level, 0)
        bodies.append(Ellipsoid((x, y, z), (23 * size, 17 * size, 14.5), turn, exponent=4))
        arches += _arch(x, y, z, size)
        between = spine.at((level + 0.5) * LEVEL_MM)
        discs.append(Ellipsoid(between, (21 * size, 15 * size, 5.5), turn, exponent=4))
        for step in (0.0, 0.5):
            cx, cy, cz = spine.at((level + step) * LEVEL_MM)
            nx, ny, nz = spine.at((level + step + 0.5) * LEVEL_MM)
            back = 16 * size + 10
            canals.append(Tube((cx, cy - back, cz), (nx, ny - back, nz), 7.5, 7.5))
    return [
        *_muscles(spine),
        Organ("discs", tuple(discs), 85, texture_hu=4),
        Organ("vertebral arches", tuple(arches), shell_mm=2.5, label=vertebra_label, blend_mm=3, **bone),
        Organ("vertebral bodies", tuple(bodies), shell_mm=2.0, label=vertebra_label, rough_mm=0.4, **bone),
        Organ("spinal canal", tuple(canals), 30, core_hu=42, shell_mm=3, texture_hu=3),
        Organ("ribs", _ribs(rng, torso, spine), shell_mm=1.8, **bone),
        Organ("pelvis", _pelvis(), shell_mm=2.5, blend_mm=4, **bone),
    ]


def _arch(x: float, y: float, z: float, size: float) -> list[Solid]:
    back = y - 16 * size - 19
    solids: list[Solid] = [Tube((x, back, z - 4), (x, back - 20, z - 12), 3.5, 4.5)]
    for side in (-1, 1):
        corner = (x + side * 15 * size, y - 16 * size - 9, z)
        solids.append(Tube((x + side * 14 * size, y - 10, z + 2), corner, 4.5, 4.0))
        solids.append(Tube(corner, (x, back, z - 4), 4.0, 3.5))
        solids.append(Tube(corner, (x + side * 38 * size, corner[1] - 6, z + 1), 4.5, 3.0))
    return solids


def _ribs(rng: np.random.Generator, torso: Torso, spine: Spine) -> tuple[Solid, ...]:
    solids: list[Solid] = []
    drop, tilt = rng.uniform(70, 90), rng.uniform(-3, 3)
    # In the wall, nearer to the cavity than to the skin.
    half_width = 0.6 * torso.cavity[0] + 0.4 * torso.wall[0]
    half_depth = 0.45 * torso.cavity[1] + 0.55 * torso.wall[1]
    for level in [n for n in LEVELS if n >= 1]:
        reach = np.radians({1: 95, 2: 125, 3: 160, 4: 172}.get(level, 180)) * 0.86
        along = np.linspace(0.20, 1, 16)
        for side in (-1, 1):
            angle = -np.pi / 2 + side * along * reach
            path = outline(half_width, half_depth, torso.wall[2], angle)
            z = level * LEVEL_MM + 4 - drop * (along * reach / np.pi) ** 0.8 * 1.1 + side * tilt
            x0, y0, z0 = spine.at(level * LEVEL_MM)
            head = np.array([[x0 + side * 20, y0 - 8, z0 + 5], [x0 + side * 42, y0 - 24, z0 + 3]])
            solids += tube_along(np.vstack([head, np.column_stack([path, z])]), np.append(np.full(17, 5.2), 4.2))
    return tuple(solids)


def _pelvis() -> tuple[Solid, ...]:
    solids: list[Solid] = [Ellipsoid((0, -62, -215), (48, 20, 45), (20, 0, 0), exponent=4)]
    for side in (-1, 1):
        solids.append(Ellipsoid((side * 92, -32, -190), (8, 58, 52), (0, side * 20, -side * 35)))
        solids.append(Ellipsoid((side * 82, -20, -275), (22, 30, 45), (0, -side * 15, 0)))
    return tuple(solids)


def _muscles(spine: Spine) -> list[Organ]:
    erectors: list[Solid] = []
    psoas: list[Solid] = []
    for side in (-1, 1):
        knots = [spine.at(z) for z in np.arange(-320.0, 321.0, 40.0)]
        path = np.array(knots) + np.array([side * 34, -31, 0])
        erectors += tube_along(path, np.interp(path[:, 2], [-150, 0, 150, 300], [24, 22, 18, 15]))
        inner = np.array(knots) + np.array([side * 18, -30, 0])
        erectors += tube_along(inner, 15)
        low = [
            (side * 25, -48, 12),
            (side * 36, -46, -40),
            (side * 45, -42, -100),
            (side * 56, -30, -170),
            (side * 72, 5, -290),
        ]
        psoas += tube_along(smooth_path([(float(x), float(y), float(z)) for x, y, z in low]), np.linspace(6, 21, 17))
        psoas.append(Ellipsoid((side * 62, -72, -70), (26, 10, 75), (0, 0, side * 14)))
    return [
        Organ("erector muscles", tuple(erectors), 56, blend_mm=6, rough_mm=1.0, texture_hu=12, region="wall"),
        Organ("psoas muscles", tuple(psoas), 58, blend_mm=3, rough_mm=0.8, texture_hu=9),
    ]
