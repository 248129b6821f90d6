"""``anamorph bids``: a data set of BIDS registered, called as BIDS Apps are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import RUN, Quiet, Workers, say_failure, workers_of
from anamorph.cli.console import make_table, progress_bar, show
from anamorph.cli.logs import say
from anamorph.errors import RegistrationFailure, UserError

if TYPE_CHECKING:
    from anamorph.batch.run import Ran
    from anamorph.data.bids import BidsScan

SCANS = "Scans"
LEVELS = ("participant", "group")
Labels = list[str] | None


def bids(
    bids_dir: Annotated[Path, typer.Argument(help="Data set of BIDS.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the derivatives, new or begun.")],
    level: Annotated[
        str, typer.Argument(metavar="participant|group", help="Register scans, or write the table of all.")
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    participant_label: Annotated[
        Labels,
        typer.Option(
            "--participant-label",
            "--participant_label",
            metavar="LABEL...",
            help="These participants alone, with or without sub-; several may follow.",
            rich_help_panel=SCANS,
        ),
    ] = None,
    session_label: Annotated[
        Labels,
        typer.Option(
            "--session-label",
            "--session_label",
            metavar="LABEL...",
            help="These sessions alone; several may follow.",
            rich_help_panel=SCANS,
        ),
    ] = None,
    suffix: Annotated[str, typer.Option(help="Kind of scan, such as T1w or bold.", rich_help_panel=SCANS)] = "T1w",
    entity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="What names must have, such as run=1; repeatable.", rich_help_panel=SCANS
        ),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(metavar="SCAN", help="What all are brought to; else sessions to one.", rich_help_panel=SCANS),
    ] = None,
    template_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its name in space-NAME; by its file otherwise.", rich_help_panel=SCANS),
    ] = None,
    reference_session: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="The session that stays; the first otherwise.", rich_help_panel=SCANS),
    ] = None,
    same_patient: Annotated[
        bool,
        typer.Option(
            "--same-patient",
            help="For sessions: rigid start and stiff deformation.",
            rich_help_panel=common.REGISTRATION,
        ),
    ] = False,
    method: common.MethodName = "convex",
    preset: common.Preset = "auto",
    settings: common.Settings = None,
    device: common.DeviceName = "auto",
    seed: common.Seed = 0,
    workers: Workers = None,
    n_cpus: Annotated[
        int | None,
        typer.Option("--n-cpus", "--n_cpus", help="CPU cores in all; all by default.", rich_help_panel=RUN),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Register a BIDS data set to a template, or the sessions of each participant to one, and write BIDS derivatives.

    What is done is kept: after an interruption the same command does what is missing, was damaged, or is of other scans
    or settings. A scan that fails is one line and stops no other; the exit code is then 1.
    """
    from anamorph.data.bids import find_scans, session_pairs
    from anamorph.runtime.threads import limit_cores

    if level not in LEVELS:
        raise UserError(f"the level is participant or group, not '{level}'")
    if level == "group":
        _write_group(out, quiet)
        return
    participants, sessions = _with_more(participant_label, session_label, more)
    limit_cores(n_cpus)
    at_once = workers_of(workers)
    scans = find_scans(bids_dir, suffix, participants, sessions, _entities(entity))
    pairs: list[tuple[Path, BidsScan]]
    if template is None:
        if template_name is not None:
            raise UserError("--template-name names the scan of --template; give that too")
        pairs = [(fixed.path, moving) for fixed, moving in session_pairs(scans, reference_session)]
    else:
        if reference_session is not None:
            raise UserError("--reference-session and --template both say what stays; drop one")
        pairs = [(template, scan) for scan in scans]
    _register(bids_dir, out, pairs, method, preset, settings, device, seed, template_name, same_patient, at_once, quiet)


def _with_more(participants: Labels, sessions: Labels, more: Labels) -> tuple[list[str], list[str]]:
    """The labels that BIDS Apps take one after the other."""
    if not more:
        return participants or [], sessions or []
    if bool(participants) == bool(sessions):
        raise UserError(f"'{more[0]}' belongs to no option; repeat --participant-label and --session-label for each")
    return ([*participants, *more], []) if participants else ([], [*(sessions or []), *more])


def _entities(given: list[str] | None) -> dict[str, str]:
    wrong = next((one for one in given or () if "=" not in one), None)
    if wrong is not None:
        raise UserError(f"--entity wants KEY=VALUE such as run=1, not '{wrong}'")
    return dict(one.split("=", 1) for one in given or ())


def _register(
    bids_dir: Path,
    out: Path,
    pairs: list[tuple[Path, BidsScan]],
    method: str,
    preset: str,
    settings: list[str] | None,
    device: str,
    seed: int,
    space: str | None,
    same_patient: bool,
    workers: int | str,
    quiet: bool,
) -> None:
    from anamorph.batch.registration import RegistrationSettings
    from anamorph.workflows.bids import register_dataset

    wanted = RegistrationSettings(method, preset, tuple(settings or ()), device, seed)  # type: ignore[arg-type]
    try:
        with progress_bar(quiet) as progress:
            ran = register_dataset(
                pairs,
                bids_dir,
                out,
                wanted,
                space=space,
                same_patient=same_patient,
                workers=workers,
                progress=progress,
                on_failure=say_failure,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; finished scans are kept in {out}, the same command goes on") from None
    _show(ran, quiet)
    if ran.failed:
        raise RegistrationFailure(f"{len(ran.failed)} of {len(pairs)} scans failed; the same command tries them again")


def _show(ran: Ran, quiet: bool) -> None:
    if quiet:
        return
    table = make_table("registration", "verdict", "reason")
    for name, record in ran.records.items():
        table.add_row(name, record["verdict"]["status"], "; ".join(record["verdict"]["reasons"][:1]))
    show(table)
    if ran.reused:
        say(f"{len(ran.reused)} scans were finished by an earlier run")


def _write_group(out: Path, quiet: bool) -> None:
    from anamorph.workflows.bids import write_group

    path, rows = write_group(out)
    if not quiet:
        table = make_table("verdict", ">registrations")
        for status in sorted({row["verdict"] for row in rows}):
            table.add_row(status, str(sum(row["verdict"] == status for row in rows)))
        show(table)
    say(f"wrote {path}", quiet)
