from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import Quiet, Workers, say_failure, workers_of
from anamorph.cli.console import make_table, progress_bar, resumable, show, warn_of_page
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.workflows.propagation.run import Propagation

PLAN, RUN = "Plan and days", "Run"


def propagate(
    plan: Annotated[str, typer.Argument(help="DICOM folder of the planning CT, with its structure set.")],
    days: Annotated[list[str], typer.Argument(metavar="DAY...", help="DICOM folders of CTs or cone-beam CTs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; kept on interruption.")],
    series: common.SeriesChoice = None,
    structures: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[::roi=A,B]",
            help="Structure set or segmentation of the plan; by default the one in its folder, whole.",
            rich_help_panel=PLAN,
        ),
    ] = None,
    dose: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER",
            help="RTDOSE of the plan: carried to each day, and the doses of all days are added up on the plan.",
            rich_help_panel=PLAN,
        ),
    ] = None,
    conserve_energy: Annotated[
        bool,
        typer.Option(
            "--conserve-energy",
            help="Carry the energy that the mass of tissue received, rather than interpolate the dose.",
            rich_help_panel=PLAN,
        ),
    ] = False,
    points: Annotated[
        Path | None, typer.Option(help="Landmarks of the planning CT: for the error in mm.", rich_help_panel=PLAN)
    ] = None,
    day_points: Annotated[
        list[Path] | None,
        typer.Option(help="The same landmarks in a day; once for each day, in order.", rich_help_panel=PLAN),
    ] = None,
    method: common.MethodName = "convex",
    preset: common.Preset = "auto",
    settings: common.Settings = None,
    device: common.DeviceName = "auto",
    seed: common.Seed = 0,
    workers: Workers = "1",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on in OUT with the days that an earlier run finished.", rich_help_panel=RUN),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Carry contours, and the dose if given, from a planning CT to the scans of days, with the numbers of TG-132.

    Writes a folder for each day (contours, warped planning CT, registrations and dose as DICOM, report), the doses
    added up on the plan, and a page of all days.
    """
    from anamorph.batch.registration import RegistrationSettings
    from anamorph.workflows.propagation.run import propagate as run

    at_once = workers_of(workers)
    with resumable(out), progress_bar(quiet) as progress:
        found = run(
            common.of_series(plan, series),
            [common.of_series(day, series) for day in days],
            out,
            structures=structures,
            dose=dose,
            conserve_energy=conserve_energy,
            points=points,
            day_points=day_points or (),
            registration=RegistrationSettings(method, preset, tuple(settings or ()), device, seed),  # type: ignore[arg-type]
            workers=at_once,
            resume=resume,
            progress=progress,
            on_failure=say_failure,
        )
    warn_of_page(found.page_failure)
    if not quiet:
        _show(found)


def _show(found: Propagation) -> None:
    """Print a line for each number of each day, and where everything is."""
    table = make_table("day", "number", ">value", "result", title="AAPM TG-132")
    for name, day in found.record["days"].items():
        for criterion, told in day["tg132"].items():
            value = "" if told["value"] is None else f"{told['value']:.3g} {told['unit']}".strip()
            table.add_row(name, criterion, value, told["result"])
    show(table)
    say(f"{found.folder}: contours in DAY/dicom/structures.dcm; everything in {found.page}")
