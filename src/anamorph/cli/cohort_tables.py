"""A run of a cohort on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anamorph.cli.console import make_table

if TYPE_CHECKING:
    from rich.table import Table

    from anamorph.evaluation.cohort import Evaluation
    from anamorph.workflows.cohort.run import CohortStatus

_MOST_FAILURES = 20


def states_table(status: CohortStatus) -> Table:
    """Pairs by method and state."""
    from anamorph.batch.status import STATES

    table = make_table("method", *(f">{state}" for state in STATES), ">all")
    for method in status.kinds:
        counts = status.counts(method)
        table.add_row(method, *(str(counts[state]) for state in STATES), str(counts.total()))
    return table


def failures_table(status: CohortStatus) -> Table:
    """The first pairs that failed for good, with the reason and the worker of the last attempt."""
    from rich.markup import escape

    failed = status.failed()
    more = f", the first {_MOST_FAILURES}" if len(failed) > _MOST_FAILURES else ""
    table = make_table("pair", "method", ">attempts", "worker", "reason", title=f"{len(failed)} failed{more}")
    for job, failure in failed[:_MOST_FAILURES]:
        attempts = str(len(status.failures[job.key]))
        words = job.id, job.method, attempts, f"{failure.worker} {failure.host}", failure.reason
        table.add_row(*(escape(_printable(word)) for word in words))
    return table


def numbers_tables(status: CohortStatus) -> list[Table]:
    """Means of every method, one table per data set; none if nothing was measured."""
    from rich.markup import escape

    from anamorph.evaluation.metrics.metric import shown_columns
    from anamorph.workflows.cohort.report import evaluations_of

    by_task: dict[str, list[Evaluation]] = {}
    for one in evaluations_of(status):
        if any(case.scores for case in one.cases):
            by_task.setdefault(one.task, []).append(one)
    tables = []
    for task, own in by_task.items():
        columns = [own[0].correct_aggregates(baseline=True), *(one.correct_aggregates() for one in own)]
        heads = ("identity", *(one.method for one in own))
        table = make_table("", *(f">{head}" for head in heads), title=escape(_printable(task)) + ", means")
        for shown in shown_columns():
            if any(shown.name in column for column in columns):
                means = (f"{column[shown.name]['mean']:.4f}" if shown.name in column else "" for column in columns)
                table.add_row(shown.name, *means)
        tables.append(table)
    return tables


def _printable(text: str) -> str:
    """Without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
