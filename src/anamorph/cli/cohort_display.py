"""What a running cohort shows: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anamorph.cli.console import progress_bar
from anamorph.cli.logs import say
from anamorph.cli.training_display import duration

if TYPE_CHECKING:
    from anamorph.batch.cluster import Machines
    from anamorph.batch.hand_out import News
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
