from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anamorph.cli.console import make_table, show
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.phantom.pair import PhantomPair
    from anamorph.registration.result import Result

INPUT_FOLDER = "inputs"
RADIOTHERAPY = "radiotherapy"
GIVEN = {role: f"{role}.nii.gz" for role in ("fixed", "moving", "fixed_labels", "moving_labels")}
GIVEN |= {role: f"{role}.csv" for role in ("fixed_points", "moving_points")}
"""Files of the phantoms by what they are."""


def demo(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            help="Write a small data set to practise on instead: abdomen, lung, heart, brain, hippocampus, or "
            "radiotherapy (DICOM).",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")] = Path("anamorph-demo"),
    patients: Annotated[int | None, typer.Option(help="With --dataset: how many; 8 hearts, 5 of all others.")] = None,
    size: Annotated[str, typer.Option(help="Voxels: one number, or three such as 192,160,256.")] = "128,104,112",
    seed: Annotated[int, typer.Option(help="Of the anatomy, the deformation and the noise.")] = 0,
    method: Annotated[str, typer.Option(help="See `anamorph methods`.")] = "convex",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Register two synthetic abdomens whose true deformation is known, or make a small data set; needs no data."""
    if dataset is not None:
        _refuse(context, "with --dataset", ("size", "method"))
        _write_dataset(dataset, out, patients, seed, overwrite, threads, quiet)
        return
    _refuse(context, "without --dataset", ("patients",))
    from anamorph.cli.common_options import refuse_existing
    from anamorph.runtime.threads import limit_threads

    shape = _shape(size)
    refuse_existing(out, overwrite)
    limit_threads(threads)
    from anamorph.cli.register import run_and_show
    from anamorph.phantom.anatomy import LABEL_NAMES
    from anamorph.phantom.pair import make_pair
    from anamorph.registration.request import Request

    say(f"making two abdomens of {' x '.join(map(str, shape))} voxels, seed {seed}", quiet)
    pair = make_pair(shape=shape, seed=seed)
    request = Request(
        fixed=pair.fixed,
        moving=pair.moving,
        fixed_labels=pair.fixed_labels,
        moving_labels=pair.moving_labels,
        label_names=LABEL_NAMES,
        fixed_points=pair.fixed_points,
        moving_points=pair.moving_points,
        method=method,
    )

    def extras(folder: Path, result: Result) -> dict[str, Any]:
        _write_inputs(folder / INPUT_FOLDER, pair)
        given = {role: f"{INPUT_FOLDER}/{name}" for role, name in GIVEN.items()}
        return {"true_error_mm": true_error_mm(pair, result), "given": given}

    _, saved = run_and_show(request, out, overwrite=overwrite, composite=False, quiet=quiet, extras=extras)
    if not quiet:
        _show_truth(saved.record["true_error_mm"])


def _refuse(context: typer.Context, when: str, names: tuple[str, ...]) -> None:
    """Options that would do nothing are mistakes."""
    from anamorph.errors import UserError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(f"--{name} has no meaning {when}; leave it out")


def _write_dataset(
    name: str, out: Path, patients: int | None, seed: int, overwrite: bool, threads: int | None, quiet: bool
) -> None:
    """Make a synthetic study and say what is in its folder."""
    from anamorph.runtime.threads import limit_threads

    limit_threads(threads)
    from anamorph.errors import UserError
    from anamorph.phantom.patients import write_study
    from anamorph.phantom.studies import KINDS
    from anamorph.registry import closest

    if name == RADIOTHERAPY:
        _write_radiotherapy(out, patients, seed, overwrite, quiet)
        return
    if name not in KINDS:
        names = [*KINDS, RADIOTHERAPY]
        raise UserError(f"there is no data set '{name}'{closest(name, names)}; choose one of: {', '.join(names)}")
    kind = KINDS[name]
    dataset = write_study(kind, out, patients or kind.patients, seed, overwrite)
    if quiet:
        return
    table = make_table("in the folder", "content", title=f"{out}: {kind.summary}; synthetic")
    table.add_row("fixed.nii.gz, moving.nii.gz", "two scans to register")
    table.add_row("*_labels.nii.gz, *_mask.nii.gz, *_points.csv", "label map, mask of the body and landmarks of each")
    training, validation = ([case for case in dataset.cases if case.split == s] for s in ("training", "validation"))
    pairs = len(dataset.listed_pairs["val"])
    counts = f"{len(training)} scans for training, {len(validation)} for validation, pairs to evaluate: {pairs}"
    table.add_row(f"{kind.task}/", f"the data set: {counts}")
    if len(kind.phases) > 1:
        table.add_row("labels.csv", "which patient is healthy and which is ill")
    show(table)


def _write_radiotherapy(out: Path, patients: int | None, seed: int, overwrite: bool, quiet: bool) -> None:
    """Make a synthetic treatment and say what is in its folder."""
    from anamorph.errors import UserError
    from anamorph.phantom.radiotherapy import write_radiotherapy

    if patients is not None:
        raise UserError(f"--patients has no meaning with --dataset {RADIOTHERAPY}, which is of one; leave it out")
    write_radiotherapy(out, seed, overwrite)
    if quiet:
        return
    table = make_table("in the folder", "content", title=f"{out}: a treatment of radiotherapy in DICOM; synthetic")
    table.add_row("plan/", "planning CT, contours (RTSTRUCT) and dose (RTDOSE)")
    table.add_row("day-1/", "CT of a day, with contours of its own")
    table.add_row("day-2/", "cone-beam CT of a day: a small round field of view, and values that are no HU")
    table.add_row("*_points.csv", "landmarks of each")
    show(table)


def true_error_mm(pair: PhantomPair, result: Result) -> dict[str, dict[str, float]]:
    """Distance between where the result and the true deformation send each voxel of the body: mean, 95 % and largest.

    ``before`` is the same for the identity. The body is what is denser than lung (above -300 HU).
    """
    import numpy as np

    grid = pair.fixed.grid
    inside = pair.fixed.data[0] > -300
    to_mm = grid.affine[:3, :3].astype(np.float32)
    truth = to_mm @ pair.true_fixed_to_moving.displacement_on(grid).disp_vox[:, inside]
    found = to_mm @ result.fixed_to_moving.displacement_on(grid).disp_vox[:, inside]
    errors = {"before": np.linalg.norm(truth, axis=0), "after": np.linalg.norm(found - truth, axis=0)}
    return {
        when: {
            "mean": float(error.mean(dtype=np.float64)),
            "p95": float(np.percentile(error, 95)),
            "max": float(error.max()),
        }
        for when, error in errors.items()
    }


def _write_inputs(folder: Path, pair: PhantomPair) -> None:
    from anamorph.image.write import write_image, write_points

    folder.mkdir()
    images = {"fixed": pair.fixed, "moving": pair.moving}
    images |= {"fixed_labels": pair.fixed_labels, "moving_labels": pair.moving_labels}
    for name, image in images.items():
        write_image(image, folder / f"{name}.nii.gz")
    write_points(pair.fixed_points, folder / "fixed_points.csv")
    write_points(pair.moving_points, folder / "moving_points.csv")


def _show_truth(errors: dict[str, dict[str, float]]) -> None:
    from anamorph.geometry.lengths import length_text

    table = make_table("true error inside the body", ">before", ">after")
    for key, name in (("mean", "mean"), ("p95", "95 %"), ("max", "largest")):
        table.add_row(name, *(length_text(errors[when][key], 2) for when in ("before", "after")))
    show(table)


def _shape(size: str) -> tuple[int, int, int]:
    from anamorph.errors import UserError

    try:
        numbers = [int(part) for part in size.replace("x", ",").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or min(numbers) < 1:
        raise UserError(f"--size wants one or three whole numbers such as 192,160,256, not '{size}'")
    return numbers[0], numbers[1], numbers[2]
