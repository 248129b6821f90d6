"""The contract of a challenge that runs containers: scans in an input folder, a file per field in an output folder.

The organisers of Learn2Reg run a container with the scans at ``/input`` and an empty ``/output``, without a network and
as any user. Which pairs are wanted is said in one of two ways. LUMIR (2024, 2025) mounts a ``*_dataset.json`` beside
``/input``; ReMIND2Reg (2024, 2025) mounts scans alone, named ``TASK_0001_0000.nii.gz`` (fixed) and
``TASK_0001_0001.nii.gz`` (moving).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.batch.registration import RegistrationSettings
from anamorph.batch.run import Ran, run_jobs
from anamorph.data.dataset import Case, Dataset, Pair, PairSplit, all_pairs
from anamorph.data.manifest import find_manifest, parse_name, read_dataset
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_path
from anamorph.registration.folder import check_space
from anamorph.types import Progress
from anamorph.workflows.submission.fields import FieldJob, field_jobs, grids_of
from anamorph.workflows.submission.formats import ArchiveFormat, check_members, field_path, stored


def read_input(source: Path) -> Dataset:
    """The data set in the input folder of a container.

    Args:
        source: the folder; its pairs are listed by a ``*_dataset.json`` in it, else by one beside it, whose paths start
            from the folder, else by the names of its scans. Or the JSON itself.

    Raises:
        UserError: there is no such folder, there are several lists, or nothing says which scans are a pair.
    """
    if not source.is_dir() or [*source.glob("*dataset.json")]:
        return read_dataset(source)
    source = source.absolute()
    if [*source.parent.glob("*_dataset.json")]:
        return read_dataset(find_manifest(source.parent), source)
    return _named_scans(source)


def wanted_split(dataset: Dataset, given: PairSplit | None = None) -> PairSplit:
    """The split to register: the one given, else ``test`` if the scans of its pairs are there, else ``val``."""
    pairs = dataset.listed_pairs.get("test", ())
    there = bool(pairs) and all(case.image.is_file() for pair in pairs for case in (pair.fixed, pair.moving))
    return given or ("test" if there else "val")


def _named_scans(folder: Path) -> Dataset:
    cases = tuple(Case(*parse_name(path.name), path, split="test") for path in sorted(folder.glob("*.nii.gz")))
    fixed, *others = sorted({case.modality for case in cases}) or [""]
    pairs = tuple(pair for moving in others for pair in all_pairs(cases, "paired", (fixed, moving)))
    if not pairs:
        raise UserError(
            f"{folder}: nothing says which scans are a pair; put a *_dataset.json that lists them into it or beside "
            "it, or name the scans TASK_0001_0000.nii.gz (fixed) and TASK_0001_0001.nii.gz (moving)"
        )
    return Dataset(
        path=folder, root=folder, name=folder.name, modalities={}, labels={}, cases=cases,
        listed_pairs={"test": pairs}, pairings="paired", direction=(fixed, others[0]),
    )  # fmt: skip


@dataclass(frozen=True)
class OutputJob:
    """A field that is put into the output folder as soon as it is made.

    Args:
        field: the job that makes it, in full resolution, in the folder of work.
        layout: form and name of the file.
        out: the output folder.
        keep: whether the field also stays in the folder of work, for another run.
    """

    field: FieldJob
    layout: ArchiveFormat
    out: Path
    keep: bool

    @property
    def name(self) -> str:
        """The key of the pair."""
        return self.field.name

    def find(self) -> dict[str, Any] | None:
        """The record of a field of the same scans and settings, which is put into the output folder."""
        record = self.field.find()
        if record is not None:
            self.put()
        return record

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Register the pair and put its field into the output folder.

        Raises:
            UserError: the scans cannot be read, or have different shapes; or the folder cannot be written to.
            RegistrationFailure: the run failed.
        """
        record = self.field.do(progress)
        self.put()
        return record

    def put(self) -> None:
        """Write the field under all names that the format has for it."""
        source = field_path(self.field.folder, self.field.pair)
        content = stored(source, self.layout)
        for member in self.layout.members(self.field.pair):
            with atomic_path(self.out / member) as temporary:
                temporary.write_bytes(content)
        if not self.keep:
            source.unlink()

    def peak_bytes(self) -> int:
        """Predicted memory."""
        return self.field.peak_bytes()


def fill_output(
    pairs: tuple[Pair, ...],
    wanted: RegistrationSettings,
    layout: ArchiveFormat,
    out: Path,
    work: Path,
    *,
    keep: bool = False,
    workers: int | str = 1,
    zero_failed: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Ran:
    """Register pairs and write the field of each into the output folder; nothing is evaluated.

    Args:
        pairs: to register.
        wanted: method and settings.
        layout: form and names of the files.
        out: the output folder; files of these names are replaced.
        work: folder for fields on their way.
        keep: whether they stay there, so that an interrupted run goes on where it stopped.
        workers: processes, see :func:`~anamorph.batch.run.run_jobs`.
        zero_failed: write fields of zeros for pairs that fail.
        progress: called with the stage and the fraction that is done.
        on_failure: called with the key of each pair that fails, and the reason.

    Raises:
        UserError: the settings, the format or the pair list cannot work; nothing was computed.
        RegistrationFailure: pairs failed; the fields of the others are written.
    """
    check_members(pairs, layout)
    grids = grids_of(pairs, layout)
    check_space(out, sum(12 * math.prod(grids[pair.fixed.image].shape) for pair in pairs if pair.fixed.image in grids))
    jobs = [OutputJob(job, layout, out.absolute(), keep) for job in field_jobs(pairs, wanted, work.absolute())]
    ran = run_jobs(jobs, workers, noun="pair", progress=progress, on_failure=on_failure)
    if zero_failed:
        for job in jobs:
            if job.name in ran.failed:
                job.field.keep_zeros(grids)
                job.put()
    remedy = f"the fields of the others are in {out}; --zero-failed writes zeros for those that fail"
    ran.check("pairs", remedy, fewest=0 if zero_failed else None)
    return ran
