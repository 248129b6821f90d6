"""An affine map as people think of it: a shift, a turn and stretches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.geometry.lengths import length_text, numbers_mm
from anamorph.transforms.affine import Affine

SMALLEST_TURN_DEG = 0.05
SMALLEST_STRETCH_PERCENT = 0.05
"""Less is not told."""
ALONG = 0.95
"""Of a unit vector: an axis with so much of one direction of the body is named after it."""
BODY_AXES = ("left-right", "back-front", "feet-head")
SIDES = (("right", "left"), ("front", "back"), ("up", "down"))


@dataclass(frozen=True)
class AffineParts:
    """Shift of a point in RAS mm, turn about an axis through it (RAS, right-handed), and the three stretches.

    ``stretches`` are factors, smallest first; ``mirrored`` maps turn right into left.
    """

    shift_mm: tuple[float, float, float]
    turn_deg: float
    turn_axis: tuple[float, float, float]
    stretches: tuple[float, float, float]
    mirrored: bool

    @classmethod
    def of(cls, affine: Affine, about_mm: np.ndarray) -> AffineParts:
        """Take a map apart by polar decomposition, seen from a point ``(3,)`` in RAS mm."""
        from scipy.spatial.transform import Rotation

        left, stretches, right = np.linalg.svd(affine.matrix[:3, :3])
        turn = left @ right
        mirrored = bool(np.linalg.det(turn) < 0)
        vector = Rotation.from_matrix(-turn if mirrored else turn).as_rotvec()
        angle = float(np.linalg.norm(vector))
        axis = vector / angle if angle > 0 else np.array([0.0, 0.0, 1.0])
        shift = affine.map_world(about_mm[None])[0] - about_mm
        return cls(_triple(shift), float(np.rad2deg(angle)), _triple(axis), _triple(np.sort(stretches)), mirrored)

    @property
    def volume_percent(self) -> float:
        """Size of a moved volume in percent of what it was."""
        return 100 * float(np.prod(self.stretches))

    def in_words(self) -> tuple[str, str, str]:
        """Shift, turn and scale, a phrase each."""
        return self._shift(), self._turn(), self._scale()

    def _shift(self) -> str:
        lengths = numbers_mm((abs(value) for value in self.shift_mm), 1)
        sides = (names[value < 0] for value, names in zip(self.shift_mm, SIDES, strict=True))
        each = ", ".join(f"{length} {side}" for length, side in zip(lengths, sides, strict=True))
        return f"{length_text(float(np.linalg.norm(self.shift_mm)), 1)} ({each})"

    def _turn(self) -> str:
        if self.turn_deg < SMALLEST_TURN_DEG:
            return "none"
        main = int(np.argmax(np.abs(self.turn_axis)))
        about = ", ".join(f"{one:.2f}" for one in self.turn_axis)
        named = abs(self.turn_axis[main]) >= ALONG
        return f"{self.turn_deg:.1f} degrees about " + (f"the {BODY_AXES[main]} axis" if named else f"({about}) in RAS")

    def _scale(self) -> str:
        low, high = (100 * (self.stretches[n] - 1) for n in (0, 2))
        mirrored = ", mirrored" if self.mirrored else ""
        if max(abs(low), abs(high)) < SMALLEST_STRETCH_PERCENT:
            return "none" + mirrored
        return f"{low:+.1f} to {high:+.1f} % by direction, {self.volume_percent - 100:+.1f} % in volume{mirrored}"


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = (float(value) + 0.0 for value in values)
    return first, second, third
