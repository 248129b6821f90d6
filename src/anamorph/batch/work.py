"""What a worker does: a batch of jobs, one after the other; what one stumbles over is its failure alone."""

from __future__ import annotations

import errno
import platform
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import anamorph
from anamorph.batch.records import Failure, Record, Store
from anamorph.errors import UserError, failure_line
from anamorph.types import Progress

MOST_LOG_LINES = 40


class Task(Protocol):
    """A job as a cluster sees it, which can be pickled."""

    @property
    def key(self) -> str:
        """Tells it from all others."""

    @property
    def name(self) -> str:
        """Of the scan or pair."""

    @property
    def kind(self) -> str:
        """Jobs of one kind take about the same time."""

    @property
    def device(self) -> str:
        """``cuda`` for workers with a GPU alone."""

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the files and return the record: ``result``, the same whenever it is computed, and ``run``."""


@dataclass(frozen=True)
class Batch:
    """Jobs for one worker.

    Args:
        jobs: in this order.
        folder: of the run, at the same path on every machine, for records and failures; None gives results back.
        attempts: which attempt this is at a job, by key.
        version: of anamorph, which the keys speak of.
    """

    jobs: tuple[Task, ...]
    folder: Path | None
    attempts: Mapping[str, int]
    version: str = anamorph.__version__


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Args:
        key: of the job.
        state: ``full`` says that the disk is: nobody's fault, and no attempt.
        seconds: of everything.
        reason: why it failed.
        worker: who did it.
        result: what the job returned, where there is no folder for it.
    """

    key: str
    state: Literal["complete", "failed", "full"]
    seconds: float = 0.0
    reason: str = ""
    worker: str = ""
    result: dict[str, Any] | None = None


def run_batch(batch: Batch, worker: str = "") -> list[Outcome]:
    """Do every job of a batch, and write results, then the records of those that are done, and failures.

    Args:
        batch: what to do.
        worker: the address of this worker, for the records.

    Returns:
        one outcome per job; a job after a full disk has none.

    Raises:
        UserError: this worker has another version of anamorph than the run, or does not see its folder.
    """
    if batch.version != anamorph.__version__:
        raise UserError(
            f"worker {worker} on {platform.node()} has anamorph {anamorph.__version__}, the run {batch.version}; "
            "install one version everywhere"
        )
    store = None if batch.folder is None else Store(batch.folder)
    if store is not None and not store.exists:
        raise UserError(
            f"worker {worker} on {platform.node()} does not see the run folder {batch.folder}; put it where all "
            "machines have it at the same path"
        )
    records: list[Record] = []
    outcomes: list[Outcome] = []
    try:
        for job in batch.jobs:
            start = time.perf_counter()
            try:
                told = job.do()
            except Exception as error:  # whatever a job holds, the others go on
                if disk_full(error):
                    raise
                failure = describe_failure(job, failure_line(error), traceback.format_exc(), worker)
                if store is not None:
                    store.note(failure)
                outcomes.append(Outcome(job.key, "failed", time.perf_counter() - start, failure.reason, worker))
                continue
            seconds = round(time.perf_counter() - start, 4)
            outcomes.append(Outcome(job.key, "complete", seconds, worker=worker, result=None if store else told))
            here = {"attempt": batch.attempts.get(job.key, 1), "worker": worker, "host": platform.node()}
            if store is not None:
                run = {"seconds": seconds, **told["run"], **here, "finished": _now()}
                records.append(Record(job.key, told["result"], run))
        if store is not None:
            store.keep(records)
    except Exception as error:
        if not disk_full(error):
            raise
        return [
            *(one for one in outcomes if one.state == "failed"),
            Outcome("", "full", reason=f"the disk is full: cannot write {batch.folder or 'results'}"),
        ]
    return outcomes


def describe_failure(job: Task, reason: str, log: str = "", worker: str = "") -> Failure:
    """An attempt that failed here and now."""
    last_lines = "\n".join(log.splitlines()[-MOST_LOG_LINES:])
    return Failure(job.key, job.name, job.kind, reason, last_lines, worker, platform.node(), _now())


def disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, says that there is no space."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
