"""The linear start that a request would take, without a deformation after it and without files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from anamorph.methods import LINEAR
from anamorph.registration.request import Request
from anamorph.registration.run import run


@dataclass(frozen=True)
class StartFacts:
    """A linear start of fixed to moving points.

    ``steps`` say how it was found, the winner first; ``map`` is as
    :func:`~anamorph.registration.start_map.describe_map` describes it, and empty where a given start deforms.
    ``seconds`` are those of the search.
    """

    init: str
    preset: str
    preset_reason: str
    steps: tuple[str, ...]
    warnings: tuple[str, ...]
    map: dict[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "init": self.init,
            "steps": list(self.steps),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        } | self.map


def inspect_start(request: Request) -> StartFacts:
    """Find the linear start of a request, whatever its method, as ``register --only-start`` does.

    Raises:
        UserError: the scans cannot be a pair, or what is asked for cannot be.
        RegistrationFailure: memory does not suffice.
    """
    result = run(dataclasses.replace(request, method=LINEAR))
    plan = result.plan
    return StartFacts(
        init=str(request.init or plan.method.settings()["init"]),
        preset=plan.preset,
        preset_reason=plan.preset_reason,
        steps=tuple(result.provenance["start"]),
        warnings=tuple(result.warnings[len(plan.warnings) :]),
        map=result.provenance.get("start_map", {}),
        seconds=sum(result.timings.values()),
    )
