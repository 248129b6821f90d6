"""A whole data set: several scans at a time, resumed where it stopped.

The new data set appears complete or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anamorph
from anamorph.batch.processes import Failed, fitting_workers, outcomes
from anamorph.data import Case, Dataset, Pair, read_dataset, write_dataset
from anamorph.errors import AnamorphError, RegistrationFailure, UserError
from anamorph.geometry import Grid
from anamorph.image.atomic import atomic_directory, check_replaceable
from anamorph.image.read import read_grid
from anamorph.memory import INTERPRETER_BYTES
from anamorph.methods.base import Progress
from anamorph.preprocess.layout import check_targets, moved, record_path, targets, transform_path
from anamorph.preprocess.scan import ScanJob, preprocess_scan
from anamorph.preprocess.settings import PreprocessSettings
from anamorph.reading import read_own_record
from anamorph.registration.provenance import file_hash

MARKER = ".preprocess"
"""In the work folder, so that no other folder is taken for one."""
BYTES_PER_VOXEL = (24, 40)
"""Peak per voxel of an original and of a preprocessed scan: values, averages, labels; positions, channels, labels."""


@dataclass(frozen=True)
class Preprocessed:
    """What came out: the new data set, the record of every scan by its key, and the scans left out with the reason."""

    dataset: Dataset
    records: dict[str, dict[str, Any]]
    failed: dict[str, str]
    reused: int

    @property
    def shapes(self) -> set[tuple[int, int, int]]:
        """The shapes that occur; Learn2Reg's fields need the two scans of a pair to have one."""
        return {tuple(record["preprocessed"]["shape"]) for record in self.records.values()}


def preprocess_dataset(
    dataset: Dataset,
    settings: PreprocessSettings,
    out: Path,
    *,
    workers: int = 1,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    leave_out_failed: bool = False,
    progress: Progress | None = None,
) -> Preprocessed:
    """Preprocess every scan of a data set with its labels, mask and points.

    Args:
        dataset: the manifest.
        settings: the steps.
        out: folder of the new data set. Until it is complete, finished scans are kept in ``<out>.partial`` and used
            again if neither settings nor files have changed.
        workers: scans at a time, each in a process of its own; fewer if the memory is short. With 1 the scans are done
            in this process.
        inputs: what else is read besides the data set, and not to be replaced.
        overwrite: replace an earlier data set once the new one is complete.
        leave_out_failed: make the data set without scans that fail and without their pairs.
        progress: called with the stage and the fraction done.

    Raises:
        UserError: the settings cannot work with this data set, or ``out`` may not be written.
        RegistrationFailure: scans failed; the others are kept.
    """
    manifest = f"{dataset.name}_dataset.json"
    read = [*inputs, *dataset.files()]
    check_replaceable(out, overwrite, manifest, read)
    check_targets(dataset)
    work = _work_folder(out)
    jobs = _jobs(dataset, settings, work)
    records = {job.case.key: record for job in jobs if (record := _finished(job)) is not None}
    reused = len(records)
    failed: dict[str, str] = {}
    todo = [job for job in jobs if job.case.key not in records]
    if progress is not None:
        progress(f"scan {reused} of {len(jobs)}", reused / len(jobs))
    for job, outcome in outcomes(preprocess_scan, todo, _fitting_workers(todo, workers)):
        if isinstance(outcome, Failed):
            failed[job.case.key] = outcome.reason
        else:
            records[job.case.key] = outcome
        if progress is not None:
            done = len(records) + len(failed)
            progress(f"scan {done} of {len(jobs)}", done / len(jobs))
    if failed and not (leave_out_failed and records):
        key, reason = next(iter(failed.items()))
        raise RegistrationFailure(
            f"{len(failed)} of {len(jobs)} scans failed, the first ({key}): {reason}; the others are kept in {work}: "
            "mend and run again, or pass --leave-out-failed"
        )
    kept = tuple(case for case in dataset.cases if case.key in records)
    write_dataset(_new_dataset(dataset, kept, work, settings, records), work / manifest)
    files = [path for case in kept for path in _outputs(case, dataset.root)]
    with atomic_directory(out, overwrite, marker=manifest, inputs=read) as folder:
        for path in (*files, Path(manifest)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).rename(folder / path)
    shutil.rmtree(work, ignore_errors=True)
    in_order = {case.key: records[case.key] for case in kept}
    return Preprocessed(read_dataset(out / manifest), in_order, failed, reused)


def find_preprocessed(dataset: Dataset, settings: PreprocessSettings, out: Path) -> Dataset | None:
    """The data set that :func:`preprocess_dataset` made in ``out`` of these scans with these settings, if it is there.

    Raises:
        UserError: its manifest is damaged.
    """
    manifest = out / f"{dataset.name}_dataset.json"
    if not manifest.is_file() or any(_finished(job) is None for job in _jobs(dataset, settings, out)):
        return None
    return read_dataset(manifest)


def _jobs(dataset: Dataset, settings: PreprocessSettings, work: Path) -> list[ScanJob]:
    reference = None if settings.reference is None else _find(dataset, settings.reference)
    described: dict[str, Any] = {"anamorph": anamorph.__version__, "settings": dataclasses.asdict(settings)}
    if reference is not None:
        described["reference"] = [_hash(path) for path in (reference.image, reference.mask)]
    jobs = []
    for case in dataset.cases:
        files = {target.path.as_posix(): _hash(target.source) for target in targets(case, dataset.root)}
        modality = dataset.modalities.get(case.modality, "")
        origin = json.loads(json.dumps(described | {"modality": modality, "files": files}))
        theirs = "" if reference is None else dataset.modalities.get(reference.modality, "")
        jobs.append(ScanJob(case, modality, settings, reference, theirs, dataset.root, work, origin))
    return jobs


def _find(dataset: Dataset, key: str) -> Case:
    found = [case for case in dataset.cases if key in (case.key, case.subject)]
    if len(found) != 1:
        examples = ", ".join(case.key for case in (found or dataset.cases)[:3])
        raise UserError(f"--reference {key} names {len(found)} scans; write a key such as {examples}")
    return found[0]


def _hash(path: Path | None) -> str | None:
    return file_hash(path) if path is not None and path.is_file() else None


def _outputs(case: Case, root: Path) -> list[Path]:
    return [*(target.path for target in targets(case, root)), record_path(case), transform_path(case)]


def _finished(job: ScanJob) -> dict[str, Any] | None:
    """The record of a scan that an earlier run finished with the same settings from the same files."""
    record = read_own_record(job.folder / record_path(job.case))
    complete = all((job.folder / path).is_file() for path in _outputs(job.case, job.root))
    return record if complete and record.get("origin") == job.origin else None


def _work_folder(out: Path) -> Path:
    work = out.absolute().with_name(f"{out.name}.partial")
    if work.exists() and not (work / MARKER).is_file():
        raise UserError(f"{work} exists and is no unfinished run; move it away or choose another output folder")
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / MARKER).touch()
    except OSError as error:
        raise UserError(
            f"cannot write {work} ({error.strerror}); choose an output in a folder you may write to"
        ) from error
    return work


def _fitting_workers(jobs: list[ScanJob], asked: int) -> int:
    """As many workers as asked for and as the memory holds, judged by the largest scan."""
    if asked <= 1 or len(jobs) <= 1:
        return 1
    return fitting_workers(asked, len(jobs), max(_peak_bytes(job) for job in jobs))


def _peak_bytes(job: ScanJob) -> int:
    """Predicted peak of a worker, from the headers; a scan that cannot be read is told of later."""
    try:
        grid = read_grid(job.case.image)
        wanted = job.settings.spacing_mm
        new = grid if wanted is None else grid.resampled(wanted)
        original = _voxels(grid) + (0 if job.reference is None else _voxels(read_grid(job.reference.image)))
    except AnamorphError:
        return INTERPRETER_BYTES
    voxels = max(_voxels(new), _count(job.settings.shape or (0, 0, 0)))
    return INTERPRETER_BYTES + BYTES_PER_VOXEL[0] * original + BYTES_PER_VOXEL[1] * voxels


def _new_dataset(
    dataset: Dataset,
    kept: tuple[Case, ...],
    root: Path,
    settings: PreprocessSettings,
    records: dict[str, dict[str, Any]],
) -> Dataset:
    """The manifest of the new data set, with the pairs whose scans are both in it."""
    new = {case.image: moved(case, dataset.root, root) for case in kept}
    pairs = {
        split: tuple(
            Pair(new[pair.fixed.image], new[pair.moving.image])
            for pair in listed
            if pair.fixed.image in new and pair.moving.image in new
        )
        for split, listed in dataset.listed_pairs.items()
    }
    shapes: dict[str, list[int]] = {}
    for case in kept:
        shapes.setdefault(str(int(case.modality)), records[case.key]["preprocessed"]["shape"])
    extra = dict(dataset.extra) | {"tensorImageShape": shapes, "preprocessing": dataclasses.asdict(settings)}
    return replace(
        dataset,
        root=root,
        cases=tuple(new.values()),
        listed_pairs=pairs,
        extra=extra,
        missing=(),
    )


def _voxels(grid: Grid) -> int:
    return _count(grid.shape)


def _count(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]
