from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import RUN, DataSet, Quiet, Workers, say_failure, three_whole_numbers, workers_of
from anamorph.cli.console import make_table, progress_bar, show, warn_of_page
from anamorph.cli.guard import Group, add_command
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.workflows.supervoxels.run import Preparation


def table(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="results.json of each method, or the folders with them.")
    ],
    labels: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Labels that get a mean of their own, such as 1,2,3,6.")
    ] = None,
    published: Annotated[
        bool,
        typer.Option("--published", help="Organs that a scan lacks count 0, as in the publication, not as nothing."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="CSV", help="File to write the numbers to.")
    ] = None,
) -> None:
    """Compare methods organ by organ: Dice in per cent, mean and standard deviation over the pairs.

    Each RUN is what `anamorph evaluate PREDICTIONS --dataset JSON -o RUN` wrote for one method, all on the same pairs.
    """
    from anamorph.errors import UserError
    from anamorph.evaluation.cohort import OrganTable
    from anamorph.evaluation.cohort_files import read_evaluation

    try:
        chosen = [int(part) for part in labels.split(",")] if labels else []
    except ValueError:
        raise UserError(f"--labels wants whole numbers such as 1,2,3,6, not '{labels}'") from None
    evaluations = [read_evaluation(path) for path in runs]
    found = OrganTable.of(evaluations, chosen, published)
    printed = make_table("method", *(f">{name}" for name in found.columns), title="Dice, %: mean ± standard deviation")
    for method, row in found.rows.items():
        cells = (f"{100 * one.mean:.1f} ± {100 * one.std:.1f}" if one.count else "" for one in row)
        printed.add_row(method, *cells)
    show(printed)
    for one in evaluations:
        if one.errors:
            show(f"{one.method}: no result for {len(one.errors)} of {len(one.cases)} pairs, which are left out")
    if out is not None:
        found.write_csv(out)
        say(f"wrote {out}")


SCANS, LAYERS = "Scans", "Layers"

slicreg = typer.Typer(
    cls=Group, no_args_is_help=True, help="Registration by segmentation into supervoxels: prepare a data set."
)

Count = Annotated[int, typer.Option("--layers", help="How many.", rich_help_panel=LAYERS)]
Supervoxels = Annotated[int, typer.Option(help="Of each layer, up to 255.", rich_help_panel=LAYERS)]
LayerSpacing = Annotated[
    float | None,
    typer.Option(metavar="MM", help="Voxel size of the layers; twice the scan's otherwise.", rich_help_panel=LAYERS),
]
Seed = Annotated[int, typer.Option(help="Of the layers.", rich_help_panel=LAYERS)]
Compactness = Annotated[
    float, typer.Option(help="Larger is rounder; in 500 HU, or the range of the intensities.", rich_help_panel=LAYERS)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.", rich_help_panel=RUN)]


def prepare(
    dataset: DataSet,
    template: Annotated[str, typer.Option(metavar="ID", help="Scan that all are registered to, such as 0001_0000.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the prepared data set; kept on interruption.")],
    spacing: Annotated[float, typer.Option(metavar="MM", help="Isotropic voxel size.", rich_help_panel=SCANS)] = 2.0,
    shape: Annotated[
        str, typer.Option(metavar="I,J,K", help="Crop and pad to so many voxels.", rich_help_panel=SCANS)
    ] = "192,160,256",
    crop: Annotated[
        str, typer.Option(help="Where the shape is centred: body, or none (field of view).", rich_help_panel=SCANS)
    ] = "body",
    as_is: Annotated[
        bool,
        typer.Option("--as-is", help="Take the scans where and as they are; no preprocessing.", rich_help_panel=SCANS),
    ] = False,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Scans that get layers, repeatable; training and validation otherwise.", rich_help_panel=SCANS
        ),
    ] = None,
    count: Count = 16,
    supervoxels: Supervoxels = 127,
    layer_spacing: LayerSpacing = None,
    mask: Annotated[
        str,
        typer.Option(
            help="Where the template is cut: body, organs (within 60 mm of a label, as published) or given (its mask).",
            rich_help_panel=LAYERS,
        ),
    ] = "body",
    compactness: Compactness = 1.5,
    seed: Seed = 0,
    transforms: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Transforms of the scans to the template, instead of registering: ID_displacements.dat of deeds, or "
            "ID with any suffix of `anamorph convert`.",
            rich_help_panel=common.REGISTRATION,
        ),
    ] = None,
    method: common.MethodName = "deeds",
    preset: common.Preset = "auto",
    settings: common.Settings = None,
    masks: common.Masks = False,
    device: common.DeviceName = "auto",
    workers: Workers = None,
    leave_out_failed: common.LeaveOutFailed = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Preprocess a data set, register its scans to a template, and give every scan the template's supervoxel layers.

    After an interruption the same command goes on where it stopped. The layers and the registrations are shown in
    layers.html; `anamorph train slicreg` takes the folder.
    """
    from anamorph.batch.registration import RegistrationSettings
    from anamorph.data.manifest import read_dataset
    from anamorph.errors import UserError
    from anamorph.workflows.preprocess.steps import PreprocessSettings
    from anamorph.workflows.supervoxels.layers import LayerSettings
    from anamorph.workflows.supervoxels.run import SPLITS, prepare_dataset

    at_once = workers_of(workers)
    for name in split or ():
        if name not in (*SPLITS, "test"):
            raise UserError(f"--split must be training, validation or test, not '{name}'")
    if transforms is not None and not transforms.is_dir():
        raise UserError(f"{transforms} is no folder; --transforms wants the folder of the transforms")
    cutting = LayerSettings(count, supervoxels, layer_spacing, mask, seed, compactness)
    preprocessing = None
    if not as_is:
        size = three_whole_numbers("--shape", shape)
        preprocessing = PreprocessSettings(spacing_mm=spacing, shape=size, crop=crop)  # type: ignore[arg-type]
    source = read_dataset(dataset)
    try:
        with progress_bar(quiet) as progress:
            result = prepare_dataset(
                source,
                template,
                out,
                preprocessing=preprocessing,
                cutting=cutting,
                registration=RegistrationSettings(method, preset, tuple(settings or ()), device, masks=masks),  # type: ignore[arg-type]
                transforms=transforms,
                splits=tuple(split or SPLITS),
                workers=at_once,
                overwrite=overwrite,
                leave_out_failed=leave_out_failed,
                progress=progress,
                on_failure=say_failure,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "interrupted; finished scans are kept, the same command goes on where it stopped"
        ) from None
    warn_of_page(result.page_failure)
    if not quiet:
        _show(result)


def layers(
    scan: Annotated[Path, typer.Argument(help="The scan to cut: any image file, or a DICOM folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="NPZ", help="File of the layers; a page goes beside it.")],
    count: Count = 16,
    supervoxels: Supervoxels = 127,
    layer_spacing: LayerSpacing = None,
    mask: Annotated[
        Path | None, typer.Option(help="Where the scan is cut; its body otherwise.", rich_help_panel=LAYERS)
    ] = None,
    organs: Annotated[
        Path | None,
        typer.Option(metavar="LABELS", help="Cut within 60 mm of these labels, as published.", rich_help_panel=LAYERS),
    ] = None,
    compactness: Compactness = 1.5,
    seed: Seed = 0,
    nifti: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the layers as a 4D image for viewers too.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Cut a scan into layers of supervoxels, with a page that shows them."""
    from anamorph.cli.common_options import refuse_existing
    from anamorph.errors import UserError
    from anamorph.image.image import Image
    from anamorph.image.read import read_image, read_labels, read_mask
    from anamorph.image.write import write_image
    from anamorph.report.many_scans import LayersReport, write_layers_page
    from anamorph.report.page import drawn
    from anamorph.supervoxels.files import SUFFIX, save_layers
    from anamorph.supervoxels.mask import near_organs
    from anamorph.workflows.supervoxels.layers import LayerSettings
    from anamorph.workflows.supervoxels.run import layer_facts

    if mask is not None and organs is not None:
        raise UserError("--mask and --organs both say where the scan is cut; choose one")
    if out.suffix != SUFFIX:
        raise UserError(f"{out.name}: a file of layers must end in {SUFFIX}")
    page = out.with_suffix(".html")
    for path in (out, page, *([nifti] if nifti is not None else [])):
        refuse_existing(path, overwrite, (scan, mask, organs))
    image = read_image(scan)
    region = read_mask(mask) if mask is not None else near_organs(read_labels(organs)) if organs is not None else None
    with progress_bar(quiet) as progress:
        made = LayerSettings(count, supervoxels, layer_spacing, "body", seed, compactness).cut(image, region, progress)
    save_layers(made, out)
    if nifti is not None:
        write_image(Image(made.labels, made.grid, image.name), nifti)
    report = LayersReport(f"Supervoxel layers of {image.name}", image, made, layer_facts(made))
    warn_of_page(drawn(page, lambda: write_layers_page(page, report)))
    say(f"{out}: {made.count} layers of {made.supervoxels} supervoxels; pictures in {page}", quiet)


def _show(result: Preparation) -> None:
    table = make_table("scan", "split", "transform", ">seconds", ">folding, %", ">Dice before", ">after", title="Scans")
    by_key = {case.key: case for case in result.prepared.cases}
    for key, told in result.scans.items():
        overlap = [f"{told['dice'][when]:.3f}" if told["dice"] else "" for when in ("before", "after")]
        numbers = f"{told['seconds']:.1f}", f"{told['folding_percent']:.3g}"
        table.add_row(key, by_key[key].split, told["how"], *numbers, *overlap)
    show(table)
    if result.reused:
        say(f"{result.reused} scans were finished by an earlier run")
    for key in result.failed:
        say(f"left out: {key}")
    say(f"{result.prepared.dataset.path}: prepared; pictures in {result.page}")


add_command(slicreg, prepare)
add_command(slicreg, layers)
add_command(slicreg, table)
