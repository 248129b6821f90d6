"""A plan propagated to days, resumable: each day is a registration with its own folder and report, then all together.

1. The planning CT is registered to the scan of each day, and structures and doses are carried over.
2. The doses of all days are added up on the planning CT.
3. The numbers of all days are written as one record and one page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.batch.registration import RegistrationSettings
from anamorph.batch.run import part, run_jobs
from anamorph.batch.store import Contents, origin_of
from anamorph.errors import UserError
from anamorph.evaluation.numbers import plain
from anamorph.image.atomic import write_text
from anamorph.image.dicom import split_choice
from anamorph.image.dicom.folder import dicom_files
from anamorph.image.dicom.source import new_series
from anamorph.image.dicom.write_dose import write_dose
from anamorph.image.image import Image
from anamorph.image.read import read_image
from anamorph.image.write import write_image
from anamorph.registration.dicom_folder import FOLDER
from anamorph.registration.folder import REPORT
from anamorph.report.page import drawn
from anamorph.report.propagation import DayLine, PropagationReport, write_propagation_page
from anamorph.transforms.maps import Affine
from anamorph.types import Progress
from anamorph.workflows.propagation.day import DOSE_ON_PLAN, NUMBERS, DayJob, PlanFiles
from anamorph.workflows.propagation.dose import dose_numbers
from anamorph.workflows.propagation.plan import Anatomy, read_day

RECORD, ACCUMULATED = "propagation.json", "accumulated_dose"
REMEDY = "the others are kept: mend it and pass --resume"
DONE = 0.95
"""Share of a run that is done when all days are registered."""
_SERIES = 9007


@dataclass(frozen=True)
class Propagation:
    """What came out.

    Args:
        folder: with a folder for each day, the record and the page.
        record: content of ``propagation.json``.
        page_failure: why the page could not be drawn, if so.
    """

    folder: Path
    record: dict[str, Any]
    page_failure: str | None = None

    @property
    def page(self) -> Path:
        """The page of all days."""
        return self.folder / REPORT


def propagate(
    plan: str,
    days: Sequence[str],
    out: Path | str,
    *,
    structures: str | None = None,
    dose: str | None = None,
    conserve_energy: bool = False,
    points: Path | str | None = None,
    day_points: Sequence[Path | str] = (),
    registration: RegistrationSettings | None = None,
    workers: int | str = 1,
    resume: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Propagation:
    """Carry contours, and doses if asked for, from a planning CT to the scans of days, cone-beam scans included.

    Args:
        plan: DICOM folder of the planning CT, in which the structure set is looked for too.
        days: DICOM folders of the scans, in the order of time.
        out: folder to write.
        structures: structure set or segmentation of the plan, ``FILE::roi=Liver,PTV`` for some structures.
        dose: RTDOSE of the plan, or the folder that holds it: carried to each day, and the doses of the days are added
            up on the planning CT. A day with an RTDOSE in its folder counts with that; for others the planned dose is
            laid on the day as if the couch had followed the region of high dose.
        conserve_energy: carry doses by the energy that the mass of tissue received, rather than by interpolation.
        points: landmarks of the planning CT.
        day_points: the same landmarks in each day.
        registration: method and settings; those for two scans of one patient go before the preset's.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        resume: go on in ``out``; days that are finished are not registered again.
        progress: called with the stage and the fraction done.
        on_failure: called with the name of each day that fails, and the reason.

    Raises:
        UserError: the plan or a setting cannot be used, or ``out`` holds something and ``resume`` is off.
        RegistrationFailure: days failed; the others are kept.
    """
    out, wanted = Path(out), registration or RegistrationSettings()
    if not days:
        raise UserError("there is no day to propagate to; name the DICOM folder of at least one")
    if (points is None) != (not day_points) or (day_points and len(day_points) != len(days)):
        raise UserError("landmarks need those of the plan (--points) and of every day (--day-points, once per day)")
    described = wanted.described()
    files = PlanFiles(plan, structures, dose, None if points is None else Path(points), conserve_energy)
    tell = part(progress, 0.0, 1.0)
    tell("reading the plan", 0.0)
    anatomy = files.read(anew=True)
    for day in days:
        read_day(day, dose is not None)  # what cannot be used is said before hours of work
    _check_out(out, resume)
    _write_record(out, {"status": "unfinished"})
    contents = Contents()
    about = origin_of(
        how=described, plan=_hashes(contents, plan, structures, dose, points), conserve_energy=conserve_energy
    )
    marks: list[Path | None] = [*map(Path, day_points)] or [None] * len(days)
    jobs = [
        DayJob(name, day, files, wanted, out, about | {"day": _hashes(contents, day, mark)}, mark)
        for name, day, mark in zip(_names(days), days, marks, strict=True)
    ]
    ran = run_jobs(jobs, workers, noun="day", progress=part(progress, 0.0, DONE), on_failure=on_failure)
    ran.check("days", REMEDY)
    told: dict[str, Any] = {name: record[NUMBERS] for name, record in ran.records.items()}
    record: dict[str, Any] = {
        "status": "finished",
        "plan": plan,
        "days": {job.name: {"scan": job.day, **told[job.name]} for job in jobs},
        "verdicts": {name: one["status"] for name, one in ran.records.items()},
        "registration": dict(described),
    }
    if anatomy.dose is not None:
        tell("adding up doses", DONE)
        record["dose"] = _accumulated(anatomy, jobs, told, out, conserve_energy)
    lines = [
        DayLine(job.name, job.day, ran.records[job.name]["status"], f"{job.name}/{REPORT}", told[job.name])
        for job in jobs
    ]
    page = PropagationReport(
        f"{anatomy.scan.name} on {len(jobs)} day{'s' if len(jobs) > 1 else ''}", lines, record.get("dose")
    )
    failure = drawn(out / REPORT, lambda: write_propagation_page(out / REPORT, page))
    _write_record(out, record)
    return Propagation(out, record, failure)


def _names(days: Sequence[str]) -> list[str]:
    digits = max(len(str(len(days))), 2)
    return [f"day-{number:0{digits}d}" for number in range(1, len(days) + 1)]


def _hashes(contents: Contents, *places: object) -> list[str]:
    """What the files of DICOM folders and other files hold, in the order of their names."""
    paths: list[Path] = []
    for place in places:
        if place is not None:
            path, _ = split_choice(str(place))
            paths += dicom_files(path) if path.is_dir() else [path]
    contents.look(paths)
    return [*(contents[path] for path in paths), *(str(split_choice(str(p))[1]) for p in places if p is not None)]


def _check_out(out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the output")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / RECORD).is_file():
        raise UserError(f"{out} holds files but no {RECORD}; choose another output folder")
    if not resume:
        raise UserError(f"{out} holds days already; pass --resume to go on there, or choose another folder")


def _accumulated(
    plan: Anatomy, jobs: Sequence[DayJob], told: dict[str, Any], out: Path, conserve_energy: bool
) -> dict[str, Any]:
    """Write the sum of the doses of all days on the planning CT, and compare it with the planned one."""
    assert plan.dose is not None
    planned = plan.dose.image
    own = [bool(told[job.name]["dose"]["computed_on_the_day"]) for job in jobs]
    total = np.zeros(planned.grid.shape, np.float64)
    for job, computed in zip(jobs, own, strict=True):
        # A planned dose stands for the whole treatment, of which each day gets its share.
        total += read_image(job.result / DOSE_ON_PLAN).data[0] * (1.0 if computed else 1.0 / len(jobs))
    summed = Image(total.astype(np.float32), planned.grid, "accumulated dose", planned.frame_uid)
    write_image(summed, out / f"{ACCUMULATED}.nii.gz")
    how = "energy and mass" if conserve_energy else "interpolation"
    comment = f"doses of {len(jobs)} days added up by anamorph ({how})"
    write_dose(
        summed,
        out / FOLDER / f"{ACCUMULATED}.dcm",
        plan.source,
        new_series(_SERIES, comment),
        comment,
        plan.dose.file,
        [told[job.name]["dose"]["registration"] for job in jobs],
    )
    return {
        "days_with_a_dose_of_their_own": sum(own),
        "carried_by": how,
        "grid": planned.grid.description,
        "structures": _compared(plan, planned, summed),
        "files": [f"{ACCUMULATED}.nii.gz", f"{FOLDER}/{ACCUMULATED}.dcm"],
    }


def _compared(plan: Anatomy, planned: Image, summed: Image) -> list[dict[str, Any]]:
    """Mean dose, D95 and D2 of each structure, planned and accumulated, in Gy."""
    assert plan.structures is not None
    rows = []
    for structure in plan.structures.structures:
        share = Image(plan.structures.share(structure), plan.scan.grid)
        weights = Affine.identity().warp_image(share, planned.grid, background=0).data[0]
        if weights.sum() > 0:
            rows.append(
                {
                    "name": structure.name,
                    "planned": dose_numbers(planned.data[0], weights),
                    "accumulated": dose_numbers(summed.data[0], weights),
                }
            )
    return rows


def _write_record(out: Path, record: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / RECORD, json.dumps(plain(record), indent=2, ensure_ascii=False) + "\n")
