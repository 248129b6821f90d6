"""The whole command: read, look, register, measure, write; OUT appears complete or not at all, the report last."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anamorph.errors import AnamorphError, RegistrationFailure, UserError
from anamorph.evaluation import Measured, Verdict, failed, measure, verdict
from anamorph.image.atomic import atomic_directory
from anamorph.memory import check_memory, output_bytes, predicted_peak_bytes
from anamorph.methods.base import Progress, Result
from anamorph.registration.api import Plan, make_plan, out_of_memory_failure, run_plan
from anamorph.registration.inputs import PairInputs, PairRequest, read_pair
from anamorph.registration.maps import registered_pair
from anamorph.registration.outputs import REPORT, RESULT, check_space, write_linear, write_maps, write_result
from anamorph.registration.record import describe_failure, describe_success, stage_timings
from anamorph.registration.reporting import report_failure, report_success
from anamorph.report.page import drawn
from anamorph.runtime.compilation import watch_compilation
from anamorph.runtime.device import resolve_device

Extras = Callable[[Path, Result], dict[str, Any]]
"""Writes more files into the output folder and returns more for ``result.json``."""

# Share of the whole run that is done before each stage, for the progress bar.
READ, REGISTERED, MEASURED, WRITTEN = 0.05, 0.75, 0.85, 0.95


@dataclass(frozen=True)
class PairOutcome:
    """What a run gave, the folder it went to, and the content of its ``result.json``."""

    folder: Path
    plan: Plan
    result: Result
    metrics: Measured
    verdict: Verdict
    record: dict[str, Any]
    report_failure: str | None = None
    """Why there is no report, in one line."""


@dataclass
class Stopwatch:
    """Seconds per stage, in order, telling a progress callback what comes next."""

    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, fraction: float) -> Iterator[None]:
        """Time a block; ``fraction`` of the whole run is done when it starts."""
        if self.progress is not None:
            self.progress(name, fraction)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start


def plan_pair(request: PairRequest) -> tuple[PairInputs, Plan, int]:
    """Read a pair and decide what to do with it.

    Returns:
        the inputs, the plan and the predicted peak memory in bytes.

    Raises:
        UserError: the input or the settings are wrong.
    """
    resolve_device(request.device)
    inputs = read_pair(request)
    plan = make_plan(
        inputs.fixed,
        inputs.moving,
        method=request.method,
        preset=request.preset,
        settings=request.settings,
        max_memory=request.max_memory,
        sources=request.scans(),
    )
    plan = dataclasses.replace(plan, warnings=(*plan.warnings, *inputs.point_notes))
    return inputs, plan, predicted_peak_bytes(plan.method, inputs.fixed, inputs.moving)


def register_pair(
    request: PairRequest,
    out: Path,
    *,
    overwrite: bool = False,
    composite: bool = False,
    progress: Progress | None = None,
    on_compilation: Callable[[], None] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    extras: Extras | None = None,
) -> PairOutcome:
    """Register a pair and write everything into a new folder.

    Args:
        request: the pair and the settings.
        out: the folder; it appears when all but the report is complete, which is drawn last.
        overwrite: replace an earlier result there once the new one is complete.
        composite: write ITK ``.h5`` composites too.
        progress: called with the stage and the fraction of the whole run that is done.
        on_compilation: called when the first kernel has to be compiled.
        on_plan: called before the registration starts.
        extras: see :data:`Extras`.

    Raises:
        UserError: the input or the settings are wrong, or ``out`` may not be written; nothing was written.
        RegistrationFailure: the run failed. If the registration itself did, a report of the failure is in ``out``, or
            beside it in ``<out>-failed`` when an earlier result was to be overwritten, which then stays.
    """
    watch = Stopwatch(progress)
    had_result = False
    at_risk: tuple[PairInputs, Plan] | None = None
    try:
        with (
            atomic_directory(out, overwrite, marker=RESULT, inputs=request.files()) as folder,
            watch_compilation(on_compilation) as compiled,
        ):
            had_result = out.exists()
            with watch.stage("reading", 0.0):
                inputs, plan, needed = plan_pair(request)
            check_space(out, output_bytes(inputs.fixed, inputs.moving))
            check_memory(needed, request.max_memory)
            if on_plan is not None:
                on_plan(plan)
            at_risk = inputs, plan
            with watch.stage("registration", READ):
                result = _run(plan, inputs, request, progress)
            with watch.stage("evaluation", REGISTERED):
                pair = registered_pair(result, inputs)
                metrics = measure(pair)
                judged = verdict(metrics, (*result.warnings, *metrics.notes))
            at_risk = None
            with watch.stage("writing", MEASURED), _told_of(out, folder):
                write_maps(folder, pair, inputs.world, result.fixed_to_moving if composite else None)
                write_linear(folder, result, inputs.fixed.grid, inputs.moving.grid)
                more = {} if extras is None else extras(folder, result)
                record = describe_success(inputs, plan, result, metrics, judged, watch.seconds, compiled.seconds) | more
                write_result(folder, record | {"report": "not drawn: the run was stopped before"})
        # From here on nothing that goes wrong, the end of the process included, costs more than the report.
        with watch.stage("report", WRITTEN), _told_if_interrupted(out):
            reason = drawn(
                out / REPORT,
                lambda: report_success(out / REPORT, inputs, plan, pair, result, metrics, judged, watch.seconds, more),
            )
        record |= {
            "timings_s": stage_timings(watch.seconds, result.timings, compiled.seconds),
            "report": REPORT if reason is None else f"failed: {reason}",
        }
        with suppress(OSError, AnamorphError):
            write_result(out, record)
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        failure = out_of_memory_failure(error) or error
        if at_risk is not None:
            place = out.with_name(f"{out.name}-failed") if had_result else out
            with suppress(OSError, AnamorphError):  # the failure itself is what has to be told
                failure.add_note(f"report: {_write_failure(place, request, *at_risk, failure, watch.seconds)}")
        if failure is error:
            raise
        raise failure from error
    return PairOutcome(out, plan, result, metrics, judged, record, reason)


@contextmanager
def _told_of(out: Path, folder: Path) -> Iterator[None]:
    """Name the output in messages, not the temporary folder it is written to first."""
    try:
        yield
    except RegistrationFailure as failure:
        raise RegistrationFailure(str(failure).replace(str(folder), str(out))) from failure


@contextmanager
def _told_if_interrupted(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted while the report was drawn; everything else is in {out}") from None


def _run(plan: Plan, inputs: PairInputs, request: PairRequest, progress: Progress | None) -> Result:
    def tell(stage: str, fraction: float) -> None:
        if progress is not None:
            progress(stage, READ + (REGISTERED - READ) * fraction)

    return run_plan(
        plan,
        inputs.fixed,
        inputs.moving,
        fixed_mask=inputs.fixed_mask,
        moving_mask=inputs.moving_mask,
        init=inputs.init,
        device=request.device,
        seed=request.seed,
        progress=tell,
    )


def _write_failure(
    place: Path,
    request: PairRequest,
    inputs: PairInputs,
    plan: Plan,
    failure: Exception,
    seconds: dict[str, float],
) -> Path:
    """Leave a record and, if it can be drawn, a report of a failed run; the file that tells most."""
    message = str(failure) if isinstance(failure, AnamorphError) else f"{type(failure).__name__}: {failure}"
    judged = failed(message)
    with atomic_directory(place, overwrite=True, marker=RESULT, inputs=request.files()) as folder:
        write_result(folder, describe_failure(plan, inputs, request.seed, request.device, judged, seconds))
        reason = drawn(folder / REPORT, lambda: report_failure(folder / REPORT, inputs, plan, judged, seconds))
    return place / (REPORT if reason is None else RESULT)
