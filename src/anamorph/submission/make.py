"""The whole of a submission: register, pack, read back, re-evaluate; the archive appears checked or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anamorph.cohort_reporting import write_evaluation
from anamorph.data import Dataset, Pair
from anamorph.data.dataset import PairSplit
from anamorph.errors import AnamorphError, RegistrationFailure
from anamorph.evaluation.cohort import Evaluation, evaluate_dataset
from anamorph.evaluation.cohort_json import RESULTS
from anamorph.geometry import Grid
from anamorph.image.atomic import atomic_directory, atomic_path, write_text
from anamorph.image.read import read_grid
from anamorph.methods.base import Progress
from anamorph.registration.outputs import check_space
from anamorph.submission.archive import StorageError, read_back, write_archive, zero_field
from anamorph.submission.formats import ArchiveFormat, check_members
from anamorph.submission.run import PairRun, RunSettings, register_pairs
from anamorph.submission.store import FieldStore

RECORD = "submission.json"
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Submission:
    """What came out.

    Args:
        path: the archive.
        runs: one per pair.
        zeros: pairs that failed and are in the archive with a field of zeros.
        errors: what storing the fields cost, per pair.
        computed: metrics of the fields as they were computed.
        stored: metrics of the fields read back from the archive; the same object where nothing was lost.
        page_failure: why the page of the evaluation could not be drawn, if so.
    """

    path: Path
    runs: list[PairRun]
    zeros: list[PairRun]
    errors: list[StorageError]
    computed: Evaluation
    stored: Evaluation
    page_failure: str | None = None


def make_submission(
    dataset: Dataset,
    split: PairSplit,
    wanted: RunSettings,
    layout: ArchiveFormat,
    out: Path,
    work: Path,
    *,
    zero_failed: bool = False,
    progress: Progress | None = None,
    on_pair: Callable[[PairRun], None] | None = None,
) -> Submission:
    """Register the pairs of a split and write the archive of a year.

    Args:
        dataset: the manifest.
        split: whose pairs.
        wanted: method and settings.
        layout: of the archive.
        out: the archive; it appears when it has been read back and found right.
        work: folder that keeps finished pairs, so that an interrupted run goes on where it stopped.
        zero_failed: put fields of zeros in the place of pairs that failed.
        progress: called with the stage and the fraction of it that is done.
        on_pair: called after each pair.

    Raises:
        UserError: the settings, the format or the pair list cannot work; nothing was computed.
        RegistrationFailure: pairs failed, the others are kept in ``work``; or the archive could not be written.
    """
    pairs = dataset.pairs(split)
    check_members(pairs, layout)
    grids = _grids_of(pairs, layout)
    check_space(work, sum(12 * math.prod(grids[pair.fixed.image].shape) for pair in pairs if pair.fixed.image in grids))
    store = FieldStore(work)
    runs = register_pairs(pairs, wanted, store, progress=progress, on_pair=on_pair)
    failed = [run for run in runs if run.error is not None]
    if failed and not zero_failed:
        raise RegistrationFailure(
            f"{len(failed)} of {len(runs)} pairs failed, the first ({failed[0].pair.key}): {failed[0].error}; the "
            f"others are kept in {work}: mend and run again, or pass --zero-failed to store fields of zeros"
        )
    for run in failed:
        zero_field(run.pair, store, grids)
    with atomic_path(out) as temporary:
        write_archive(temporary, pairs, store, layout)
        errors = read_back(temporary, pairs, store, layout, grids, progress)
    stored = evaluate_dataset(dataset, out, split=split, method=wanted.method, progress=progress)
    computed = stored
    if any(error.max_mm > 0 for error in errors):
        computed = evaluate_dataset(dataset, work, split=split, method=wanted.method, progress=progress)
    with atomic_directory(work / EVALUATION, overwrite=True, marker=RESULTS) as folder:
        page_failure = write_evaluation(folder, stored)
    submission = Submission(out, runs, failed, errors, computed, stored, page_failure)
    _write_record(work / RECORD, submission, wanted, layout)
    return submission


def dice_by_pair(evaluation: Evaluation) -> dict[str, float]:
    """Dice as Learn2Reg counts it, by the pair's key; nothing for pairs without labels."""
    names = [measure.name for measure in evaluation.measures if measure.metric == "dice"]
    return {case.key: case.compatible[name]["mean"] for case in evaluation.cases for name in names if case.scores}


def _grids_of(pairs: tuple[Pair, ...], layout: ArchiveFormat) -> dict[Path, Grid]:
    """The grids of all scans, which suit the format. What cannot be read is not among them, and told with its pair."""
    grids = {}
    for image in {case.image for pair in pairs for case in (pair.fixed, pair.moving)}:
        with suppress(AnamorphError):
            grids[image] = read_grid(image)
    for grid in grids.values():
        layout.stored_shape(grid.shape)
    return grids


def _write_record(path: Path, submission: Submission, wanted: RunSettings, layout: ArchiveFormat) -> None:
    costs = {error.pair.key: error for error in submission.errors}
    dice = {when: dice_by_pair(one) for when, one in (("computed", submission.computed), ("stored", submission.stored))}
    content: dict[str, Any] = {
        "archive": str(submission.path),
        "format": asdict(layout),
        "run": wanted.described(),
        "pairs": {
            run.pair.key: {
                "files": list(layout.members(run.pair)),
                "seconds": round(run.seconds, 3),
                "error": run.error,
                "warnings": list(run.warnings),
                "storage_error_mm": {
                    name: round(getattr(costs[run.pair.key], f"{name}_mm"), 6) for name in ("mean", "p95", "max")
                },
                "dice": {when: values.get(run.pair.key) for when, values in dice.items()},
            }
            for run in submission.runs
        },
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
