"""The command that makes a two-dimensional data set of slices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import RUN, DataSet, Quiet, Workers, say_failure, workers_of
from anamorph.cli.console import make_table, progress_bar, show
from anamorph.cli.logs import say


def slices(
    dataset: DataSet,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new data set; appears when it is complete.")],
    reference: Annotated[str, typer.Option(metavar="SCAN", help="Whose plane it is, such as 0001_0000.")],
    plane: Annotated[str, typer.Option(help="axial, coronal or sagittal.")] = "axial",
    at: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Where the plane is, RAS mm; by default where the most labels are."),
    ] = None,
    label: Annotated[int | None, typer.Option(help="The plane with most of this label, in place of --at.")] = None,
    spacing: Annotated[float | None, typer.Option(metavar="MM", help="Size of the pixels.")] = None,
    method: Annotated[str, typer.Option(help="Brings the reference to each scan.")] = "deeds",
    workers: Workers = None,
    leave_out_failed: common.LeaveOutFailed = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier data set.", rich_help_panel=RUN)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make a two-dimensional data set: one slice of each scan, without the motion through the plane.

    Each scan is registered to the reference and shows the surface that corresponds to its plane; how patients differ
    within the plane is kept. After an interruption the same command goes on where it stopped.
    """
    from anamorph.data.manifest import read_dataset
    from anamorph.workflows.preprocess.slices import SliceSettings, make_slices

    at_once = workers_of(workers)
    settings = SliceSettings(reference, plane, at, label, spacing, method)  # type: ignore[arg-type]  # checked there
    try:
        with progress_bar(quiet) as progress:
            result = make_slices(
                read_dataset(dataset),
                settings,
                out,
                workers=at_once,
                overwrite=overwrite,
                leave_out_failed=leave_out_failed,
                progress=progress,
                on_failure=say_failure,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; finished slices are kept in {out}.partial, the same command goes on from there"
        ) from None
    if quiet:
        return
    table = make_table("scan", ">out of the plane, mm", title=str(result.dataset.path))
    for key, record in result.records.items():
        low, high = record["through_plane_mm"]
        table.add_row(key, f"{low:+.1f} to {high:+.1f}")
    show(table)
    if result.reused:
        say(f"{result.reused} slices were finished by an earlier run")
    for key in result.failed:
        say(f"left out: {key}")
