"""What of many jobs is done, derived from what is on disk and from nothing else."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, TypeVar

from anamorph.batch.records import Failure, Record, Store
from anamorph.batch.work import Task
from anamorph.runtime.threads import usable_cores
from anamorph.types import Progress

JobT = TypeVar("JobT", bound=Task)
State = Literal["complete", "failed", "damaged", "stale", "waiting"]
STATES: dict[State, str] = {
    "complete": "the files are what the record says",
    "failed": "failed as often as it may be tried; `cohort retry` tries again",
    "damaged": "files are missing or changed; is computed again by `cohort run`",
    "stale": "there is a result of other inputs, settings or another version; is computed again by `cohort run`",
    "waiting": "not done yet",
}


@dataclass(frozen=True)
class Status(Generic[JobT]):
    """Jobs beside what is on disk.

    Args:
        jobs: what is wanted.
        attempts: at a job, before it counts as failed.
        records: of complete results, by key.
        damaged: what is wrong with results whose files are not those of the record, by key.
        stale: jobs without a result, whose pair has a result under another key.
        failures: attempts that failed, by key.
        superseded: results on disk that belong to no job.
    """

    jobs: Sequence[JobT]
    attempts: int
    records: dict[str, Record]
    damaged: dict[str, str]
    stale: frozenset[str]
    failures: dict[str, list[Failure]]
    superseded: int

    @property
    def kinds(self) -> list[str]:
        """The kinds of the jobs, such as methods."""
        return [*dict.fromkeys(job.kind for job in self.jobs)]

    def state(self, job: Task) -> State:
        """Of one job."""
        if job.key in self.records:
            return "complete"
        if len(self.failures.get(job.key, ())) >= self.attempts:
            return "failed"
        if job.key in self.damaged:
            return "damaged"
        return "stale" if job.key in self.stale else "waiting"

    def to_do(self) -> list[JobT]:
        """What a run computes."""
        return [job for job in self.jobs if self.state(job) not in ("complete", "failed")]

    def counts(self, kind: str | None = None) -> Counter[State]:
        """Jobs by state, of one kind or of all."""
        return Counter(self.state(job) for job in self.jobs if kind in (None, job.kind))

    def fingerprint(self) -> str:
        """SHA-256 of all complete results, with the hashes of their files: runs of equal fingerprint are equal."""
        results = {key: record.result for key, record in self.records.items()}
        return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Counts by method and state, the fingerprint, and the reasons of failures, for JSON."""
        return {
            "methods": {kind: dict(self.counts(kind)) for kind in self.kinds},
            "fingerprint": self.fingerprint(),
            "superseded": self.superseded,
            "damaged": self.damaged,
            "failed": [asdict(failure) | {"attempts": len(self.failures[job.key])} for job, failure in self.failed()],
        }

    def failed(self) -> list[tuple[JobT, Failure]]:
        """Jobs that failed for good, each with its last attempt."""
        return [(job, self.failures[job.key][-1]) for job in self.jobs if self.state(job) == "failed"]


def find_status(
    store: Store,
    jobs: Sequence[JobT],
    attempts: int,
    *,
    quick: bool = False,
    progress: Progress | None = None,
) -> Status[JobT]:
    """Look at the folder of a run.

    Args:
        store: the folder.
        jobs: what is wanted.
        attempts: at a job.
        quick: look at the sizes of files instead of reading them.
        progress: called as ``progress(stage, fraction)``.
    """
    found = store.records()
    wanted = {job.key for job in jobs}
    records: dict[str, Record] = {}
    damaged: dict[str, str] = {}
    to_check = [key for key in found if key in wanted]
    with ThreadPoolExecutor(usable_cores()) as pool:
        checked = pool.map(lambda key: _first_sound(store, found[key], quick), to_check)
        for done, (key, outcome) in enumerate(zip(to_check, checked, strict=True)):
            if progress is not None:
                progress("checking the results", done / len(to_check))
            if isinstance(outcome, Record):
                records[key] = outcome
            else:
                damaged[key] = outcome
    elsewhere = {(own[0].method, own[0].id) for key, own in found.items() if key not in wanted}
    stale = {job.key for job in jobs if job.key not in found and (job.kind, job.name) in elsewhere}
    failures, superseded = store.failures(), len(found.keys() - wanted)
    return Status(jobs, attempts, records, damaged, frozenset(stale), failures, superseded)


def _first_sound(store: Store, records: list[Record], quick: bool) -> Record | str:
    """A record whose files are right; else what is wrong with them. Two runs may have recorded the same result."""
    reason = ""
    for record in records:
        reason = store.damage(record, quick) or ""
        if not reason:
            return record
    return reason
