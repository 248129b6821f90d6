"""A data set made of the scans of another one, several at a time, resumed; it appears complete or not at all."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.batch.run import run_jobs
from anamorph.batch.store import Kept
from anamorph.data.dataset import Case, Dataset
from anamorph.data.manifest import read_dataset, write_dataset
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_directory
from anamorph.types import Progress
from anamorph.workflows.preprocess.record import record_path

MARKER = ".preprocess"
"""In the work folder, so that no other folder is taken for one."""


@dataclass(frozen=True)
class CaseJob(ABC):
    """The work for one scan.

    Args:
        case: the scan.
        root: of its data set.
        folder: where the new data set grows.
        origin: what the files depend on.
    """

    case: Case
    root: Path
    folder: Path
    origin: dict[str, Any]

    @property
    def name(self) -> str:
        """The key of the scan."""
        return self.case.key

    @property
    def kept(self) -> Kept:
        """The record of the scan, written after its files."""
        return Kept(self.folder / record_path(self.case), self.folder, self.origin)

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """All files that are written, the record last, relative to the new data set."""

    def find(self) -> dict[str, Any] | None:
        """The record of a scan that was made of the same files with the same settings."""
        return self.kept.find()

    def keep(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write the record of files that are written."""
        return self.kept.keep([self.folder / path for path in self.files[:-1]], record)

    @abstractmethod
    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the files of the scan, its record last."""

    @abstractmethod
    def peak_bytes(self) -> int:
        """Predicted memory, from the headers."""


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


def work_folder(out: Path) -> Path:
    """The folder in which a data set grows until it is complete.

    Raises:
        UserError: it is something else, or cannot be made.
    """
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


def make_dataset(
    dataset: Dataset,
    jobs: Sequence[CaseJob],
    out: Path,
    new: Callable[[tuple[Case, ...], Mapping[str, dict[str, Any]]], Dataset],
    *,
    workers: int | str = 1,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    leave_out_failed: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Preprocessed:
    """Do the work for every scan in the work folder of ``out``, and give the whole its place.

    Args:
        dataset: the manifest of the scans.
        jobs: one for each scan, which write into :func:`work_folder`.
        out: folder of the new data set.
        new: makes its manifest of the scans that did not fail and their records.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        inputs: what is read and not to be replaced.
        overwrite: replace an earlier data set once the new one is complete.
        leave_out_failed: make the data set without scans that fail and without their pairs.
        progress: called with the stage and the fraction done.
        on_failure: called with the key of each scan that fails, and the reason.

    Raises:
        UserError: ``out`` may not be written.
        RegistrationFailure: scans failed; the others are kept.
    """
    manifest, work = f"{dataset.name}_dataset.json", work_folder(out)
    ran = run_jobs(jobs, workers, progress=progress, on_failure=on_failure)
    remedy = f"the others are kept in {work}: mend and run again, or pass --leave-out-failed"
    ran.check("scans", remedy, fewest=1 if leave_out_failed else None)
    records = ran.records
    write_dataset(new(tuple(case for case in dataset.cases if case.key in records), records), work / manifest)
    files = [path for job in jobs if job.name in records for path in job.files]
    with atomic_directory(out, overwrite, marker=manifest, inputs=[*inputs]) as folder:
        for path in (*files, Path(manifest)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).rename(folder / path)
    shutil.rmtree(work, ignore_errors=True)
    return Preprocessed(read_dataset(out / manifest), records, ran.failed, len(ran.reused))
