"""The ways to lay two scans upon each other that are compared, and which of them to trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anamorph.geometry import Grid
from anamorph.methods.start.matching import Matched

Name = Literal["world", "centres", "translation", "pose"]
TITLES: dict[Name, str] = {
    "world": "world coordinates of the files",
    "centres": "middles of the fields of view",
    "translation": "best of all translations",
    "pose": "best of all rotations",
}
WORLD_MARGIN = 3.0
"""The world is left for what explains more by so many standard deviations of chance."""
CENTRES_MARGIN = 0.3
TURN_MARGIN = 0.1
"""A turned scan must explain so much more than one that is not."""
CLEAR = 0.6
"""What leaves only so much of the unexplained rest is clear evidence, whatever the margin."""
TURN_LEAST = 0.4
"""What a turned scan must explain at least: among so many rotations chance finds some that explain a third."""
APART = 0.1
"""Of the longest side of the fixed scan: hypotheses closer than this are one."""


@dataclass(frozen=True)
class Hypothesis:
    """One way to lay the scans upon each other, what it explains before matching, and where matching led."""

    name: Name
    before: float
    matched: Matched

    @property
    def explained(self) -> float:
        """What it explains beyond chance after matching."""
        return self.matched.explained

    @property
    def rest(self) -> float:
        """What it leaves unexplained."""
        return 1 - self.explained

    def distance_mm(self, other: Hypothesis, fixed: Grid) -> float:
        """How far apart two hypotheses put the corners of the fixed scan, on average."""
        corners = fixed.corners_mm()
        apart = self.matched.transform.map_world(corners) - other.matched.transform.map_world(corners)
        return float(np.linalg.norm(apart, axis=1).mean())

    def is_apart(self, other: Hypothesis, fixed: Grid) -> bool:
        """Whether two hypotheses put the fixed scan to different places."""
        return self.distance_mm(other, fixed) > APART * fixed.longest_mm

    def __str__(self) -> str:
        partner = f"{100 * min(self.matched.overlap, 1):.0f} % has a partner"
        return f"{TITLES[self.name]} (explains {max(self.explained, 0):.2f} of 1, {partner})"


def choose(tried: list[Hypothesis], chance_spread: float, world_is_known: bool) -> Hypothesis:
    """The hypothesis to trust.

    An earlier kind has the benefit of the doubt: between scans of different contrast chance alone lets wrong places
    explain more than the right one, so the world coordinates are left for clear evidence only, and a rotation is
    believed only where it explains much.

    Args:
        tried: at least one.
        chance_spread: standard deviation of what places chosen at random explain.
        world_is_known: False where a header says nothing about the position, which takes the benefit away.
    """
    margins = {"world": WORLD_MARGIN * world_is_known * chance_spread, "centres": CENTRES_MARGIN * chance_spread}
    winner: Hypothesis | None = None
    for name in TITLES:
        best = max((one for one in tried if one.name == name), key=lambda one: one.explained, default=None)
        if best is None:
            continue
        margin = 0.0 if winner is None else max(margins.get(winner.name, 0.0), TURN_MARGIN * (name == "pose"))
        if winner is not None and name == "pose" and best.explained < TURN_LEAST:
            continue
        if winner is None or best.explained > winner.explained + margin or best.rest < CLEAR * winner.rest:
            winner = best
    if winner is None:
        raise ValueError("there is no hypothesis to choose from")
    return winner
