"""The ways to lay two scans upon each other that are compared, and which of them to trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anamorph.geometry.grid import Grid
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
GUESS_MARGIN = 0.5
"""Of the same unit: on weak evidence the middles of the fields of view are believed if they explain so much more than
the world before anything is matched. Neither was chosen for what it explains, so that chance favours none of them."""
TURN_MARGIN = 0.1
"""A turned scan must explain so much more than one that is not, unless its header has lost all."""
WRONG_PLACE = 0.5
"""Share of that margin where the header is already known to be wrong about the position."""
CLEAR = 0.6
"""What leaves only so much of the unexplained rest is clear evidence, whatever the margin."""
APART = 0.1
"""Of the longest side of the fixed scan: hypotheses closer than this are one."""


@dataclass(frozen=True)
class Hypothesis:
    """One way to lay the scans upon each other, what it explains before matching, and where matching led.

    ``stays`` says that matching led nowhere that explains clearly more.
    """

    name: Name
    before: float
    matched: Matched
    stays: bool = False

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
        return f"{TITLES[self.name]} (explains {min(max(self.explained, 0), 1):.2f} of 1, {partner})"


@dataclass(frozen=True)
class Rules:
    """Whom to trust.

    ``chance_spread`` is the standard deviation of what places chosen at random explain. ``world_is_known`` is False
    where a header says nothing about the position, ``world_is_tried`` where by the headers too little overlaps. Where
    less than ``weak`` is explained, nothing that was searched for is believed without clear evidence.
    """

    chance_spread: float
    world_is_known: bool
    world_is_tried: bool
    weak: float

    def choose(self, tried: list[Hypothesis]) -> Hypothesis:
        """The hypothesis to trust of at least one.

        An earlier kind has the benefit of the doubt: between scans of different contrast chance alone lets wrong places
        explain more than the right one, so the world coordinates are left for clear evidence only.
        """
        winner: Hypothesis | None = None
        for name in TITLES:
            best = max((one for one in tried if one.name == name), key=lambda one: one.explained, default=None)
            if best is not None and (winner is None or self._is_better(best, winner)):
                winner = best
        if winner is None:
            raise ValueError("there is no hypothesis to choose from")
        return winner

    def _is_better(self, new: Hypothesis, old: Hypothesis) -> bool:
        """Whether a hypothesis of a later kind is believed rather than one of an earlier kind."""
        if new.rest < CLEAR * old.rest:
            return True
        is_weak = max(new.explained, old.explained) < self.weak
        if is_weak and new.name == "centres":
            guess = GUESS_MARGIN * self.chance_spread
            as_good = new.explained > old.explained - guess
            return as_good and new.before > old.before + guess * self.world_is_known
        sure = self.world_is_known and (old.name == "world" or (is_weak and self.world_is_tried))
        margin = WORLD_MARGIN * sure or CENTRES_MARGIN * (old.name == "centres")
        turn = TURN_MARGIN * (new.name == "pose" and self.world_is_known) * (1 if old.name == "world" else WRONG_PLACE)
        return new.explained > old.explained + max(margin * self.chance_spread, turn)
