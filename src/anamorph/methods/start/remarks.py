"""What a reader should know of a start: what came second and by how much, and what is odd about the headers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.geometry.grid import Grid
from anamorph.methods.start.volumes import ScanPair, weak_share
from anamorph.methods.working_frame import Scan
from anamorph.transforms.affine import AffineParts
from anamorph.transforms.maps import Affine

if TYPE_CHECKING:
    from anamorph.methods.start.hypotheses import Hypothesis, Rules

GIVE_IT = "give the start that is right by --init (in Python init=)"
LITTLE = (
    "the scans explain little of each other ({explained:.2f} of 1; a wrong place may reach {weak:.2f}), so that "
    f"nothing tells whether the start is right: look at the result, or {GIVE_IT}"
)
CLOSE = 0.05
"""Of hypotheses that explain the same to within this the next, finer stage decides."""
AS_MUCH = CLOSE / 2
"""Hypotheses that explain the same to within this explain the scans equally well."""
SHOWN = 0.005
"""A smaller difference is none to two digits."""
TURNED_DEG, TURNED_DEG_OF_PARTS = 20.0, 35.0
"""Scans whose headers are right turn by less: CT and whole bodies, and parts of bodies, cut out as it comes."""
EXCHANGED_DEG = 15.0
"""A rotation is taken for an exchange of axes that comes so close to it."""


def little_warning(explained: float, kind: IntensityKind) -> str | None:
    """A warning of a start that explains no more than a wrong place may, of scans whose intensities compare so."""
    weak = weak_share(kind)
    return LITTLE.format(explained=explained, weak=weak) if explained < weak else None


@dataclass(frozen=True)
class Contest:
    """The hypothesis that won, and the best of those that lie elsewhere.

    ``gain`` is what the second explains more, ``away_mm`` how far it lies, where both were last judged alike.
    """

    winner: Hypothesis
    second: Hypothesis | None = None
    gain: float = 0.0
    away_mm: float = 0.0

    @classmethod
    def of(cls, winner: Hypothesis, tried: list[Hypothesis], fixed: Grid) -> Contest:
        """Of all that was tried."""
        second = max((one for one in tried if one.is_apart(winner, fixed)), key=lambda one: one.explained, default=None)
        if second is None:
            return cls(winner)
        return cls(winner, second, second.explained - winner.explained, second.distance_mm(winner, fixed))

    def after(self, winner: Hypothesis, tried: list[Hypothesis], fixed: Grid) -> Contest:
        """The contest after a stage, in which the winner may have been left alone."""
        return Contest.of(winner, tried, fixed) if len(tried) > 1 else replace(self, winner=winner)

    def rivals(self, less: float = CLOSE) -> list[Hypothesis]:
        """The winner, and the second if it explains about the same: no more than so much less."""
        return [self.winner, self.second] if self.second is not None and self.gain > -less else [self.winner]

    def lines(self, rules: Rules) -> list[str]:
        """What came second, how far away, and by how much."""
        if self.second is None:
            return []
        size = f"{abs(self.gain):.2f} {'more' if self.gain > 0 else 'less'}"
        amount = "as much" if abs(self.gain) < SHOWN else size
        reason = rules.why_not(self.second, self.winner) if self.gain >= SHOWN else ""
        away = f"{self.away_mm:.3g} mm away, {self.second.partner}"
        return [f"second: {self.second.title}, {away}: explains {amount}{reason}"]

    def warnings(self) -> list[str]:
        """A warning where the second explains no less."""
        if self.second is None or self.gain <= -AS_MUCH:
            return []
        away = f"{self.away_mm:.3g} mm"
        if self.gain < AS_MUCH:
            both = f"{self.winner.title}, and {self.second.title}"
            found = f"two starts explain the scans equally well and lie far apart ({away}): {both}"
        else:
            other = f"{self.second.title}, {away} away from {self.winner.title}"
            found = f"a start that was not taken explains {self.gain:.2f} more of the scans: {other}"
        return [f"{found}; look at the result, or {GIVE_IT}"]


def turn_warning(start: Affine, pair: ScanPair) -> str | None:
    """A warning of scans that are turned against each other by their headers."""
    angle = AffineParts.of(start, pair.fixed.grid.centre_mm).turn_deg
    if angle < (TURNED_DEG if pair.kind == "ct" or pair.shows_whole_bodies else TURNED_DEG_OF_PARTS):
        return None
    axes = _exchanged_axes(start, (pair.moving, pair.fixed))
    return (
        f"the scans are turned by {angle:.0f} degrees against each other by their headers; "
        f"they were registered so, but see whether a header is wrong{axes}"
    )


def _exchanged_axes(start: Affine, scans: tuple[Scan, Scan]) -> str:
    """What a rotation would be among the voxel axes of one of the scans: an exchange, a reversal, or nothing."""
    left, _, right = np.linalg.svd(start.matrix[:3, :3])
    turns = [scan.grid.directions.T @ left @ right @ scan.grid.directions for scan in scans]
    near = [(float(np.trace(turn.T @ whole)), n, whole) for n, turn in enumerate(turns) for whole in _axis_rotations()]
    trace, n, whole = max(near, key=lambda one: one[0])
    off_deg = np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    if off_deg > EXCHANGED_DEG:
        return ""
    moved = np.diag(whole) == 0
    axes = [name for name, one in zip("ijk", moved if moved.any() else np.diag(whole) < 0, strict=True) if one]
    return (
        f": within {max(off_deg, 1):.0f} degrees this is an {'exchange' if moved.any() else 'inversion'} of the voxel "
        f"axes {', '.join(axes[:-1])} and {axes[-1]} of {scans[n].name}"
    )


def _axis_rotations() -> list[np.ndarray]:
    """The 23 rotations that lead axes to axes and do not leave all of them as they are."""
    whole = [np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
    return [one for one in whole if np.linalg.det(one) > 0 and not np.array_equal(one, np.eye(3))]
