"""The commands of ``anamorph cohort``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.common_options import TRIPS, VERDICT_TRIPPED, check_fail_on
from anamorph.cli.console import duration, progress_bar, show, warn_of_page
from anamorph.cli.guard import Group, add_command
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.batch.hand_out import News
    from anamorph.workflows.cohort.run import CohortStatus

WHERE, HOW = "Where", "How"
REPORT_FOLDER = "report"
_WATCH_EVERY_S = 2.0

cohort = typer.Typer(cls=Group, no_args_is_help=True, help="Register thousands of pairs, on many cores and machines.")

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes; by default one per core, as far as memory allows.", rich_help_panel=WHERE),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="A dask scheduler that runs, such as tls://node1:8786.", rich_help_panel=WHERE
    ),
]
Slurm = Annotated[bool, typer.Option("--slurm", help="Let SLURM start the workers.", rich_help_panel=WHERE)]
Pbs = Annotated[bool, typer.Option("--pbs", help="Let PBS start the workers.", rich_help_panel=WHERE)]
Jobqueue = Annotated[
    Path | None,
    typer.Option(metavar="TOML", help="Queue, account, memory, walltime: of dask-jobqueue.", rich_help_panel=WHERE),
]
Host = Annotated[
    str, typer.Option(help="Where the scheduler listens; by default this machine alone.", rich_help_panel=WHERE)
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
    scheduler: Scheduler = None,
    slurm: Slurm = False,
    pbs: Pbs = False,
    jobqueue_config: Jobqueue = None,
    host: Host = "127.0.0.1",
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
    choices = _choices(scheduler, slurm, pbs, jobqueue_config, host, tls, dashboard)
    _run(out, plan, workers, choices, quick, quiet)
    if fail_on is not None:
        _judge(out, fail_on)


def retry(
    run: Run,
    pair: Annotated[list[str] | None, typer.Option(metavar="ID", help="This pair alone; repeatable.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    slurm: Slurm = False,
    pbs: Pbs = False,
    jobqueue_config: Jobqueue = None,
    host: Host = "127.0.0.1",
    tls: Tls = True,
    dashboard: Dashboard = False,
    quick: Quick = False,
    quiet: Quiet = False,
) -> None:
    """Try pairs again that failed as often as they might, and do whatever else is left."""
    from anamorph.batch.records import Store
    from anamorph.errors import UserError
    from anamorph.workflows.cohort.run import find_status

    choices = _choices(scheduler, slurm, pbs, jobqueue_config, host, tls, dashboard)
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
    from anamorph.cli.cohort_display import failures_table, states_table
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
        from anamorph.cli.cohort_display import numbers_tables, states_table

        show(states_table(status), *numbers_tables(status))
        say(f"wrote {folder}")


def _choices(
    scheduler: str | None, slurm: bool, pbs: bool, jobqueue: Path | None, host: str, tls: bool, dashboard: bool
) -> dict[str, object]:
    from anamorph.errors import UserError

    if slurm and pbs:
        raise UserError("choose --slurm or --pbs, not both")
    batch_system = "slurm" if slurm else "pbs" if pbs else None
    return {
        "scheduler": scheduler,
        "batch_system": batch_system,
        "jobqueue": jobqueue,
        "host": host,
        "tls": tls,
        "dashboard": dashboard,
    }


def _run(
    folder: Path, plan: Path | None, workers: int | None, choices: dict[str, object], quick: bool, quiet: bool
) -> None:
    from anamorph.cli.cohort_display import cohort_display
    from anamorph.errors import RegistrationFailure, UserError
    from anamorph.workflows.cohort.run import run_cohort

    if workers is not None and workers < 1:
        raise UserError(f"--workers must be at least 1, not {workers}")
    try:
        with cohort_display(quiet) as listeners:
            news = run_cohort(folder, plan, workers=workers, choices=choices, quick=quick, listeners=listeners)
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
    from anamorph.cli.cohort_display import states_table
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
        show(f"{status.superseded} more results are of other inputs, settings or versions")


for function in (run, status, report, retry):
    add_command(cohort, function)
