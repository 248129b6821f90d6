"""What of a plan is done, derived from what is on disk and from nothing else."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from anamorph.batch.key import Contents
from anamorph.cohorts.job import Job, jobs_of
from anamorph.cohorts.plan import Plan, read_plan
from anamorph.cohorts.store import INPUTS, Failure, Record, Store
from anamorph.runtime.machine import usable_cores

State = Literal["complete", "failed", "damaged", "stale", "waiting"]
STATES: dict[State, str] = {
    "complete": "the files are what the record says",
    "failed": "failed as often as it may be tried; `cohort retry` tries again",
    "damaged": "files are missing or changed; is computed again by `cohort run`",
    "stale": "there is a result of other inputs, settings or another version; is computed again by `cohort run`",
    "waiting": "not done yet",
}


@dataclass(frozen=True)
class Standing:
    """A plan beside what is on disk.

    Args:
        plan: what is wanted.
        jobs: every pair by every method.
        records: of complete results, by key.
        damaged: what is wrong with results whose files are not those of the record, by key.
        stale: jobs without a result, whose pair has a result under another key.
        failures: attempts that failed, by key.
        superseded: results on disk that belong to no job.
    """

    plan: Plan
    jobs: list[Job]
    records: dict[str, Record]
    damaged: dict[str, str]
    stale: frozenset[str]
    failures: dict[str, list[Failure]]
    superseded: int

    def state(self, job: Job) -> State:
        """Of one pair by one method."""
        if job.key in self.records:
            return "complete"
        if len(self.failures.get(job.key, ())) >= self.plan.wanted.attempts:
            return "failed"
        if job.key in self.damaged:
            return "damaged"
        return "stale" if job.key in self.stale else "waiting"

    def to_do(self) -> list[Job]:
        """What a run computes."""
        return [job for job in self.jobs if self.state(job) not in ("complete", "failed")]

    def counts(self, method: str | None = None) -> Counter[State]:
        """Jobs by state, of one method or of all."""
        return Counter(self.state(job) for job in self.jobs if method in (None, job.method))

    def fingerprint(self) -> str:
        """SHA-256 of all complete results, with the hashes of their files: runs of equal fingerprint are equal."""
        results = {key: record.result for key, record in self.records.items()}
        return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Counts by method and state, the fingerprint, and the reasons of failures, for JSON."""
        return {
            "methods": {method.label: dict(self.counts(method.label)) for method in self.plan.methods},
            "fingerprint": self.fingerprint(),
            "superseded": self.superseded,
            "damaged": self.damaged,
            "failed": [asdict(failure) | {"attempts": len(self.failures[job.key])} for job, failure in self.failed()],
        }

    def failed(self) -> list[tuple[Job, Failure]]:
        """Jobs that failed for good, each with its last attempt."""
        return [(job, self.failures[job.key][-1]) for job in self.jobs if self.state(job) == "failed"]


def find_standing(
    store: Store,
    plan: Plan | None = None,
    *,
    quick: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Standing:
    """Look at the folder of a run.

    Args:
        store: the folder.
        plan: what is wanted; by default what was wanted last.
        quick: look at the sizes of files instead of reading them.
        progress: called as ``progress(stage, fraction)``.

    Raises:
        UserError: no such run, or its plan cannot be read any more.
    """
    plan = plan or read_plan(*store.plan())
    contents = Contents(store.folder / INPUTS)
    tell = progress or (lambda stage, fraction: None)
    contents.look(plan.files(), lambda fraction: tell("reading the scans", fraction))
    jobs = jobs_of(plan, contents)
    found = store.records()
    wanted = {job.key for job in jobs}
    records: dict[str, Record] = {}
    damaged: dict[str, str] = {}
    to_check = [key for key in found if key in wanted]
    with ThreadPoolExecutor(usable_cores()) as pool:
        checked = pool.map(lambda key: _first_sound(store, found[key], quick), to_check)
        for done, (key, outcome) in enumerate(zip(to_check, checked, strict=True)):
            tell("checking the results", done / len(to_check))
            if isinstance(outcome, Record):
                records[key] = outcome
            else:
                damaged[key] = outcome
    elsewhere = {(own[0].method, own[0].id) for key, own in found.items() if key not in wanted}
    stale = {job.key for job in jobs if job.key not in found and (job.method, job.id) in elsewhere}
    return Standing(plan, jobs, records, damaged, frozenset(stale), store.failures(), len(found.keys() - wanted))


def _first_sound(store: Store, records: list[Record], quick: bool) -> Record | str:
    """A record whose files are right; else what is wrong with them. Two runs may have recorded the same result."""
    reason = ""
    for record in records:
        reason = store.damage(record, quick) or ""
        if not reason:
            return record
    return reason
