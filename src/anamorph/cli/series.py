from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import Quiet, Workers, say_failure, workers_of
from anamorph.cli.console import make_table, progress_bar, resumable, show, show_lines, warn_of_page
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.workflows.series.results import SeriesResult

SERIES, RUN = "Series", "Run"
OFF = "off"


def series(
    scans: Annotated[list[str], typer.Argument(metavar="4D|SCAN...", help="One 4D file, or the frames in order.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; kept on interruption.")],
    reference: Annotated[
        int | None,
        typer.Option(
            metavar="FRAME",
            help="The frame that stays, from 0; by default the first of a cycle, else the one most like all others.",
            rich_help_panel=SERIES,
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            metavar="reference|mean",
            help="Register to the reference, or to the mean of all frames in its place.",
            rich_help_panel=SERIES,
        ),
    ] = "reference",
    iterations: Annotated[int, typer.Option(help="With --to mean: at most so many.", rich_help_panel=SERIES)] = 2,
    smooth: Annotated[
        str,
        typer.Option(
            metavar="auto|off|STRENGTH",
            help="Smoothing of the velocities over time; auto: cross-validation chooses.",
            rich_help_panel=SERIES,
        ),
    ] = "auto",
    cyclic: Annotated[
        bool, typer.Option("--cyclic", help="The first frame follows the last: a heart beat.", rich_help_panel=SERIES)
    ] = False,
    frame_time: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Between frames, if the header lacks it.", rich_help_panel=SERIES),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Label map of the reference: carried to every frame, for volumes and strain.", rich_help_panel=SERIES
        ),
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(
            metavar="i|j|k",
            help="Axis of the grid that labels turn around, for strain; found from the labels otherwise.",
            rich_help_panel=SERIES,
        ),
    ] = None,
    keep_rigid: common.KeepRigid = None,
    keep_volume: common.KeepVolume = None,
    stiffness: common.Stiffness = None,
    sliding: common.Sliding = None,
    no_partner: common.NoPartner = None,
    method: common.MethodName = "convex",
    preset: common.Preset = "auto",
    settings: common.Settings = None,
    device: common.DeviceName = "auto",
    seed: common.Seed = 0,
    workers: Workers = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in OUT with what an earlier run finished.", rich_help_panel=RUN)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Register every frame of a series (a heart beat, a breath, a scan over time) to one frame or to their mean.

    Writes the warped frames as one 4D file, the maps of every frame, labels carried to every frame, the motion and
    strain over time as a table, and a page.
    """
    from anamorph.batch.registration import RegistrationSettings
    from anamorph.workflows.series.run import register_series
    from anamorph.workflows.series.settings import SeriesSettings

    at_once = workers_of(workers)
    with resumable(out), progress_bar(quiet) as progress:
        result = register_series(
            scans[0] if len(scans) == 1 else scans,
            out,
            labels=labels,
            keep_rigid=common.kept(keep_rigid),
            keep_volume=common.kept(keep_volume),
            stiffness=stiffness,
            sliding=sliding,
            no_partner=no_partner,
            settings=SeriesSettings(reference, to, iterations, _strength(smooth), cyclic, _axis(axis)),  # type: ignore[arg-type]
            registration=RegistrationSettings(method, preset, tuple(settings or ()), device, seed),  # type: ignore[arg-type]
            frame_s=frame_time,
            workers=at_once,
            resume=resume,
            progress=progress,
            on_failure=say_failure,
        )
    warn_of_page(result.page_failure)
    if not quiet:
        _show(result)


def _strength(text: str) -> float | Literal["auto"]:
    from anamorph.errors import UserError

    if text == "auto":
        return "auto"
    try:
        return 0.0 if text == OFF else float(text)
    except ValueError:
        raise UserError(f"--smooth takes auto, off or a strength >= 0, not '{text}'") from None


def _axis(text: str | None) -> int | None:
    from anamorph.errors import UserError

    if text is None:
        return None
    if text not in ("i", "j", "k"):
        raise UserError(f"--axis takes i, j or k, not '{text}'")
    return "ijk".index(text)


def _show(result: SeriesResult) -> None:
    from anamorph.geometry.lengths import length_text
    from anamorph.workflows.series.results import DIRECTIONS

    told = result.summary
    show_lines(
        f"reference: frame {result.reference}; smoothing over time: {result.smoothing:.3g}; the body moves by up to "
        f"{length_text(told['displacement_mm'], 2)}",
        f"difference from the target: {told['residual_before']:.3f} before, {told['residual_after']:.3f} after, as a "
        "share of its standard deviation",
    )
    if told["volume_ml"]:
        strains = (f">{name} strain, %" for name in DIRECTIONS)
        table = make_table("label", ">largest, ml", ">smallest, ml", *strains, title="Peaks over time")
        for label, volume in told["volume_ml"].items():
            peaks = told["peak_strain"][label]
            cells = (f"{100 * peaks[name]['strain']:.1f}" if name in peaks else "" for name in DIRECTIONS)
            table.add_row(str(label), f"{volume['largest']:.1f}", f"{volume['smallest']:.1f}", *cells)
        show(table)
    for line in result.warning_lines:
        say(f"warning: {line}")
    say(f"{result.warped}: pictures and curves in {result.page}")
