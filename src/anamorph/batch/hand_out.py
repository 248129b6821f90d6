"""Hands batches of jobs to the workers of a cluster, and tries again what fails, elsewhere and not for ever."""

from __future__ import annotations

import math
import queue
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anamorph.batch.cluster import GPU, replace_lost
from anamorph.batch.records import Failure, Store
from anamorph.batch.work import Batch, Outcome, Task, describe_failure, run_batch
from anamorph.errors import AnamorphError, RegistrationFailure, UserError

if TYPE_CHECKING:
    from distributed import Client, Future

BATCH_SECONDS = 5.0
"""That a batch takes, about: sending one costs nothing beside it, and little is lost with a worker."""
BATCH_SECONDS_PER_WORKER = 0.05
"""It takes longer with many workers: a batch costs this process and the scheduler 12 ms."""
MOST_IN_BATCH = 1000
LOOK_EVERY_S = 2.0
"""How often the workers are counted."""
RESULT_TIMEOUT_S = 10.0
"""For the answer of a worker that says it is done."""
_TICK_S = 0.5


@dataclass(frozen=True)
class News:
    """How far a run is.

    Args:
        total: jobs of this run.
        complete: done.
        failed: given up.
        running: with a worker.
        workers: threads that work.
        seconds: since the run began.
        failed_before: given up in earlier runs, and not of this one.
    """

    total: int
    complete: int = 0
    failed: int = 0
    running: int = 0
    workers: int = 0
    seconds: float = 0.0
    failed_before: int = 0

    @property
    def per_second(self) -> float:
        """Pairs."""
        return (self.complete + self.failed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """As it goes; None before the first is done."""
        left = self.total - self.complete - self.failed
        return left / self.per_second if self.per_second > 0 else None


def hand_out(
    jobs: Iterable[Task],
    store: Store | None,
    client: Client,
    attempts: int,
    *,
    on_end: Callable[[Task, Outcome], None] | None = None,
    earlier: Mapping[str, list[Failure]] | None = None,
    tell: Callable[[News], None] | None = None,
) -> News:
    """Do jobs on the workers of a cluster; a job that fails stops no other.

    Args:
        jobs: to do.
        store: where records and failures go, which the workers reach at the same path; None gives results back.
        client: of the cluster.
        attempts: at a job, those of ``earlier`` included.
        on_end: called with every job that is done or given up.
        earlier: attempts that failed in earlier runs, by key.
        tell: called now and then.

    Returns:
        how it ended.

    Raises:
        RegistrationFailure: the disk is full, or the scheduler went away; what is done is kept.
        UserError: no worker offers a GPU, or one has another version of anamorph.
    """
    run = _Run(store, client, attempts, earlier or {}, tell, on_end)
    run.add(jobs)
    return run.finish()


@dataclass
class _Queue:
    """Jobs of one kind of worker: those that were not tried yet, and those that go alone."""

    resources: dict[str, float] | None
    fresh: deque[Task] = field(default_factory=deque)
    alone: deque[Task] = field(default_factory=deque)
    slots: int = 1
    sent: int = 0

    def __len__(self) -> int:
        return len(self.fresh) + len(self.alone)


@dataclass(frozen=True)
class _Sent:
    """A batch that is with a worker, or waits for one of some."""

    jobs: tuple[Task, ...]
    waiting: _Queue
    workers: frozenset[str]


class _Run:
    def __init__(
        self,
        store: Store | None,
        client: Client,
        attempts: int,
        earlier: Mapping[str, list[Failure]],
        tell: Callable[[News], None] | None,
        on_end: Callable[[Task, Outcome], None] | None,
    ) -> None:
        self.store, self.client, self.attempts, self.tell, self.on_end = store, client, attempts, tell, on_end
        self.tried: dict[str, list[str]] = defaultdict(list)
        self.tried |= {key: [failure.worker for failure in failures] for key, failures in earlier.items()}
        self.queues = {"cpu": _Queue(None), "cuda": _Queue({GPU: 1})}
        self.seconds_per_job: dict[str, float] = {}
        self.in_flight: dict[Future, _Sent] = {}
        self.finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.workers: dict[str, Any] = {}
        self.total = self.complete = self.failed = 0
        self.begin, self.looked = time.perf_counter(), -math.inf

    def add(self, jobs: Iterable[Task]) -> None:
        for job in jobs:
            self.queues[job.device].fresh.append(job)
            self.total += 1

    def finish(self) -> News:
        try:
            while self.in_flight or any(self.queues.values()):
                self._look_at_workers()
                self._send()
                with suppress(queue.Empty):
                    self._take(self.finished.get(timeout=_TICK_S))
                self._tell()
        except BaseException:
            with suppress(Exception):  # what went wrong is to be told, not that the scheduler is gone too
                self.client.cancel(list(self.in_flight))
            raise
        return self._news()

    def _look_at_workers(self) -> None:
        if time.perf_counter() - self.looked < LOOK_EVERY_S:
            return
        self.looked = time.perf_counter()
        if self.client.status != "running":
            raise _scheduler_gone()
        try:
            self.workers = self.client.scheduler_info(n_workers=-1)["workers"]
        except OSError as error:
            raise _scheduler_gone() from error
        replace_lost(self.client)
        devices = sum(int(worker["resources"].get(GPU, 0)) for worker in self.workers.values())
        if self.workers and not devices and len(self.queues["cuda"]):
            raise UserError(
                f'no worker offers a GPU; start one with `dask worker ... --resources "{GPU}=1" --nthreads 1`'
            )
        for future, sent in list(self.in_flight.items()):
            if sent.workers and not sent.workers & self.workers.keys():  # the engine would wait for them for ever
                self._withdraw(future)
        self.queues["cuda"].slots = max(devices, 1)
        self.queues["cpu"].slots = max(sum(worker["nthreads"] for worker in self.workers.values()), 1)

    def _send(self) -> None:
        """One batch for every thread: then a worker that dies was at nothing else."""
        for waiting in self.queues.values():
            while waiting and waiting.sent < waiting.slots:
                jobs = self._next_batch(waiting)
                numbers = {job.key: len(self.tried[job.key]) + 1 for job in jobs}
                batch = Batch(jobs, None if self.store is None else self.store.folder.absolute(), numbers)
                others = self._others(jobs)
                future = self.client.submit(
                    *(_on_worker, batch),
                    pure=False,
                    resources=waiting.resources,
                    workers=sorted(others) or None,
                )
                self.in_flight[future] = _Sent(jobs, waiting, others)
                waiting.sent += 1
                future.add_done_callback(self.finished.put)

    def _next_batch(self, waiting: _Queue) -> tuple[Task, ...]:
        if waiting.alone:
            return (waiting.alone.popleft(),)
        kind = waiting.fresh[0].kind
        expected = self.seconds_per_job.get(kind)
        seconds = max(BATCH_SECONDS, BATCH_SECONDS_PER_WORKER * waiting.slots)
        most = 1 if expected is None else int(seconds / max(expected, 1e-6))
        fair = math.ceil(len(waiting.fresh) / (2 * waiting.slots))  # so that all workers end at about the same time
        jobs = [waiting.fresh.popleft()]
        while len(jobs) < min(most, fair, MOST_IN_BATCH) and waiting.fresh and waiting.fresh[0].kind == kind:
            jobs.append(waiting.fresh.popleft())
        return tuple(jobs)

    def _others(self, jobs: tuple[Task, ...]) -> frozenset[str]:
        """Workers that did not fail at these jobs yet; none, which means any, if all did or nothing failed."""
        tried = {worker for job in jobs for worker in self.tried[job.key]}
        return frozenset(self.workers.keys() - tried if tried else ())

    def _withdraw(self, future: Future) -> None:
        sent = self.in_flight.pop(future)
        self.client.cancel([future])
        sent.waiting.sent -= 1
        sent.waiting.alone.extend(sent.jobs)

    def _take(self, future: Future) -> None:
        sent = self.in_flight.pop(future, None)
        if sent is None:  # withdrawn
            return
        jobs, waiting = sent.jobs, sent.waiting
        waiting.sent -= 1
        if future.status == "finished":
            try:
                outcomes = future.result(timeout=RESULT_TIMEOUT_S)
            except Exception:  # the worker died with the answer: nobody's failure, and doing it again does no harm
                self.client.cancel([future])
                waiting.alone.extend(jobs)
                return
            self._count(jobs, waiting, outcomes)
        elif future.status == "error":
            self._lost(jobs, waiting, future.exception())
        else:
            raise _scheduler_gone()

    def _count(self, jobs: tuple[Task, ...], waiting: _Queue, outcomes: list[Outcome]) -> None:
        by_key = {job.key: job for job in jobs}
        for outcome in outcomes:
            if outcome.state == "full":
                raise RegistrationFailure(f"{outcome.reason}; free some space and run again, what is done is kept")
            if outcome.state == "complete":
                self.complete += 1
                self._ended(by_key[outcome.key], outcome)
            else:
                self._failed(by_key[outcome.key], waiting, outcome)
        taken = [outcome.seconds for outcome in outcomes if outcome.state == "complete"]  # failures may take no time
        if taken:
            seconds = sum(taken) / len(taken)
            self.seconds_per_job[jobs[0].kind] = (self.seconds_per_job.get(jobs[0].kind, seconds) + seconds) / 2

    def _lost(self, jobs: tuple[Task, ...], waiting: _Queue, error: BaseException | None) -> None:
        """A worker died. Of several jobs each goes alone from now on, so that the one that kills is found."""
        from distributed.scheduler import KilledWorker

        if isinstance(error, AnamorphError):
            raise error
        if not isinstance(error, KilledWorker):
            raise RegistrationFailure(f"a worker cannot work: {type(error).__name__}: {error}") from error
        if len(jobs) > 1:
            waiting.alone.extend(jobs)
            return
        address = error.last_worker.address
        reason = "the worker died at this pair: stopped from outside, out of memory, or cut off from the network"
        if self.store is not None:
            self.store.note(describe_failure(jobs[0], reason, worker=address))
        self._failed(jobs[0], waiting, Outcome(jobs[0].key, "failed", reason=reason, worker=address))

    def _failed(self, job: Task, waiting: _Queue, outcome: Outcome) -> None:
        self.tried[job.key].append(outcome.worker)
        if len(self.tried[job.key]) < self.attempts:
            waiting.alone.append(job)
        else:
            self.failed += 1
            self._ended(job, outcome)

    def _ended(self, job: Task, outcome: Outcome) -> None:
        if self.on_end is not None:
            self.on_end(job, outcome)

    def _news(self) -> News:
        running = sum(len(sent.jobs) for sent in self.in_flight.values())
        threads = sum(worker["nthreads"] for worker in self.workers.values())
        return News(self.total, self.complete, self.failed, running, threads, time.perf_counter() - self.begin)

    def _tell(self) -> None:
        if self.tell is not None:
            self.tell(self._news())


def _on_worker(batch: Batch) -> list[Outcome]:
    from distributed import get_worker

    return run_batch(batch, get_worker().address)


def _scheduler_gone() -> RegistrationFailure:
    return RegistrationFailure("the scheduler went away; what is done is kept: start it, then run again")
