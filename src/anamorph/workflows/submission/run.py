"""The whole of a submission: register, pack, read back, re-evaluate; the archive appears checked or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from anamorph.batch.registration import RegistrationSettings
from anamorph.batch.run import Ran, run_jobs
from anamorph.data.dataset import Dataset, Pair, PairSplit
from anamorph.evaluation.cohort import Evaluation, evaluate_dataset
from anamorph.evaluation.cohort_files import RESULTS
from anamorph.image.atomic import atomic_directory, atomic_path, write_text
from anamorph.registration.folder import check_space
from anamorph.report.cohort.evaluated import write_evaluation
from anamorph.types import Progress
from anamorph.workflows.submission.fields import field_jobs, grids_of
from anamorph.workflows.submission.formats import ArchiveFormat, StorageError, check_members, read_back, write_archive

RECORD = "submission.json"
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Submission:
    """What came out.

    Args:
        path: the archive.
        pairs: in the order of the list.
        ran: what became of each by its key; pairs that failed are in the archive with a field of zeros.
        errors: what storing the fields cost, per pair.
        computed: metrics of the fields as they were computed.
        stored: metrics of the fields read back from the archive; the same object where nothing was lost.
        page_failure: why the page of the evaluation could not be drawn, if so.
    """

    path: Path
    pairs: tuple[Pair, ...]
    ran: Ran
    errors: list[StorageError]
    computed: Evaluation
    stored: Evaluation
    page_failure: str | None = None


def make_submission(
    dataset: Dataset,
    split: PairSplit,
    wanted: RegistrationSettings,
    layout: ArchiveFormat,
    out: Path,
    work: Path,
    *,
    workers: int | str = 1,
    zero_failed: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Submission:
    """Register the pairs of a split and write the archive of a year.

    Args:
        dataset: the manifest.
        split: whose pairs.
        wanted: method and settings.
        layout: of the archive.
        out: the archive; it appears when it has been read back and found right.
        work: folder that keeps finished pairs, so that an interrupted run goes on where it stopped.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        zero_failed: put fields of zeros in the place of pairs that failed.
        progress: called with the stage and the fraction that is done.
        on_failure: called with the key of each pair that fails, and the reason.

    Raises:
        UserError: the settings, the format or the pair list cannot work; nothing was computed.
        RegistrationFailure: pairs failed, the others are kept in ``work``; or the archive could not be written.
    """
    pairs = dataset.pairs(split)
    check_members(pairs, layout)
    grids = grids_of(pairs, layout)
    check_space(work, sum(12 * math.prod(grids[pair.fixed.image].shape) for pair in pairs if pair.fixed.image in grids))
    jobs = field_jobs(pairs, wanted, work.absolute())
    ran = run_jobs(jobs, workers, noun="pair", progress=progress, on_failure=on_failure)
    kept = f"the others are kept in {work}: mend and run again, or pass --zero-failed to store fields of zeros"
    ran.check("pairs", kept, fewest=0 if zero_failed else None)
    for job in jobs:
        if job.name in ran.failed:
            job.keep_zeros(grids)
    with atomic_path(out) as temporary:
        write_archive(temporary, pairs, work, layout)
        errors = read_back(temporary, pairs, work, layout, grids, progress)
    stored = evaluate_dataset(dataset, out, split=split, method=wanted.method, progress=progress)
    computed = stored
    if any(error.max_mm > 0 for error in errors):
        computed = evaluate_dataset(dataset, work, split=split, method=wanted.method, progress=progress)
    with atomic_directory(work / EVALUATION, overwrite=True, marker=RESULTS) as folder:
        page_failure = write_evaluation(folder, stored)
    submission = Submission(out, pairs, ran, errors, computed, stored, page_failure)
    _write_record(work / RECORD, submission, wanted, layout)
    return submission


def dice_by_pair(evaluation: Evaluation) -> dict[str, float]:
    """Dice as Learn2Reg counts it, by the pair's key; nothing for pairs without labels."""
    names = [measure.name for measure in evaluation.measures if measure.metric == "dice"]
    return {case.key: case.compatible[name]["mean"] for case in evaluation.cases for name in names if case.scores}


def _write_record(path: Path, submission: Submission, wanted: RegistrationSettings, layout: ArchiveFormat) -> None:
    dice = {when: dice_by_pair(one) for when, one in (("computed", submission.computed), ("stored", submission.stored))}
    pairs = {}
    for pair, cost in zip(submission.pairs, submission.errors, strict=True):
        run = submission.ran.records.get(pair.key, {}).get("run", {})
        pairs[pair.key] = {
            "files": list(layout.members(pair)),
            "seconds": run.get("seconds", 0.0),
            "error": submission.ran.failed.get(pair.key),
            "warnings": run.get("warnings", []),
            "storage_error_mm": {name: round(getattr(cost, f"{name}_mm"), 6) for name in ("mean", "p95", "max")},
            "dice": {when: values.get(pair.key) for when, values in dice.items()},
        }
    content = {
        "archive": str(submission.path),
        "format": asdict(layout),
        "run": wanted.described(),
        "pairs": pairs,
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
