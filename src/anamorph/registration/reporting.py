"""The report of a run, from what the run has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anamorph.evaluation import Measured, RegisteredPair, Verdict
from anamorph.methods.base import Result
from anamorph.registration.api import Plan
from anamorph.registration.inputs import PairInputs
from anamorph.report import PairReport, write_report


def report_success(
    path: Path,
    inputs: PairInputs,
    plan: Plan,
    pair: RegisteredPair,
    result: Result,
    metrics: Measured,
    verdict: Verdict,
    seconds: dict[str, float],
    more: dict[str, Any],
) -> None:
    """Write the report of a finished run; ``seconds`` per stage so far, ``more`` to show beside the provenance."""
    provenance = result.provenance | more
    report = PairReport(
        title=_title(inputs),
        fixed=inputs.fixed,
        moving=inputs.moving,
        verdict=verdict,
        warped=pair.warped,
        displacement=pair.forward,
        jacobian=pair.jacobian,
        inverse_consistency_mm=pair.inverse_consistency_mm,
        fixed_labels=inputs.fixed_labels,
        moving_labels=inputs.moving_labels,
        warped_labels=pair.warped_labels if inputs.moving_labels else None,
        fixed_points=inputs.fixed_points,
        metrics=metrics,
        timings=seconds | {f"registration: {stage}": value for stage, value in result.timings.items()},
        trace=result.trace,
        settings=provenance.pop("settings"),
        start=provenance.pop("start", ()),
        provenance=provenance,
        warnings=result.warnings,
        notes=plan.notes,
    )
    write_report(path, report)


def report_failure(path: Path, inputs: PairInputs, plan: Plan, verdict: Verdict, seconds: dict[str, float]) -> None:
    """Write the report of a run that gave no transform."""
    report = PairReport(
        title=_title(inputs),
        fixed=inputs.fixed,
        moving=inputs.moving,
        verdict=verdict,
        fixed_labels=inputs.fixed_labels,
        moving_labels=inputs.moving_labels,
        fixed_points=inputs.fixed_points,
        timings=seconds,
        settings=plan.method.settings(),
        warnings=plan.warnings,
        notes=plan.notes,
        failure="; ".join(verdict.reasons),
    )
    write_report(path, report)


def _title(inputs: PairInputs) -> str:
    return f"{inputs.moving.name} registered to {inputs.fixed.name}"
