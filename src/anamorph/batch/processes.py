"""Jobs in processes of their own, as many at a time as cores and memory allow; one that fails stops no other."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

from anamorph.errors import RegistrationFailure, failure_line
from anamorph.runtime.machine import usable_cores
from anamorph.runtime.memory import available_bytes
from anamorph.runtime.threads import limit_threads

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")

MEMORY_SHARE = 0.7
"""Of the free memory that all jobs at work may take."""


@dataclass(frozen=True)
class Failed:
    """What became of a job that failed: the reason, in one line."""

    reason: str


def fitting_workers(asked: int, jobs: int, peak_bytes: int) -> int:
    """As many workers as asked for, as there are jobs, and as the memory holds if each takes ``peak_bytes``."""
    free = available_bytes()
    fitting = asked if free is None else int(MEMORY_SHARE * free // max(peak_bytes, 1))
    return max(min(asked, jobs, fitting), 1)


def outcomes(
    work: Callable[[Job], Outcome], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Outcome | Failed]]:
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
        futures: dict[Future[Outcome | Failed], Job] = {pool.submit(_attempt, work, job): job for job in jobs}
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


def _attempt(work: Callable[[Job], Outcome], job: Job) -> Outcome | Failed:
    try:
        return work(job)
    except Exception as error:  # whatever a scan holds, the others go on
        return Failed(failure_line(error))
