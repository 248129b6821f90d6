"""The report of a run: one table, one page of all methods, and the evaluation of each for `anamorph rank`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anamorph.batch.records import Record, Store, result_folder
from anamorph.batch.status import STATES
from anamorph.data.dataset import Dataset, Pair
from anamorph.errors import UserError
from anamorph.evaluation.case import LabelMaps, PairTruth
from anamorph.evaluation.cohort import REPORT, CaseResult, Evaluation
from anamorph.evaluation.cohort_files import INITIAL, RESULTS, TABLE, means, write_csv, write_json
from anamorph.evaluation.learn2reg.config import Measure, measure_from
from anamorph.evaluation.metrics.metric import all_columns
from anamorph.evaluation.numbers import Scores, scores_from
from anamorph.image.atomic import atomic_directory, atomic_path, atomic_text, escaped
from anamorph.reading import understood
from anamorph.registration.folder import FIXED_TO_MOVING
from anamorph.report.cohort.evaluated import cohort_report, draw_pair
from anamorph.report.cohort.model import CohortReport, CohortRow, metrics_of, worst_first
from anamorph.report.cohort.page import WORST_SHOWN, write_cohort_report
from anamorph.report.page import drawn
from anamorph.transforms.files import read_transform
from anamorph.workflows.cohort.job import PairJob
from anamorph.workflows.cohort.run import CohortStatus

MOST_ROWS = 3000
"""On the page, which a browser has to open; the table has all."""
CSV, PARQUET = "results.csv", "results.parquet"
_TEXTS = (
    "pair",
    "fixed",
    "moving",
    "method",
    "state",
    "key",
    "folder",
    "reason",
    "verdict",
    "signs_of_failure",
    "accuracy",
    "worker",
    "host",
    "finished",
)
_COUNTS = ("attempts",)
_SECONDS = ("seconds", "registration_seconds")


def write_report(folder: Path, status: CohortStatus) -> str | None:
    """Write the report of a run into a folder, which appears, or takes the place of an earlier one, when complete.

    Returns:
        why the page could not be drawn, if so.

    Raises:
        UserError: the folder holds something else, or pyarrow is not installed.
        RegistrationFailure: the disk is full.
    """
    evaluations = evaluations_of(status)
    with atomic_directory(folder, overwrite=True, marker=CSV, inputs=status.plan.files()) as temporary:
        write_tables(temporary, status)
        for name, evaluation in zip(_folder_names(evaluations), evaluations, strict=True):
            if any(case.scores for case in evaluation.cases):
                (temporary / name).mkdir()
                write_json(evaluation, temporary / name / RESULTS)
                write_csv(evaluation, temporary / name / TABLE)
        path = temporary / REPORT
        with TemporaryDirectory() as pictures:
            return drawn(path, lambda: write_cohort_report(path, page(evaluations, status, Path(pictures))))


def page(evaluations: Sequence[Evaluation], status: CohortStatus, pictures: Path) -> CohortReport:
    """The page of all methods; of very many pairs the last ones are in the table alone.

    Args:
        evaluations: of every method.
        status: of the run.
        pictures: folder for those of the worst pairs.
    """
    reports = [cohort_report(evaluation) for evaluation in evaluations]
    rows = {(row.key, row.method): row for report in reports for row in report.rows}
    directions = {name: direction for report in reports for name, direction in report.metric_directions.items()}
    counts = status.counts()
    notes = [", ".join(f"{count} {state}" for state in STATES if (count := counts[state])) + "."]
    if len(rows) > MOST_ROWS:
        notes.append(f"The first {MOST_ROWS} of {len(rows)} rows are shown, those without a result before the others; "
                     f"{CSV} has all.")  # fmt: skip
    shown = sorted(rows.values(), key=lambda row: row.error is None)[:MOST_ROWS]
    tasks = " and ".join(dict.fromkeys(evaluation.task for evaluation in evaluations))
    report = CohortReport(f"Cohort {tasks}", shown, directions, (*notes, *reports[0].notes), reports[0].baseline)
    return replace(report, rows=_pictured(report, status, pictures))


def _pictured(report: CohortReport, status: CohortStatus, pictures: Path) -> list[CohortRow]:
    """The rows, the worst of which have a picture where the transforms were kept."""
    jobs = {(job.id, job.method): job for job in status.jobs if job.transforms and job.evaluation is not None}
    wanted = [row for row in worst_first(report.listed, metrics_of(report)) if row.error is None][:WORST_SHOWN]
    maps, paths = LabelMaps(), {}
    for number, row in enumerate(wanted):
        job, path = jobs.get((row.key, row.method)), pictures / f"{number}.jpg"
        if job is not None and drawn(path, partial(_draw, job, path, maps)) is None:
            paths[row.key, row.method] = path
    return [replace(row, thumbnail=paths.get((row.key, row.method), row.thumbnail)) for row in report.rows]


def _draw(job: PairJob, path: Path, maps: LabelMaps) -> None:
    assert job.evaluation is not None
    truth = PairTruth.read(job.pair, job.evaluation, maps)
    field = Store(job.folder).result_folder(job.key) / FIXED_TO_MOVING
    draw_pair(path, read_transform(field, grid=truth.fixed.grid, moving_grid=truth.moving.grid), truth)


def _folder_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """The label of the method, which is fit for it; of several data sets after a number and what is fit of the name."""
    tasks = [*dict.fromkeys(evaluation.task for evaluation in evaluations)]
    if len(tasks) == 1:
        return [evaluation.method for evaluation in evaluations]
    safe = {task: f"{number}-{re.sub('[^A-Za-z0-9]+', '-', task)[:40]}" for number, task in enumerate(tasks, 1)}
    return [f"{safe[evaluation.task]}-{evaluation.method}" for evaluation in evaluations]


@dataclass(frozen=True)
class Judged:
    """The verdict on one pair by one method, and the first reason for it."""

    status: str
    reason: str


def verdicts_of(status: CohortStatus) -> dict[str, Judged]:
    """Of every pair that was measured, by ``PAIR by METHOD``.

    Raises:
        UserError: a record is of another version.
    """
    found = {}
    for job in status.jobs:
        record = status.records.get(job.key)
        if record is not None and "metrics" in record.result:
            with of_this_version(record):
                metrics = record.result["metrics"]
                found[f"{job.id} by {job.method}"] = Judged(metrics["verdict"], next(iter(metrics["reasons"]), ""))
    return found


def evaluations_of(status: CohortStatus) -> list[Evaluation]:
    """Every method on every data set of a plan; pairs without a complete result have an error instead of numbers."""
    datasets = {planned.id: planned.dataset for planned in status.plan.pairs}
    groups: dict[tuple[int, str], list[PairJob]] = {}
    for job in status.jobs:
        groups.setdefault((id(datasets[job.id]), job.method), []).append(job)
    return [_evaluation(jobs, datasets[jobs[0].id], status) for jobs in groups.values()]


def scores_of(record: Record) -> tuple[Scores, Scores]:
    """Of the registration and of the identity."""
    with of_this_version(record):
        metrics = record.result["metrics"]
        return scores_from(**metrics["scores"]), scores_from(**metrics["baseline"])


def _evaluation(jobs: list[PairJob], dataset: Dataset, status: CohortStatus) -> Evaluation:
    records = [status.records.get(job.key) for job in jobs]
    pairs = {planned.id: planned.pair for planned in status.plan.pairs}
    return Evaluation(
        task=dataset.name,
        method=jobs[0].method,
        measures=_shared_measures(record for record in records if record is not None),
        cases=tuple(_case(job, pairs[job.id], record, status) for job, record in zip(jobs, records, strict=True)),
        label_names=dict(dataset.labels),
    )


def _case(job: PairJob, pair: Pair, record: Record | None, status: CohortStatus) -> CaseResult:
    empty = CaseResult(job.id, pair.fixed.key, pair.moving.key, sources=(pair.fixed.source, pair.moving.source))
    if record is None or "metrics" not in record.result:
        return replace(empty, error=why_missing(job, status))
    scores, baseline = scores_of(record)
    with of_this_version(record):
        metrics = record.result["metrics"]
        return replace(
            empty,
            scores=scores,
            baseline=baseline,
            verdict=metrics["verdict"],
            signs_of_failure=metrics.get("signs_of_failure"),
            accuracy=metrics.get("accuracy"),
            reasons=tuple(metrics["reasons"]),
        )


def why_missing(job: PairJob, status: CohortStatus) -> str:
    """Why a job has no numbers, in one line."""
    state = status.state(job)
    if state == "complete":
        return "not measured: the plan says metrics = false"
    attempts = status.failures.get(job.key)
    if attempts:
        return f"{attempts[-1].reason} (attempt {len(attempts)} of {status.attempts})"
    return status.damaged.get(job.key) or f"{state}: {STATES[state]}"


def _shared_measures(records: Iterable[Record]) -> tuple[Measure, ...]:
    """Those that every pair has: one without landmarks leaves the landmarks out of the means of all."""
    shared: list[Measure] | None = None
    for record in records:
        with of_this_version(record):
            own = [measure_from(row) for row in record.result.get("metrics", {}).get("measures", [])]
        shared = own if shared is None else [measure for measure in shared if measure in own]
    return tuple(shared or ())


def of_this_version(record: Record) -> AbstractContextManager[None]:
    """Tell in one line what a record lacks that another version wrote."""
    return understood(
        f"the record of {record.id} by {record.method}",
        "is of another version of anamorph",
        "begin the run anew in another folder",
    )


def write_tables(folder: Path, status: CohortStatus) -> None:
    """Write both tables, one row per pair and method.

    Raises:
        UserError: pyarrow is not installed.
        RegistrationFailure: the disk is full.
    """
    rows = rows_of(status)
    columns = (*_TEXTS, *_COUNTS, *_SECONDS, *_numbers(rows))
    with atomic_text(folder / CSV) as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _write_parquet(folder / PARQUET, rows, columns)


def rows_of(status: CohortStatus) -> list[dict[str, Any]]:
    """What is known of every pair by every method, by column.

    Raises:
        UserError: a record is of another version.
    """
    return [_row(job, status) for job in status.jobs]


def _row(job: PairJob, status: CohortStatus) -> dict[str, Any]:
    row: dict[str, Any] = {
        "pair": job.id,
        "fixed": job.pair.fixed.key,
        "moving": job.pair.moving.key,
        "method": job.method,
        "state": status.state(job),
        "key": job.key,
        "attempts": len(status.failures.get(job.key, ())),
    }
    record = status.records.get(job.key)
    if record is None:
        return row | {"reason": why_missing(job, status)}
    with of_this_version(record):
        row |= {name: record.run[name] for name in (*_SECONDS, "worker", "host", "finished")}
        row |= {"attempts": record.run["attempt"], "folder": result_folder(job.key) if record.result["files"] else ""}
        metrics = record.result.get("metrics")
        if metrics is None:
            return row
        scores, baseline = scores_of(record)
        row |= {name: metrics.get(name) for name in ("verdict", "signs_of_failure", "accuracy")}
        return row | means(scores, "") | means(baseline, INITIAL)


def _numbers(rows: list[dict[str, Any]]) -> list[str]:
    """Columns of numbers: Learn2Reg's, then the metrics in the order of their table; before registration last."""
    order = {column.name: place for place, column in enumerate(all_columns())}
    names = {name for row in rows for name in row} - {*_TEXTS, *_COUNTS, *_SECONDS}

    def place(name: str) -> tuple[bool, int, str]:
        return name.startswith(INITIAL), order.get(name.removeprefix(INITIAL), -1), name

    return sorted(names, key=place)


def _write_parquet(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError('the table needs pyarrow; install it: pip install "anamorph[cohort]"') from error
    kinds = dict.fromkeys(_TEXTS, pyarrow.string()) | dict.fromkeys(_COUNTS, pyarrow.int32())
    arrays = {name: pyarrow.array(list(_column(rows, name)), kinds.get(name, pyarrow.float64())) for name in columns}
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(arrays), temporary, compression="zstd")


def _column(rows: list[dict[str, Any]], name: str) -> Iterator[Any]:
    values = (row.get(name) for row in rows)
    return (escaped(value) if isinstance(value, str) else value for value in values)
