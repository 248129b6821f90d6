"""All scans registered to the template, several at a time; what is finished is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import anamorph
from anamorph.batch.processes import Failed, fitting_workers, outcomes
from anamorph.batch.registration import RegistrationSettings
from anamorph.data import Case
from anamorph.geometry import Grid
from anamorph.image.read import read_grid
from anamorph.methods.base import Progress
from anamorph.preparation.registration import RegistrationJob, finished, register_scan
from anamorph.runtime.machine import file_hash
from anamorph.runtime.memory import INTERPRETER_BYTES
from anamorph.transforms.files import written_files

BYTES_PER_VOXEL = 40
"""Besides the method: both scans, label maps, positions and a warped map."""


@dataclass
class Registered:
    """What is told of every scan, why others failed, and how many were finished by an earlier run."""

    scans: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reused: int = 0


def make_jobs(
    cases: Sequence[Case],
    template: Case,
    wanted: RegistrationSettings,
    given: Mapping[str, Path],
    spacing_mm: float | None,
    folder: Path,
) -> list[RegistrationJob]:
    """A job for each scan but the template; ``given`` holds transforms by the key of the scan."""
    described, of_template = wanted.described(), _hashes(template, wanted.masks)
    jobs = []
    for case in cases:
        file = given.get(case.key)
        origin = {
            "anamorph": anamorph.__version__,
            "how": described if file is None else {"files": _given_hashes(file)},
            "scan": _hashes(case, wanted.masks),
            "template": of_template,
            "layer_spacing_mm": spacing_mm,
        }
        if case.key != template.key:
            jobs.append(
                RegistrationJob(case, template, wanted, file, spacing_mm, folder, json.loads(json.dumps(origin)))
            )
    return jobs


def register_all(jobs: list[RegistrationJob], workers: int, progress: Progress) -> Registered:
    """Do the jobs that no earlier run finished.

    Raises:
        RegistrationFailure: a worker was stopped from outside.
    """
    result = Registered({job.case.key: told for job in jobs if (told := finished(job)) is not None})
    result.reused = len(result.scans)
    todo = [job for job in jobs if job.case.key not in result.scans]
    at_once = _workers(todo, workers)

    def tell(stage: str, fraction: float) -> None:
        done = len(result.scans) + len(result.failed)
        more = f", the next: {stage}" if stage else ""
        progress(f"scan {done} of {len(jobs)} registered{more}", (done + fraction) / len(jobs))

    tell("", 0.0)
    work = partial(register_scan, progress=tell) if at_once == 1 else register_scan
    for job, outcome in outcomes(work, todo, at_once):
        if isinstance(outcome, Failed):
            result.failed[job.case.key] = outcome.reason
        else:
            result.scans[job.case.key] = outcome
        tell("", 0.0)
    return result


def _workers(jobs: list[RegistrationJob], asked: int) -> int:
    if asked <= 1 or len(jobs) <= 1:
        return 1
    largest = max((read_grid(job.case.image) for job in jobs), key=_voxels)
    template = read_grid(jobs[0].template.image)
    peak = INTERPRETER_BYTES + BYTES_PER_VOXEL * (_voxels(largest) + _voxels(template))
    if jobs[0].given is None:
        peak += jobs[0].wanted.peak_memory_bytes(largest, template)
    return fitting_workers(asked, len(jobs), peak)


def _voxels(grid: Grid) -> int:
    return int(np.prod(grid.shape))


def _hashes(case: Case, masks: bool) -> list[str | None]:
    files = (case.image, case.label, case.mask if masks else None)
    return [file_hash(path) if path is not None and path.is_file() else None for path in files]


def _given_hashes(path: Path) -> list[str]:
    """Of a transform, and for deeds of the matrix beside it."""
    files = written_files(path, "deeds" if path.suffix == ".dat" else "")
    return [file_hash(file) for file in files if file.is_file()]
