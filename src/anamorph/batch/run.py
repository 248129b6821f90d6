"""A list of jobs from where it stopped: what is finished is used again, what fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from anamorph.batch.cluster import Machines, connected
from anamorph.batch.hand_out import hand_out
from anamorph.batch.processes import Failed, fitting_workers, outcomes
from anamorph.batch.progress import Clock
from anamorph.batch.work import Outcome, Task
from anamorph.errors import AnamorphError, RegistrationFailure
from anamorph.runtime.machine import usable_cores
from anamorph.runtime.memory import INTERPRETER_BYTES
from anamorph.types import Progress

ATTEMPTS = 2
"""At a job on a cluster, the second on another worker."""


class Job(Protocol):
    """One unit of work, which can be pickled; its ``name`` is that of the scan or pair."""

    @property
    def name(self) -> str: ...

    def find(self) -> dict[str, Any] | None:
        """The record that an earlier run left of the same job, if its files are there and undamaged."""

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the files, last the record, and return the record."""

    def peak_bytes(self) -> int:
        """Predicted memory of a process that does it."""


@dataclass(frozen=True)
class Ran:
    """What became of a list of jobs, each by its name and in the order of the list.

    Args:
        records: the record of each finished job.
        failed: why others are not, in one line.
        reused: those that an earlier run had finished.
    """

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reused: frozenset[str] = frozenset()

    def check(self, what: str, remedy: str, *, fewest: int | None = None) -> None:
        """See that nothing failed, or that at least ``fewest`` are left where some may be left out.

        Raises:
            RegistrationFailure: ``1 of 3 scans failed, the first (NAME): REASON; REMEDY``.
        """
        if self.failed and (fewest is None or len(self.records) < fewest):
            name, reason = next(iter(self.failed.items()))
            count = f"{len(self.failed)} of {len(self.failed) + len(self.records)} {what}"
            raise RegistrationFailure(f"{count} failed, the first ({name}): {reason}; {remedy}")


def run_jobs(
    jobs: Sequence[Job],
    workers: int | str = 1,
    *,
    noun: str = "scan",
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Ran:
    """Do the jobs that no earlier run finished.

    Args:
        jobs: of different names.
        workers: processes, fewer if the memory is short, and with 1 everything happens in this one; or the address of
            a dask scheduler such as ``tls://node1:8786``, whose workers reach all files at the same paths.
        noun: what one job is about.
        progress: called with what is at work, the remaining time, and the fraction of all jobs that is done.
        on_failure: called at once with the name of a job that failed, and the reason.

    Raises:
        RegistrationFailure: a worker was stopped from outside, or the scheduler cannot be reached.
        UserError: dask is not installed, or a worker has another version of anamorph.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = dict(zip((job.name for job in jobs), pool.map(lambda job: job.find(), jobs), strict=True))
    records = {name: record for name, record in found.items() if record is not None}
    reused = frozenset(records)
    failed: dict[str, str] = {}
    todo = [job for job in jobs if job.name not in records]
    clock = Clock(noun, len(jobs), len(records), progress)
    at_once = workers if isinstance(workers, str) else workers_for(todo, workers)

    def take(job: Job, outcome: dict[str, Any] | Failed) -> None:
        if isinstance(outcome, Failed):
            failed[job.name] = outcome.reason
            if on_failure is not None:
                on_failure(job.name, outcome.reason)
        else:
            records[job.name] = outcome
        clock.end(at_once == 1)

    def alone(job: Job) -> dict[str, Any]:
        clock.begin(job.name)
        return job.do(clock.within)

    if isinstance(at_once, str):
        _on_cluster(todo, at_once, take)
    else:
        for job, outcome in outcomes(alone if at_once == 1 else _do, todo, at_once):
            take(job, outcome)
    ordered = [job.name for job in jobs]
    return Ran(
        {name: records[name] for name in ordered if name in records},
        {name: failed[name] for name in ordered if name in failed},
        reused,
    )


def workers_for(jobs: Sequence[Job], asked: int) -> int:
    """As many workers as asked for, as there are jobs, and as the memory holds if each has the largest job."""
    if asked <= 1 or len(jobs) <= 1:
        return 1
    return fitting_workers(asked, len(jobs), max(_peak_bytes(job) for job in jobs))


def _peak_bytes(job: Job) -> int:
    """Predicted memory; a scan that cannot be read fails when its turn comes."""
    try:
        return job.peak_bytes()
    except AnamorphError:
        return INTERPRETER_BYTES


def _do(job: Job) -> dict[str, Any]:
    return job.do()


@dataclass(frozen=True)
class _Task:
    """A job as the workers of a cluster are sent it."""

    job: Job
    kind: str = "job"
    device: str = "cpu"

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def key(self) -> str:
        return self.job.name

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        return self.job.do(progress)


def _on_cluster(jobs: Sequence[Job], address: str, take: Callable[[Job, dict[str, Any] | Failed], None]) -> None:
    by_name = {job.name: job for job in jobs}
    if not jobs:
        return

    def end(task: Task, outcome: Outcome) -> None:
        take(by_name[task.name], Failed(outcome.reason) if outcome.result is None else outcome.result)

    with connected(Machines(scheduler=address)) as client:
        hand_out([_Task(job) for job in jobs], None, client, ATTEMPTS, on_end=end)
