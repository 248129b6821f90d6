"""The linear start that ``register`` would take, and what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anamorph.geometry.lengths import significant
from anamorph.image.image import Image
from anamorph.methods import LINEAR
from anamorph.methods.base import Pair, Run
from anamorph.registration.plan import make_plan, run_plan
from anamorph.registration.preflight import overlap_percent
from anamorph.transforms.affine import AffineParts
from anamorph.transforms.maps import Affine, Composite


@dataclass(frozen=True)
class StartFacts:
    """A linear start of fixed to moving points.

    ``steps`` say how it was found, the winner first; ``map`` is seen from the middle of the fixed scan;
    ``overlap_percent`` of the fixed field of view lies in the moving one after it. ``seconds`` are those of the search.
    """

    init: str
    steps: tuple[str, ...]
    warnings: tuple[str, ...]
    map: AffineParts
    overlap_percent: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "init": self.init,
            "steps": list(self.steps),
            "warnings": list(self.warnings),
            "shift_ras_mm": [significant(value, 6) for value in self.map.shift_mm],
            "turn_deg": round(self.map.turn_deg, 3),
            "turn_axis_ras": [round(value, 4) for value in self.map.turn_axis],
            "stretch_percent": [round(100 * value, 2) for value in self.map.stretches],
            "mirrored": self.map.mirrored,
            "overlap_percent": round(self.overlap_percent, 1),
            "seconds": round(self.seconds, 3),
        }


def inspect_start(fixed: Image, moving: Image) -> StartFacts:
    """Find the linear start of a pair with the settings that ``register`` would choose.

    Args:
        fixed: stays.
        moving: is brought to the fixed scan.

    Raises:
        UserError: the scans cannot be a pair.
        RegistrationFailure: memory ran out.
    """
    plan = make_plan(fixed, moving, method=LINEAR)
    result = run_plan(plan, Pair(fixed, moving), Run())
    found = Composite.of(result.fixed_to_moving)
    assert isinstance(found, Affine)
    return StartFacts(
        init=plan.method.settings()["init"],
        steps=tuple(result.provenance["start"]),
        warnings=tuple(result.warnings[len(plan.warnings) :]),
        map=AffineParts.of(found, fixed.grid.centre_mm),
        overlap_percent=overlap_percent(fixed.grid, moving.grid, found),
        seconds=sum(result.timings.values()),
    )
