"""The commands of ``anamorph cohort``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.common_options import TRIPS, VERDICT_TRIPPED, Workers, check_fail_on, workers_of
from anamorph.cli.console import duration, make_table, progress_bar, show, show_lines, warn_of_page
from anamorph.cli.guard import Group, add_command
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from rich.table import Table

    from anamorph.batch.cluster import Machines
    from anamorph.batch.hand_out import News
    from anamorph.evaluation.cohort import Evaluation
    from anamorph.workflows.cohort.run import CohortStatus, Listeners

WHERE, HOW = "Where", "How"
REPORT_FOLDER = "report"
_WATCH_EVERY_S = 2.0

cohort = typer.Typer(cls=Group, no_args_is_help=True, help="Register thousands of pairs, on many cores and machines.")

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
Host = Annotated[
    str | None,
    typer.Option(
        help="Where the scheduler listens; by default on this machine alone, with a batch system at its name.",
        rich_help_panel=WHERE,
    ),
]
Tls = Annotated[
    bool,
    typer.Option(
        "--tls/--no-tls", help="Take nobody without the certificate of this run, and encrypt.", rich_help_panel=WHERE
    ),
]
Dashboard = Annotated[bool, typer.Option("--dashboard", help="Serve the engine's dashboard.", rich_help_panel=WHERE)]
Quick = Annotated[
    bool, typer.Option("--quick", help="Look at the sizes of results, not at every byte.", rich_help_panel=HOW)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.", rich_help_panel=HOW)]
FailOn = Annotated[
    str | None,
    typer.Option(
        metavar="warn|fail",
        help="Exit with code 3 when the verdict of a pair is WARN or FAIL (warn), or FAIL (fail); all files are kept.",
        rich_help_panel=HOW,
    ),
]


def run(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="Data sets, pairs, methods, what is wanted.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="Folder of the run, new or begun.")],
    workers: Workers = None,
    host: Host = None,
    tls: Tls = True,
    dashboard: Dashboard = False,
    quick: Quick = False,
    fail_on: FailOn = None,
    quiet: Quiet = False,
) -> None:
    """Register every pair of a plan by every method of the plan.

    What is done is kept: after an interruption, a crash or another plan the same command does what is missing, was
    damaged, or is of other inputs or settings. A pair that fails is tried again on another worker, and stops no other;
    the exit code is then 1.
    """
    check_fail_on(fail_on)
    choices = _choices(host, tls, dashboard)
    _run(out, plan, workers, choices, quick, quiet)
    if fail_on is not None:
        _judge(out, fail_on)


def retry(
    run: Run,
    pair: Annotated[list[str] | None, typer.Option(metavar="ID", help="This pair alone; repeatable.")] = None,
    workers: Workers = None,
    host: Host = None,
    tls: Tls = True,
    dashboard: Dashboard = False,
    quick: Quick = False,
    quiet: Quiet = False,
) -> None:
    """Try pairs again that failed as often as they might, and do whatever else is left."""
    from anamorph.batch.records import Store
    from anamorph.errors import UserError
    from anamorph.workflows.cohort.run import find_status

    choices = _choices(host, tls, dashboard)
    store = Store(run)
    status = find_status(store, quick=True)
    failed = {job.key: job.id for job, _ in status.failed()}
    unknown = [one for one in pair or () if one not in failed.values()]
    if unknown:
        raise UserError(f"no pair '{unknown[0]}' failed; `anamorph cohort status` lists those that did")
    store.forgive(key for key, one in failed.items() if not pair or one in pair)
    _run(run, None, workers, choices, quick, quiet)


def status(
    run: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds.")] = False,
    quick: Quick = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what of a run is done, from what is on disk."""
    from anamorph.batch.records import Store
    from anamorph.workflows.cohort.run import find_status

    store = Store(run)
    if watch:
        _watch(store)
        return
    with progress_bar(quiet=json_output) as progress:
        status = find_status(store, quick=quick, progress=progress)
    if json_output:
        import json

        print(json.dumps(status.as_dict(), indent=2, ensure_ascii=False))
        return
    show(states_table(status))
    if status.failed():
        show(failures_table(status))
    _tell_superseded(status)


def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder to write; RUN/report by default, replaced.")
    ] = None,
    quick: Quick = False,
    quiet: Quiet = False,
) -> None:
    """Write the table of all results (Parquet and CSV), the page, and what `anamorph rank` takes of each method."""
    from anamorph.batch.records import Store
    from anamorph.workflows.cohort.report import write_report
    from anamorph.workflows.cohort.run import find_status

    with progress_bar(quiet) as progress:
        status = find_status(Store(run), quick=quick, progress=progress)
    folder = out or run / REPORT_FOLDER
    warn_of_page(write_report(folder, status))
    if not quiet:
        show(states_table(status), *numbers_tables(status))
        say(f"wrote {folder}")


def _choices(host: str | None, tls: bool, dashboard: bool) -> dict[str, object]:
    """What the user asked for of :class:`~anamorph.batch.cluster.Machines`."""
    return {"tls": tls, "dashboard": dashboard} | ({} if host is None else {"host": host})


def _run(
    folder: Path, plan: Path | None, workers: str | None, choices: dict[str, object], quick: bool, quiet: bool
) -> None:
    from anamorph.errors import RegistrationFailure
    from anamorph.workflows.cohort.run import run_cohort

    where = None if workers is None else workers_of(workers)
    try:
        with cohort_display(quiet) as listeners:
            news = run_cohort(folder, plan, workers=where, choices=choices, quick=quick, listeners=listeners)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; what is done is kept in {folder}, the same command goes on from there"
        ) from None
    _finish(folder, news, quiet)
    failed = news.failed + news.failed_before
    if failed:
        raise RegistrationFailure(
            f"{failed} pairs failed; `anamorph cohort status {folder}` says why, `anamorph cohort retry` tries again"
        )


def _judge(folder: Path, fail_on: str) -> None:
    """End with exit code 3 if the verdict of a pair is one of those that ``--fail-on`` names."""
    from anamorph.batch.records import Store
    from anamorph.errors import UserError
    from anamorph.workflows.cohort.report import verdicts_of
    from anamorph.workflows.cohort.run import find_status

    verdicts = verdicts_of(find_status(Store(folder), quick=True))
    if not verdicts:
        raise UserError(f"{folder} has no verdicts for --fail-on; drop metrics = false from the plan")
    tripped = [(name, verdict) for name, verdict in verdicts.items() if verdict.status in TRIPS[fail_on]]
    if tripped:
        name, verdict = tripped[0]
        first = f"the first ({name}) is {verdict.status}: {verdict.reason}"
        say(f"{len(tripped)} of {len(verdicts)} pairs trip --fail-on {fail_on}, {first}; everything is in {folder}")
        raise typer.Exit(VERDICT_TRIPPED)


def _finish(folder: Path, news: News, quiet: bool) -> None:
    if news.total:
        say(f"{news.complete} pairs in {duration(news.seconds)}, {news.per_second:.3g} per second", quiet)
    else:
        say("nothing is left to do", quiet)
    say(f"table and page: anamorph cohort report {folder}", quiet)


def _watch(store: object) -> None:
    """Show the states again and again until Ctrl-C, or until nothing is left."""
    import time

    from rich.console import Console
    from rich.live import Live

    from anamorph.batch.records import Store
    from anamorph.workflows.cohort.run import find_status

    assert isinstance(store, Store)
    status = find_status(store, quick=True)
    with Live(states_table(status), console=Console(), auto_refresh=False) as live:
        while status.to_do():
            time.sleep(_WATCH_EVERY_S)
            status = find_status(store, status.plan, quick=True)
            live.update(states_table(status), refresh=True)


def _tell_superseded(status: CohortStatus) -> None:
    if status.superseded:
        show_lines(f"{status.superseded} more results are of other inputs, settings or versions")


for function in (run, status, report, retry):
    add_command(cohort, function)


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
