"""One scan registered to the template: as a field for the next mean, or as the result that is handed out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.batch.processes import Failed, fitting_workers, outcomes
from anamorph.batch.registration import RegistrationSettings
from anamorph.data import Case
from anamorph.errors import RegistrationFailure
from anamorph.groupwise.kept import intact, read_record, sums, write_record
from anamorph.image.read import read_grid, read_image
from anamorph.methods.base import Pair, Progress, Run
from anamorph.registration.folder import RESULT
from anamorph.registration.memory import predicted_peak_bytes
from anamorph.registration.plan import make_plan, run_plan
from anamorph.registration.request import Request, mask_on
from anamorph.registration.result import Result
from anamorph.registration.run import run_to_folder
from anamorph.runtime.memory import INTERPRETER_BYTES, check_memory
from anamorph.transforms.files import write_transform

ORIGIN = "template"
"""Key of ``result.json`` under which a delivered scan tells what it was made of."""
BYTES_PER_VOXEL = 60
"""Besides the method: scan, template, fields, maps and pictures."""


@dataclass(frozen=True)
class ScanJob:
    """Register a scan to the template.

    Args:
        case: the moving scan.
        template: the fixed one.
        support: its weights; None where all are 1.
        wanted: how.
        folder: of the results of all scans.
        origin: all that the result depends on.
    """

    case: Case
    template: Path
    support: Path | None
    wanted: RegistrationSettings
    folder: Path
    origin: dict[str, Any]

    @property
    def field(self) -> Path:
        """The map of the template to the scan, on the grid of the template."""
        return self.folder / f"{self.case.key}.h5"

    @property
    def result(self) -> Path:
        """Folder of what ``anamorph register`` writes."""
        return self.folder / self.case.key


def run_jobs(
    work: Callable[[ScanJob], None],
    finished: Callable[[ScanJob], bool],
    jobs: Sequence[ScanJob],
    workers: int,
    progress: Progress,
    leave_out_failed: bool,
) -> dict[str, str]:
    """Do the jobs that no earlier run finished, several at a time as far as memory goes.

    Returns:
        why scans failed.

    Raises:
        RegistrationFailure: scans failed, and may not; or a worker was stopped from outside.
    """
    todo = [job for job in jobs if not finished(job)]
    failed: dict[str, str] = {}
    done = len(jobs) - len(todo)
    progress(f"scan {done} of {len(jobs)}", done / len(jobs))
    for job, outcome in outcomes(work, todo, _workers(todo, workers)):
        if isinstance(outcome, Failed):
            failed[job.case.key] = outcome.reason
        done += 1
        progress(f"scan {done} of {len(jobs)}", done / len(jobs))
    if failed and (not leave_out_failed or len(failed) > len(jobs) - 2):
        key, reason = sorted(failed.items())[0]
        raise RegistrationFailure(
            f"{len(failed)} of {len(jobs)} scans could not be registered, the first ({key}): {reason}; the others are "
            "kept: mend it and pass --resume, or --leave-out-failed as well"
        )
    return failed


def keep_field(job: ScanJob) -> None:
    """Write the field of a scan on the template's grid, and last its record."""
    template, scan = read_image(job.template), read_image(job.case.image)
    wanted = job.wanted
    start = time.perf_counter()
    plan = make_plan(
        template,
        scan,
        method=wanted.method,
        preset=wanted.preset,
        settings=wanted.settings,
    )
    check_memory(predicted_peak_bytes(plan.method, template, scan))
    mask = mask_on(scan, job.case.mask) if wanted.masks else None
    support = mask_on(template, job.support)
    result = run_plan(plan, Pair(template, scan, support, mask), Run(wanted.device, wanted.seed))
    field = result.fixed_to_moving.displacement_on(template.grid)
    write_transform(field, job.field, "itk-h5", template.grid)
    told = {
        "origin": job.origin,
        "files": sums([job.field]),
        "seconds": round(time.perf_counter() - start, 2),
    }
    write_record(job.field.with_suffix(".json"), told)


def has_field(job: ScanJob) -> bool:
    """True when an earlier run left the field of the same files and settings, undamaged."""
    told = read_record(job.field.with_suffix(".json"))
    return told.get("origin") == job.origin and intact(job.folder, told.get("files"))


def deliver(job: ScanJob) -> None:
    """Write what ``anamorph register`` writes, with check sums in ``result.json``."""

    def told(folder: Path, result: Result) -> dict[str, Any]:
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        return {ORIGIN: {"origin": job.origin, "files": sums(files)}}

    case, wanted = job.case, job.wanted
    request = Request(
        fixed=str(job.template),
        moving=str(case.image),
        fixed_mask=None if job.support is None else str(job.support),
        moving_labels=None if case.label is None else str(case.label),
        moving_mask=str(case.mask) if wanted.masks and case.mask is not None else None,
        method=wanted.method,
        preset=wanted.preset,
        settings=wanted.settings,
        device=wanted.device,
        seed=wanted.seed,
    )
    run_to_folder(request, job.result, overwrite=True, extras=told)


def is_delivered(job: ScanJob) -> bool:
    """True when an earlier run wrote the result of the same files and settings, undamaged."""
    told = read_record(job.result / RESULT).get(ORIGIN)
    return isinstance(told, dict) and told.get("origin") == job.origin and intact(job.result, told.get("files"))


def _workers(jobs: Sequence[ScanJob], asked: int) -> int:
    if asked <= 1 or len(jobs) <= 1:
        return 1
    largest = max(
        (read_grid(job.case.image) for job in jobs),
        key=lambda grid: int(np.prod(grid.shape)),
    )
    template = read_grid(jobs[0].template)
    voxels = int(np.prod(largest.shape)) + int(np.prod(template.shape))
    peak = INTERPRETER_BYTES + BYTES_PER_VOXEL * voxels + jobs[0].wanted.peak_memory_bytes(template, largest)
    return fitting_workers(asked, len(jobs), peak)
