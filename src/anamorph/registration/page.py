"""From a run to what its report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anamorph.evaluation.verdict import Verdict
    from anamorph.registration.plan import RegistrationPlan
    from anamorph.registration.request import Inputs
    from anamorph.registration.result import Result
    from anamorph.report.pair import PairReport


def report_of(
    result: Result, more: Mapping[str, Any] | None = None, files: Sequence[tuple[str, str]] = ()
) -> PairReport:
    """The report of a finished run.

    Args:
        result: of the run.
        more: shown beside the provenance; ``true_error_mm`` with the numbers.
        files: beside the report, each with what it is.
    """
    from anamorph.image.image import Image
    from anamorph.registration.start_map import map_rows
    from anamorph.report.pair import PairReport

    provenance = result.provenance | dict(more or {})
    pair, inputs = result.pair, result.inputs
    return PairReport(
        title=title_of(inputs),
        fixed=result.fixed,
        moving=result.moving,
        verdict=result.verdict,
        warped=pair.warped,
        fixed_to_moving=pair.fixed_to_moving,
        moving_to_fixed=pair.moving_to_fixed,
        fixed_labels=inputs.fixed_labels,
        moving_labels=inputs.moving_labels,
        warped_labels=pair.warped_labels if inputs.moving_labels else None,
        label_names=inputs.label_names.names,
        label_colours=inputs.label_names.colours,
        fixed_points=inputs.pair.fixed_points,
        moving_points=inputs.pair.moving_points,
        jacobian=Image(pair.deformation.determinants, pair.map_grid),
        uncertainty=result.uncertainty,
        seen=result.seen,
        no_partner=result.no_partner,
        change=result.change,
        kept=pair.kept,
        metrics=result.metrics,
        timings=result.seconds | {f"registration: {stage}": value for stage, value in result.timings.items()},
        true_error_mm=provenance.pop("true_error_mm", {}),
        trace=result.trace,
        settings=provenance.pop("settings"),
        start=provenance.pop("start", ()),
        start_map=map_rows(provenance.pop("start_map", {})),
        provenance=provenance,
        warnings=result.warnings,
        notes=result.plan.notes,
        files=files,
    )


def report_of_failure(
    inputs: Inputs, plan: RegistrationPlan, verdict: Verdict, seconds: Mapping[str, float]
) -> PairReport:
    """The report of a run that gave no transform."""
    from anamorph.report.pair import PairReport

    return PairReport(
        title=title_of(inputs),
        fixed=inputs.pair.fixed,
        moving=inputs.pair.moving,
        verdict=verdict,
        fixed_labels=inputs.fixed_labels,
        moving_labels=inputs.moving_labels,
        label_names=inputs.label_names.names,
        label_colours=inputs.label_names.colours,
        fixed_points=inputs.pair.fixed_points,
        timings=seconds,
        settings=plan.method.settings(),
        warnings=plan.warnings,
        notes=plan.notes,
        failure="; ".join(verdict.reasons),
    )


def title_of(inputs: Inputs) -> str:
    """The headline of a report."""
    return f"{inputs.pair.moving.name} registered to {inputs.pair.fixed.name}"
