"""What ``result.json`` says."""

from __future__ import annotations

from typing import Any

import numpy as np

from anamorph.evaluation import Measured, Verdict
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_ras_lps
from anamorph.methods.base import Device, Result
from anamorph.registration.api import Plan, describe_plan
from anamorph.registration.inputs import PairInputs
from anamorph.registration.provenance import peak_memory_mb
from anamorph.transforms import Transform


def describe_success(
    inputs: PairInputs,
    plan: Plan,
    result: Result,
    metrics: Measured,
    verdict: Verdict,
    seconds: dict[str, float],
    compiling: float,
) -> dict[str, Any]:
    """The record of a finished run; ``seconds`` per stage of the command, ``compiling`` of them once per machine."""
    return {
        "status": verdict.status,
        "verdict": verdict.to_dict(),
        "metrics": metrics.to_dict(),
        "warnings": result.warnings,
        "notes": list(plan.notes),
        "direction_check": direction_check(result.fixed_to_moving, inputs.fixed.grid),
        "timings_s": stage_timings(seconds, result.timings, compiling),
        "peak_memory_mb": round(peak_memory_mb()),
        "provenance": result.provenance,
        "trace": result.trace,
    }


def describe_failure(
    plan: Plan, inputs: PairInputs, seed: int, device: Device, verdict: Verdict, seconds: dict[str, float]
) -> dict[str, Any]:
    """The record of a run that gave no transform."""
    return {
        "status": "FAILED",
        "verdict": verdict.to_dict(),
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "timings_s": stage_timings(seconds, {}, 0.0),
        "peak_memory_mb": round(peak_memory_mb()),
        "provenance": describe_plan(
            plan, inputs.fixed, inputs.moving, inputs.fixed_mask, inputs.moving_mask, seed=seed, device=device
        ),
    }


def stage_timings(seconds: dict[str, float], method: dict[str, float], compiling: float) -> dict[str, Any]:
    """Seconds of the command's stages, of the method's own inside ``registration``, and of compilation inside both."""
    rounded = {stage: round(value, 3) for stage, value in seconds.items()}
    return rounded | {
        "total": round(sum(seconds.values()), 3),
        "of_which_compiling_kernels": round(compiling, 3),
        "registration_stages": {stage: round(value, 3) for stage, value in method.items()},
    }


def direction_check(transform: Transform, grid: Grid) -> dict[str, list[float]]:
    """Where the centre of the fixed scan goes, in both frames: a wrong direction or frame shows at once."""
    centre = grid.centre_mm
    positions = {"fixed_centre": centre, "maps_to_moving": transform.map_world(centre[None])[0]}
    described = {}
    for name, position in positions.items():
        described[f"{name}_ras_mm"] = np.round(position, 4).tolist()
        described[f"{name}_lps_mm"] = np.round(flip_ras_lps(position), 4).tolist()
    return described
