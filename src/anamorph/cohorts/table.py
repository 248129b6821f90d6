"""All results of a run as one table: Parquet for programs, CSV for people."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anamorph.cohorts.evaluations import of_this_version, scores_of, why_missing
from anamorph.cohorts.job import Job
from anamorph.cohorts.standing import Standing
from anamorph.cohorts.store import result_folder
from anamorph.errors import UserError
from anamorph.evaluation.cohort_csv import INITIAL, means
from anamorph.image.atomic import atomic_path, atomic_text, escaped

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


def write_tables(folder: Path, standing: Standing) -> None:
    """Write both tables, one row per pair and method.

    Raises:
        UserError: pyarrow is not installed.
        RegistrationFailure: the disk is full.
    """
    rows = rows_of(standing)
    numbers = sorted({name for row in rows for name in row} - {*_TEXTS, *_COUNTS, *_SECONDS}, key=_initial_last)
    columns = (*_TEXTS, *_COUNTS, *_SECONDS, *numbers)
    with atomic_text(folder / CSV) as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _write_parquet(folder / PARQUET, rows, columns)


def rows_of(standing: Standing) -> list[dict[str, Any]]:
    """What is known of every pair by every method, by column.

    Raises:
        UserError: a record is of another version.
    """
    return [_row(job, standing) for job in standing.jobs]


def _row(job: Job, standing: Standing) -> dict[str, Any]:
    row: dict[str, Any] = {
        "pair": job.id,
        "fixed": job.pair.fixed.key,
        "moving": job.pair.moving.key,
        "method": job.method,
        "state": standing.state(job),
        "key": job.key,
        "attempts": len(standing.failures.get(job.key, ())),
    }
    record = standing.records.get(job.key)
    if record is None:
        return row | {"reason": why_missing(job, standing)}
    with of_this_version(record):
        row |= {name: record.run[name] for name in (*_SECONDS, "worker", "host", "finished")}
        row |= {"attempts": record.run["attempt"], "folder": result_folder(job.key) if record.result["files"] else ""}
        metrics = record.result.get("metrics")
        if metrics is None:
            return row
        scores, baseline = scores_of(record)
        row |= {name: metrics.get(name) for name in ("verdict", "signs_of_failure", "accuracy")}
        return row | means(scores, "") | means(baseline, INITIAL)


def _initial_last(name: str) -> tuple[bool, str]:
    return name.startswith(INITIAL), name


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
