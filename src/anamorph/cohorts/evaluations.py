"""The records of a run as evaluations: one per data set and method, in the form that pages, JSON and ranks know."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace

from anamorph.cohorts.job import Job
from anamorph.cohorts.standing import STATES, Standing
from anamorph.cohorts.store import Record
from anamorph.data import Dataset
from anamorph.evaluation.cohort import CaseResult, Evaluation
from anamorph.evaluation.learn2reg.config import Measure, measure_from
from anamorph.evaluation.numbers import Scores, scores_from
from anamorph.reading import understood


def evaluations_of(standing: Standing) -> list[Evaluation]:
    """Every method on every data set of a plan; pairs without a complete result have an error instead of numbers."""
    datasets = {planned.id: planned.dataset for planned in standing.plan.pairs}
    groups: dict[tuple[int, str], list[Job]] = {}
    for job in standing.jobs:
        groups.setdefault((id(datasets[job.id]), job.method), []).append(job)
    return [_evaluation(jobs, datasets[jobs[0].id], standing) for jobs in groups.values()]


def scores_of(record: Record) -> tuple[Scores, Scores]:
    """Of the registration and of the identity."""
    with of_this_version(record):
        metrics = record.result["metrics"]
        return scores_from(**metrics["scores"]), scores_from(**metrics["baseline"])


def _evaluation(jobs: list[Job], dataset: Dataset, standing: Standing) -> Evaluation:
    records = [standing.records.get(job.key) for job in jobs]
    return Evaluation(
        task=dataset.name,
        method=jobs[0].method,
        measures=_shared_measures(record for record in records if record is not None),
        cases=tuple(_case(job, record, standing) for job, record in zip(jobs, records, strict=True)),
        label_names=dict(dataset.labels),
    )


def _case(job: Job, record: Record | None, standing: Standing) -> CaseResult:
    empty = CaseResult(job.id, job.pair.fixed.key, job.pair.moving.key)
    if record is None or "metrics" not in record.result:
        return replace(empty, error=why_missing(job, standing))
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


def why_missing(job: Job, standing: Standing) -> str:
    """Why a job has no numbers, in one line."""
    state = standing.state(job)
    if state == "complete":
        return "not measured: the plan says metrics = false"
    attempts = standing.failures.get(job.key)
    if attempts:
        return f"{attempts[-1].reason} (attempt {len(attempts)} of {standing.plan.wanted.attempts})"
    return standing.damaged.get(job.key) or f"{state}: {STATES[state]}"


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
