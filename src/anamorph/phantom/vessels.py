"""Trees of vessels that branch inside an organ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from anamorph.phantom.shapes import Ellipsoid, Solid, Tube


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
