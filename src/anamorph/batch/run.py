"""A list of jobs from where it stopped, as many at a time as cores and memory allow; what fails stops no other."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from anamorph.batch.cluster import connected, machines_named
from anamorph.batch.hand_out import hand_out
from anamorph.batch.work import Outcome, Task
from anamorph.errors import AnamorphError, RegistrationFailure, failure_line
from anamorph.runtime.memory import INTERPRETER_BYTES, available_bytes
from anamorph.runtime.threads import limit_threads, usable_cores
from anamorph.types import Progress

ATTEMPTS = 2
"""At a job on a cluster, the second on another worker."""
MEMORY_SHARE = 0.7
"""Of the free memory that all jobs at work may take."""
Item = TypeVar("Item")
Made = TypeVar("Made")


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
        workers: processes, fewer if the memory is short, and with 1 everything happens in this one; or workers that
            reach all files at the same paths, see :func:`~anamorph.batch.cluster.machines_named`.
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


def _on_cluster(jobs: Sequence[Job], where: str, take: Callable[[Job, dict[str, Any] | Failed], None]) -> None:
    by_name = {job.name: job for job in jobs}
    if not jobs:
        return

    def end(task: Task, outcome: Outcome) -> None:
        take(by_name[task.name], Failed(outcome.reason) if outcome.result is None else outcome.result)

    with connected(machines_named(where)) as client:
        hand_out([_Task(job) for job in jobs], None, client, ATTEMPTS, on_end=end)


@dataclass(frozen=True)
class Failed:
    """What became of a job that failed: the reason, in one line."""

    reason: str


def fitting_workers(asked: int, jobs: int, peak_bytes: int) -> int:
    """As many workers as asked for, as there are jobs, and as the memory holds if each takes ``peak_bytes``."""
    free = available_bytes()
    fitting = asked if free is None else int(MEMORY_SHARE * free // max(peak_bytes, 1))
    return max(min(asked, jobs, fitting), 1)


def outcomes(work: Callable[[Item], Made], jobs: Sequence[Item], workers: int) -> Iterator[tuple[Item, Made | Failed]]:
    """Each job with the result of ``work``, or with why there is none, as they are finished.

    Args:
        work: a function that a new process can import.
        jobs: what it is given, which can be pickled.
        workers: processes; with 1 everything happens in this one. They share the cores.

    Raises:
        RegistrationFailure: a worker was stopped from outside.
    """
    if workers == 1:
        for job in jobs:
            yield job, _attempt(work, job)
        return
    threads = max(usable_cores() // workers, 1)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker, (threads,))
    try:
        futures: dict[Future[Made | Failed], Item] = {pool.submit(_attempt, work, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenExecutor as error:
        raise RegistrationFailure(
            "a worker was stopped from outside, likely because memory ran out; pass --workers 1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; workers finish the job they are at
    limit_threads(threads)


def _attempt(work: Callable[[Item], Made], job: Item) -> Made | Failed:
    try:
        return work(job)
    except Exception as error:  # whatever a scan holds, the others go on
        return Failed(failure_line(error))


class Clock:
    """Tells how far a list of jobs is, and from the jobs that were done how long the others will take.

    Args:
        noun: what one job is about, such as ``scan``.
        total: number of jobs.
        done: jobs that an earlier run finished.
        progress: informed of every job.
    """

    def __init__(self, noun: str, total: int, done: int, progress: Progress | None) -> None:
        self.noun, self.total, self.done, self.progress = noun, total, done, progress
        self._begun, self._before, self._stage = time.perf_counter(), done, ""
        self._tell(f"{noun} {done} of {total} done", 0.0)

    def begin(self, name: str) -> None:
        """A job begins while no other is at work."""
        self._stage = f"{self.noun} {self.done + 1} of {self.total}, {name}{self._remaining()}"
        self._tell(self._stage, 0.0)

    def within(self, stage: str, fraction: float) -> None:
        """The job that began last is so far."""
        self._tell(self._stage, fraction)

    def end(self, alone: bool) -> None:
        """A job ended; ``alone`` says that the next one is announced when it begins."""
        self.done += 1
        if not alone or self.done == self.total:
            self._tell(f"{self.noun} {self.done} of {self.total} done{self._remaining()}", 0.0)

    def _remaining(self) -> str:
        new = self.done - self._before
        if new == 0 or self.done == self.total:
            return ""
        return f", about {remaining_time((time.perf_counter() - self._begun) / new * (self.total - self.done))} left"

    def _tell(self, stage: str, fraction: float) -> None:
        if self.progress is not None:
            self.progress(stage, (self.done + fraction) / max(self.total, 1))


def part(progress: Progress | None, first: float, last: float, name: str = "") -> Progress:
    """Progress of a part, reported as progress of the whole.

    Args:
        progress: of the whole.
        first: fraction of the whole at which the part begins.
        last: fraction at which it ends.
        name: put before each message.
    """

    def tell(text: str, fraction: float) -> None:
        if progress is not None:
            progress(f"{name}, {text}" if name else text, first + (last - first) * fraction)

    return tell


def remaining_time(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
