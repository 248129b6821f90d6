"""What a worker does: a batch of pairs, one after the other; what one stumbles over is its failure alone."""

from __future__ import annotations

import errno
import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import anamorph
from anamorph.batch.registration import register_pair_of
from anamorph.batch.store import check_sums
from anamorph.cohorts.inputs_kept import KeptInputs
from anamorph.cohorts.job import Job
from anamorph.cohorts.store import Failure, Record, Store
from anamorph.errors import UserError
from anamorph.evaluation.case import PairTruth, compatible_scores
from anamorph.evaluation.learn2reg.config import EvaluationConfig
from anamorph.evaluation.measure import measure, measure_unregistered
from anamorph.evaluation.numbers import Scores
from anamorph.evaluation.predictions import Prediction, identity_field, in_voxels
from anamorph.evaluation.verdict import verdict
from anamorph.image import Image
from anamorph.image.write import write_image
from anamorph.registration.api import failure_line
from anamorph.registration.outputs import FIXED_TO_MOVING, MOVING_TO_FIXED, WARPED
from anamorph.transforms import Displacement
from anamorph.transforms.files import write_transform
from anamorph.transforms.files.itk_field import as_stored

MOST_LOG_LINES = 40


@dataclass(frozen=True)
class Batch:
    """Jobs for one worker.

    Args:
        jobs: in this order.
        folder: of the run, at the same path on every machine.
        attempts: which attempt this is at a job, by key.
        version: of anamorph, which the keys speak of.
    """

    jobs: tuple[Job, ...]
    folder: Path
    attempts: Mapping[str, int]
    version: str = anamorph.__version__


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Args:
        key: of the job.
        state: ``full`` says that the disk is: nobody's fault, and no attempt.
        seconds: of everything.
        reason: why it failed.
        worker: who did it.
    """

    key: str
    state: Literal["complete", "failed", "full"]
    seconds: float = 0.0
    reason: str = ""
    worker: str = ""


def run_batch(batch: Batch, worker: str = "") -> list[Outcome]:
    """Do every job of a batch, and write results, then the records of those that are done, and failures.

    Args:
        batch: what to do.
        worker: the address of this worker, for the records.

    Returns:
        one outcome per job; a job after a full disk has none.

    Raises:
        UserError: this worker has another version of anamorph than the run, or does not see its folder.
    """
    if batch.version != anamorph.__version__:
        raise UserError(
            f"worker {worker} on {platform.node()} has anamorph {anamorph.__version__}, the run {batch.version}; "
            "install one version everywhere"
        )
    store = Store(batch.folder)
    if not store.exists:
        raise UserError(
            f"worker {worker} on {platform.node()} does not see the run folder {batch.folder}; put it where all "
            "machines have it at the same path"
        )
    records, outcomes = [], []
    try:
        for job in batch.jobs:
            start = time.perf_counter()
            try:
                record = _do(job, store, batch.attempts.get(job.key, 1), worker)
            except Exception as error:  # whatever a pair holds, the others go on
                if disk_full(error):
                    raise
                failure = describe_failure(job, failure_line(error), traceback.format_exc(), worker)
                store.note(failure)
                outcomes.append(Outcome(job.key, "failed", time.perf_counter() - start, failure.reason, worker))
            else:
                records.append(record)
                outcomes.append(Outcome(job.key, "complete", record.run["seconds"], worker=worker))
        store.keep(records)
    except Exception as error:
        if not disk_full(error):
            raise
        return [
            *(one for one in outcomes if one.state == "failed"),
            Outcome("", "full", reason=f"the disk is full: cannot write {batch.folder}"),
        ]
    return outcomes


def describe_failure(job: Job, reason: str, log: str = "", worker: str = "") -> Failure:
    """An attempt that failed here and now."""
    last_lines = "\n".join(log.splitlines()[-MOST_LOG_LINES:])
    return Failure(job.key, job.id, job.method, reason, last_lines, worker, platform.node(), _now())


def disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, says that there is no space."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


@cache
def _kept_inputs() -> KeptInputs:
    """One for every process."""
    return KeptInputs()


def _do(job: Job, store: Store, attempt: int, worker: str) -> Record:
    start = time.perf_counter()
    kept = _kept_inputs()
    kept.check(job.hashes)
    fixed, moving = kept.image(job.pair.fixed.image), kept.image(job.pair.moving.image)
    world = kept.world(job.pair.fixed.image)
    truth = None if job.evaluation is None else PairTruth.read(job.pair, job.evaluation, kept.label_maps, kept.image)
    threads = _use_threads(job.threads)
    begin = time.perf_counter()
    result = register_pair_of(job.pair, job.settings, fixed, moving)
    registration_seconds = time.perf_counter() - begin
    forward = result.fixed_to_moving.displacement_on(fixed.grid)
    backward = result.moving_to_fixed.displacement_on(moving.grid)
    told: dict[str, Any] = {
        "pair": job.id,
        "fixed": job.pair.fixed.key,
        "moving": job.pair.moving.key,
        "method": job.method,
        "inputs": sorted(job.hashes.values()),
        "warnings": result.warnings,
        "files": _write(job, store, fixed, moving, world, forward, backward),
    }
    if job.evaluation is not None and truth is not None:
        told["metrics"] = _measure(truth, job.evaluation, forward, backward, result.warnings)
    run = {
        "seconds": round(time.perf_counter() - start, 4),
        "registration_seconds": round(registration_seconds, 4),
        "threads": threads,
        "attempt": attempt,
        "worker": worker,
        "host": platform.node(),
        "finished": _now(),
    }
    return Record(job.key, told, run)


def _use_threads(wanted: int | None) -> int:
    """Let the kernels use so many threads; how many they use."""
    import numba

    if wanted is not None:
        try:
            numba.set_num_threads(wanted)
        except ValueError as error:
            raise UserError(f"the plan wants {wanted} threads, the worker has fewer; set NUMBA_NUM_THREADS") from error
    return numba.get_num_threads()


def _write(
    job: Job, store: Store, fixed: Image, moving: Image, world: int, forward: Displacement, backward: Displacement
) -> dict[str, dict[str, Any]]:
    """Write what is wanted; size and hash of every file."""
    folder = store.result_folder(job.key)
    names = [*((FIXED_TO_MOVING, MOVING_TO_FIXED) if job.transforms else ()), *((WARPED,) if job.warped else ())]
    paths = [store.room_for(folder / name) for name in names]
    if job.transforms:
        write_transform(forward, folder / FIXED_TO_MOVING, "itk", fixed.grid)
        write_transform(backward, folder / MOVING_TO_FIXED, "itk", moving.grid)
    if job.warped:
        write_image(forward.warp_image(moving, fixed.grid), folder / WARPED, world)
    return check_sums(folder, paths)


def _measure(
    truth: PairTruth,
    config: EvaluationConfig,
    forward: Displacement,
    backward: Displacement,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The numbers of a pair, and those of the identity, as plain values."""
    grids = truth.fixed_grid, truth.moving_grid
    there, back = as_stored(forward, grids[0]), as_stored(backward, grids[1])
    prediction = Prediction(in_voxels(there, *grids), there, back)
    before = measure_unregistered(truth.registered())
    measured = measure(truth.registered(prediction), before=before)
    scores = Scores(compatible_scores(truth, prediction.disp_vox, config), measured.after)
    baseline = Scores(compatible_scores(truth, identity_field(*grids), config), before)
    judged = verdict(measured, (*warnings, *measured.notes))
    return {
        "measures": [asdict(one) for one in config.measures],
        "scores": asdict(scores),
        "baseline": asdict(baseline),
        "verdict": judged.status,
        "signs_of_failure": judged.signs_of_failure,
        "accuracy": judged.accuracy.word,
        "reasons": judged.reasons,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
