from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import Quiet, Workers, say_failure, workers_of
from anamorph.cli.console import make_table, progress_bar, resumable, show, show_lines, warn_of_page
from anamorph.cli.guard import Group, add_command
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.data.dataset import Case
    from anamorph.workflows.template.build import Template

SCANS, TEMPLATE, RUN = "Scans", "Template", "Run"

template = typer.Typer(
    cls=Group, no_args_is_help=True, help="One image that stands for many scans, and the way of every scan to it."
)


def build(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; kept on interruption.")],
    scans: Annotated[
        list[Path] | None, typer.Argument(metavar="[SCAN...]", help="Image files of one kind; or --dataset.")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="A *_dataset.json, or the folder that holds it; labels vote.", rich_help_panel=SCANS),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Scans of the data set to take, repeatable; all otherwise.", rich_help_panel=SCANS),
    ] = None,
    start: Annotated[
        str,
        typer.Option(metavar="SCAN|mean", help="A scan, or the mean with aligned centres.", rich_help_panel=TEMPLATE),
    ] = "mean",
    iterations: Annotated[int, typer.Option(help="At most so many.", rich_help_panel=TEMPLATE)] = 4,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            help="Stop at a mean field this small; a tenth of the scans' spread otherwise.",
            rich_help_panel=TEMPLATE,
        ),
    ] = None,
    sharpen: Annotated[
        float, typer.Option(help="Add so much of what smoothing by a voxel removes.", rich_help_panel=TEMPLATE)
    ] = 0.0,
    method: common.MethodName = "convex",
    preset: common.Preset = "auto",
    settings: common.Settings = None,
    masks: common.Masks = False,
    device: common.DeviceName = "auto",
    seed: common.Seed = 0,
    workers: Workers = None,
    leave_out_failed: common.LeaveOutFailed = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in OUT with what an earlier run finished.", rich_help_panel=RUN)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Build an unbiased template of many scans: mean intensities on the mean shape, by iteration.

    Writes the template, with labels the map they vote for, the transforms of every scan in both directions, and a page
    with the template round by round.
    """
    from anamorph.batch.registration import RegistrationSettings
    from anamorph.workflows.template.build import build_template
    from anamorph.workflows.template.scans import TemplateSettings

    at_once = workers_of(workers)
    cases = _cases(scans or [], dataset, split or [])
    with resumable(out), progress_bar(quiet) as progress:
        result = build_template(
            cases,
            out,
            settings=TemplateSettings(start, iterations, tolerance, sharpen, leave_out_failed),
            registration=RegistrationSettings(method, preset, tuple(settings or ()), device, seed, masks),  # type: ignore[arg-type]
            workers=at_once,
            resume=resume,
            progress=progress,
            on_failure=say_failure,
        )
    warn_of_page(result.page_failure)
    if not quiet:
        _show(result)


def _cases(scans: list[Path], dataset: Path | None, splits: list[str]) -> tuple[Case, ...]:
    from anamorph.data.manifest import read_dataset
    from anamorph.errors import UserError
    from anamorph.workflows.template.scans import cases_of

    if bool(scans) == (dataset is not None):
        raise UserError("name the scans, or a data set with --dataset")
    for name in splits:
        if name not in ("training", "validation", "test"):
            raise UserError(f"--split must be training, validation or test, not '{name}'")
    if dataset is None:
        if splits:
            raise UserError("--split is for --dataset; name only the scans that are wanted")
        return cases_of(scans)
    return tuple(case for case in read_dataset(dataset).cases if not splits or case.split in splits)


def _show(result: Template) -> None:
    from anamorph.geometry.lengths import length_text, numbers_mm

    table = make_table("iteration", ">mean field, mm", ">single fields, mm", ">change, %", title="Convergence")
    for told in result.iterations[1:]:
        numbers = (
            *numbers_mm([told.mean_field_rms_mm], 4),
            *numbers_mm([told.spread_mm], 3),
            f"{100 * (told.change or 0):.2f}",
        )
        table.add_row(str(told.number), *numbers)
    show(table)
    overlaps = [told["dice"] for told in result.scans.values() if told["dice"] is not None]
    if overlaps:
        show_lines(f"Dice of the scans with the template's labels: {sum(overlaps) / len(overlaps):.3f}")
    show_lines(f"mean field of the scans registered to the final template: {length_text(result.residual_rms_mm, 4)}")
    if not result.converged:
        show_lines("not converged within the tolerance; pass --iterations with a larger number and --resume to go on")
    for key in result.failed:
        say(f"left out: {key}")
    say(f"{result.image}: pictures in {result.page}")


add_command(template, build)
