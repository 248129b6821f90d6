"""The ways to lay two scans upon each other that are compared, and which of them to trust.

A mirror image is one that is reported, never applied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.methods.start.matching import Matched, Stage, match
from anamorph.methods.start.volumes import Judge
from anamorph.methods.working_frame import Scan
from anamorph.transforms.affine import body_axis
from anamorph.transforms.maps import Affine

Name = Literal["world", "centres", "translation", "half turn", "pose"]
TITLES: dict[Name, str] = {
    "world": "world coordinates of the files",
    "centres": "middles of the fields of view",
    "translation": "best of all translations",
    "half turn": "best of all translations after half a turn about an axis",
    "pose": "best of all rotations",
}
TURNED = "half turn", "pose"
WORLD_MARGIN = 3.0
"""The world is left for what explains more by so many standard deviations of chance."""
CENTRES_MARGIN = 0.3
GUESS_MARGIN = 1.0
"""Of the same unit: on weak evidence the middles of the fields of view are believed if they explain more than the world
before anything is matched, and not so much less afterwards. Neither was chosen for what it explains, so that chance
favours none of them."""
TURN_MARGIN = 0.1
"""A turned scan must explain so much more than one that is not."""
WRONG_PLACE, LOST_HEADER = 0.5, 0.3
"""Shares of that margin where the header is already known to be wrong about the position, and where it has lost all:
a body that looks alike from any side is not turned."""
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

    @property
    def title(self) -> str:
        """Where it began."""
        return TITLES[self.name]

    @property
    def partner(self) -> str:
        """How much of the scans meets the other one, in words."""
        return f"{100 * min(self.matched.overlap, 1):.0f} % has a partner"

    def __str__(self) -> str:
        found = f"{self.title}, unchanged" if self.stays else f"found from {self.title}"
        return f"{found} (explains {min(max(self.explained, 0), 1):.2f} of 1, {self.partner})"


@dataclass(frozen=True)
class Rules:
    """Whom to trust.

    ``chance_spread`` is the standard deviation of what places chosen at random explain. ``world_is_known`` is False
    where a header says nothing about the position, ``world_is_tried`` where by the headers too little overlaps. Where
    less than ``weak`` is explained, nothing that was searched for is believed without clear evidence.
    ``has_outlines`` says that both scans show whole bodies: as their outlines meet or not, translations differ by more
    than chance, which is then no measure of what a rotation must explain.
    """

    chance_spread: float
    world_is_known: bool
    world_is_tried: bool
    weak: float
    has_outlines: bool = False

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
        if self._decides_before(new, old):
            as_good = new.explained > old.explained - GUESS_MARGIN * self.chance_spread
            return as_good and (new.before > old.before or not self.world_is_known)
        return new.explained > old.explained + self._margin(new, old)

    def _decides_before(self, new: Hypothesis, old: Hypothesis) -> bool:
        """Whether what two hypotheses explain before matching decides."""
        return new.name == "centres" and self._is_weak(new, old)

    def _is_weak(self, new: Hypothesis, old: Hypothesis) -> bool:
        return max(new.explained, old.explained) < self.weak

    def _margin(self, new: Hypothesis, old: Hypothesis) -> float:
        """How much more a hypothesis of a later kind must explain than one of an earlier kind."""
        is_weak = self._is_weak(new, old)
        sure = self.world_is_known and (old.name == "world" or (is_weak and self.world_is_tried))
        sure = sure and (is_weak or not (self.has_outlines and new.name in TURNED))
        margin = WORLD_MARGIN * sure or CENTRES_MARGIN * (old.name == "centres")
        doubt = LOST_HEADER if not self.world_is_known else 1 if old.name == "world" else WRONG_PLACE
        turn = TURN_MARGIN * doubt * (new.name in TURNED)
        return max(margin * self.chance_spread, turn)

    def why_not(self, other: Hypothesis, chosen: Hypothesis) -> str:
        """Why a hypothesis that explains more than the chosen one is not believed; nothing where no rule says so."""
        kinds = list(TITLES)
        is_later = kinds.index(other.name) > kinds.index(chosen.name)
        if self._decides_before(*((other, chosen) if is_later else (chosen, other))):
            if chosen.before <= other.before:
                return ""
            numbers = f"{chosen.before:.2f} against {other.before:.2f}"
            return f"; where so little is explained, what was explained before matching decides: {numbers}"
        needed = min(self._margin(other, chosen), (1 - CLEAR) * chosen.rest)
        if not is_later or other.explained - chosen.explained > needed:
            return ""
        return f"; the benefit of the doubt goes to the {chosen.title} up to {needed:.2f} more"


MIRROR_WORTH_A_LOOK = 0.1
"""A mirror image that explains so much less than the start before it is matched is not matched."""
MIRROR_CLEARLY = 0.05
"""So much more than the start must the mirror image explain: bodies are nearly symmetric."""
MIRROR_LEAST = 0.4


def mirror_warning(rough: Judge, winner: Hypothesis, stage: Stage) -> str | None:
    """A warning where the moving scan, mirrored along one of its axes, explains clearly more than as it is.

    Args:
        rough: judges on a coarse grid.
        winner: the start of the scans as they are.
        stage: how the mirror image is matched.
    """
    start = winner.matched.transform
    turned = [_reflection(rough, start, axis) for axis in range(3)]
    # A map that mirrors shows the same as a mirrored scan, without making it.
    tried = [Matched.of(rough, Affine(start.matrix @ here)).explained for here in turned]
    axis = int(np.argmax(tried))
    if tried[axis] < winner.explained - MIRROR_WORTH_A_LOOK:
        return None
    moving = rough.pair.moving
    judge = replace(rough, pair=replace(rough.pair, moving=mirrored(moving, axis)))
    # Mirrored twice, by the middle of the fixed body and that of the moving grid, the map is one of space again.
    there = reflection(moving.grid.directions[:, axis], moving.grid.centre_mm)
    laid = Matched.of(judge, Affine(there @ start.matrix @ turned[axis]))
    explained = match(judge, laid, stage, "rigid").explained
    if explained < max(winner.explained + MIRROR_CLEARLY, MIRROR_LEAST):
        return None
    where = f"along its voxel axis {'ijk'[axis]} ({body_axis(moving.grid.directions[:, axis])} by its header)"
    return (
        f"{moving.name} mirrored {where} explains {explained - winner.explained:.2f} more; nothing was mirrored: "
        "see whether a header has lost the direction of that axis"
    )


def _reflection(rough: Judge, start: Affine, axis: int) -> np.ndarray:
    """4x4 matrix that mirrors the fixed scan in the middle of its body, along what a start makes of an axis."""
    from_fixed = start.matrix[:3, :3].T @ rough.pair.moving.grid.directions[:, axis]
    return reflection(from_fixed / np.linalg.norm(from_fixed), rough.fixed.body_middle_mm)


def mirrored(scan: Scan, axis: int) -> Scan:
    """The scan with the order of its voxels along an axis reversed, on the same grid."""
    flip = np.ascontiguousarray
    return Scan(flip(np.flip(scan.channels, axis + 1)), flip(np.flip(scan.weight, axis)), scan.grid)


def reflection(normal: np.ndarray, point: np.ndarray) -> np.ndarray:
    """4x4 matrix that mirrors in the plane through a point with a unit normal."""
    matrix = np.eye(4)
    matrix[:3, :3] -= 2 * np.outer(normal, normal)
    matrix[:3, 3] = 2 * (normal @ point) * normal
    return matrix
