from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import (
    RUN,
    DataSet,
    Quiet,
    Workers,
    say_failure,
    three_whole_numbers,
    two_numbers,
    workers_of,
)
from anamorph.cli.console import make_table, progress_bar, show
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.workflows.preprocess.made import Preprocessed

GEOMETRY, VALUES = "Geometry", "Values"


def preprocess(
    dataset: DataSet,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new data set; appears when it is complete.")],
    spacing: Annotated[
        float | None, typer.Option(metavar="MM", help="Isotropic voxel size.", rich_help_panel=GEOMETRY)
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="I,J,K", help="Crop and pad to so many voxels.", rich_help_panel=GEOMETRY),
    ] = None,
    crop: Annotated[
        str, typer.Option(help="Where the shape is centred: none (field of view) or body.", rich_help_panel=GEOMETRY)
    ] = "none",
    align: Annotated[
        str,
        typer.Option(
            help="Map to the reference and its grid: none, translation, rigid or affine.", rich_help_panel=GEOMETRY
        ),
    ] = "none",
    reference: Annotated[
        str | None, typer.Option(metavar="SCAN", help="For --align: such as 0001_0000.", rich_help_panel=GEOMETRY)
    ] = None,
    reference_dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="The data set of the reference, if it is another: several cohorts are brought to one scan.",
            rich_help_panel=GEOMETRY,
        ),
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="CT: a channel that is 0 at LOW HU and 1 at HIGH; repeatable.",
            rich_help_panel=VALUES,
        ),
    ] = None,
    normalise: Annotated[
        str,
        typer.Option(help="Other scans, and CT without windows: none, percentile or zscore.", rich_help_panel=VALUES),
    ] = "none",
    workers: Workers = None,
    leave_out_failed: common.LeaveOutFailed = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier data set.", rich_help_panel=RUN)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Bring all scans of a data set to one spacing, shape, place and range of values; labels and points go along.

    The new data set has its own manifest, and in its folder records what `anamorph map-back` needs to bring results to
    the original scans. After an interruption the same command goes on where it stopped.
    """
    from anamorph.data.manifest import read_dataset
    from anamorph.errors import UserError
    from anamorph.workflows.preprocess.run import preprocess_dataset
    from anamorph.workflows.preprocess.steps import PreprocessSettings

    at_once = workers_of(workers)
    settings = PreprocessSettings(
        spacing_mm=spacing,
        shape=None if shape is None else three_whole_numbers("--shape", shape),
        crop=crop,  # type: ignore[arg-type]  # checked with the rest of the settings
        windows=tuple(two_numbers("--window", one) for one in window or ()),
        normalise=normalise,  # type: ignore[arg-type]
        align=align,  # type: ignore[arg-type]
        reference=reference,
    )
    if reference_dataset is not None and reference is None:
        raise UserError("--reference-dataset holds the scan that --reference names; add --reference and --align")
    source, references = read_dataset(dataset), None if reference_dataset is None else read_dataset(reference_dataset)
    try:
        with progress_bar(quiet) as progress:
            result = preprocess_dataset(
                source,
                settings,
                out,
                workers=at_once,
                references=references,
                overwrite=overwrite,
                leave_out_failed=leave_out_failed,
                progress=progress,
                on_failure=say_failure,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; finished scans are kept in {out}.partial, the same command goes on from there"
        ) from None
    if not quiet:
        _show(result, bool(window))


def _show(result: Preprocessed, windows: bool) -> None:
    table = make_table("scan", ">voxels", ">spacing", "aligned", ">points outside", title=str(result.dataset.path))
    for key, record in result.records.items():
        grid, outside = record["preprocessed"], record["points_outside"]
        spacing = (sum(row[axis] ** 2 for row in grid["affine"][:3]) ** 0.5 for axis in range(3))
        alignment = record["alignment"].get("model", "")
        lost = ", ".join(f"{count} {kind}" for kind, count in outside.items() if count)
        table.add_row(
            key, " x ".join(map(str, grid["shape"])), " x ".join(f"{s:.3g}" for s in spacing) + " mm", alignment, lost
        )
    show(table)
    if result.reused:
        say(f"{result.reused} scans were finished by an earlier run")
    for key in result.failed:
        say(f"left out: {key}")
    if windows and not any("windows" in record["intensity"] for record in result.records.values()):
        say("warning: no scan is a CT, so no window was applied; name the modality CT in the manifest if it is")
    if len(result.shapes) > 1:
        say(f"warning: {len(result.shapes)} different shapes; Learn2Reg fields need one: add --shape or --align")


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


def map_back(
    transform: Annotated[
        Path, typer.Argument(metavar="T", help="A transform found between preprocessed scans: fixed to moving points.")
    ],
    fixed: Annotated[Path, typer.Option(help="Record of the fixed scan: records/0001_0000.json of the data set.")],
    moving: Annotated[Path, typer.Option(help="Record of the moving scan.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")],
    to: Annotated[
        str | None, typer.Option(help="Format as for `anamorph convert`; by the suffix of OUT otherwise.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Turn a transform between preprocessed scans into the one between the original scans.

    Images and labels of a preprocessed scan go back by `anamorph apply records/SCAN.tfm --to FILE --like ORIGINAL`.
    """
    from anamorph.cli.apply import chosen_kind
    from anamorph.cli.common_options import refuse_existing
    from anamorph.transforms.files import read_transform, write_transform
    from anamorph.workflows.preprocess.record import map_back as mapped_back
    from anamorph.workflows.preprocess.record import read_record

    kind = chosen_kind(out, to)
    refuse_existing(out, overwrite, (transform, fixed, moving))
    before, after = read_record(fixed), read_record(moving)
    found = read_transform(transform, grid=before.preprocessed, moving_grid=after.preprocessed)
    write_transform(mapped_back(found, before, after), out, kind, before.original, after.original)
    say(f"{out}: {kind}, from the original {before.key} to the original {after.key}")
