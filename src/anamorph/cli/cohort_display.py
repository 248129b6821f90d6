"""A run of a cohort on the terminal: how far it is, and tables of what is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anamorph.cli.console import duration, make_table, progress_bar
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from rich.table import Table

    from anamorph.batch.cluster import Machines
    from anamorph.batch.hand_out import News
    from anamorph.evaluation.cohort import Evaluation
    from anamorph.workflows.cohort.run import CohortStatus, Listeners

_LINE_EVERY_S = 30.0


@contextmanager
def cohort_display(quiet: bool) -> Iterator[Listeners]:
    """Give what a run tells."""
    from anamorph.workflows.cohort.run import Listeners

    with progress_bar(quiet) as bar:
        last_line = 0.0

        def tell(news: News) -> None:
            nonlocal last_line
            ends = news.complete + news.failed == news.total
            if not sys.stderr.isatty():
                if time.monotonic() - last_line < _LINE_EVERY_S and not ends:
                    return
                last_line = time.monotonic()
            bar(_in_words(news), (news.complete + news.failed) / news.total)

        def begin(status: CohortStatus, machines: Machines) -> None:
            say(_begin_in_words(status, machines), quiet)

        def dashboard(address: str) -> None:
            say(f"dashboard: {address}", quiet)

        yield Listeners(bar, begin, dashboard, tell)


def _begin_in_words(status: CohortStatus, machines: Machines) -> str:
    counts = status.counts()
    todo = len(status.to_do())
    parts = [f"{len(status.jobs)} pairs", f"{counts['complete']} complete", f"{todo} to do"]
    parts += [f"{counts[state]} {state}" for state in ("stale", "damaged", "failed") if counts[state]]
    if not todo:
        return ", ".join(parts)
    where = f"scheduler {machines.scheduler}" if machines.scheduler else _workers_in_words(machines)
    return f"{', '.join(parts)}; {where}"


def _workers_in_words(machines: Machines) -> str:
    if machines.batch_system:
        return f"{machines.workers} workers of {machines.batch_system.upper()}"
    words = [f"{machines.workers} processes of {machines.threads} threads"] if machines.workers else []
    words += [f"{len(machines.gpus)} GPUs"] if machines.gpus else []
    return " and ".join(words)


def _in_words(news: News) -> str:
    if not news.workers:
        return "waiting for workers"
    parts = [f"{news.complete} of {news.total} done"]
    parts += [f"{news.failed} failed"] if news.failed else []
    parts += [f"{news.running} running", f"{news.per_second:.3g}/s"]
    if news.remaining_seconds is not None:
        parts.append(f"{duration(news.remaining_seconds)} left")
    return ", ".join(parts)


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
