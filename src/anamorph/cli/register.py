from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import (
    INPUTS,
    RUN,
    TRIPS,
    VERDICT_TRIPPED,
    FailOn,
    Quiet,
    check_fail_on,
    refuse_existing,
)
from anamorph.cli.console import make_table, progress_bar, show, show_lines, warn_of_page
from anamorph.cli.logs import say, spoken
from anamorph.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anamorph.registration.folder import Extras, Saved
    from anamorph.registration.plan import RegistrationPlan
    from anamorph.registration.request import Inputs, Request
    from anamorph.registration.result import Result

KEY_NUMBERS = 3
PULLS = "What pulls"


def register(
    fixed: Annotated[str, typer.Argument(help="Scan that stays: NIfTI, NRRD, MHA, or a DICOM folder.")],
    moving: Annotated[str, typer.Argument(help="Scan that is brought to the fixed one; any grid.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; it appears when it is complete.")],
    method: common.MethodName = "convex",
    preset: common.Preset = "auto",
    settings: common.Settings = None,
    init: common.Init = None,
    only_start: Annotated[
        bool,
        typer.Option(
            "--only-start",
            help="The linear start alone, as ITK .tfm and .mat too; the same as --method linear.",
            rich_help_panel=common.REGISTRATION,
        ),
    ] = False,
    same_patient: common.SamePatient = False,
    series: common.SeriesChoice = None,
    fixed_labels: Annotated[
        str | None,
        typer.Option(help="Label map or DICOM contours of the fixed scan: Dice, HD95.", rich_help_panel=INPUTS),
    ] = None,
    moving_labels: Annotated[
        str | None, typer.Option(help="Those of the moving scan: are warped too.", rich_help_panel=INPUTS)
    ] = None,
    label_names: Annotated[
        str | None,
        typer.Option(metavar="1=NAME,...|TABLE", help="Names of labels, for the report.", rich_help_panel=INPUTS),
    ] = None,
    fixed_points: Annotated[
        Path | None, typer.Option(help="Landmarks of the fixed scan: for the error in mm.", rich_help_panel=INPUTS)
    ] = None,
    moving_points: Annotated[
        Path | None, typer.Option(help="The same landmarks in the moving scan.", rich_help_panel=INPUTS)
    ] = None,
    fixed_outlines: Annotated[
        list[Path] | None,
        typer.Option(help="Curves (.mrk.json) or a mesh of the fixed scan; repeatable.", rich_help_panel=INPUTS),
    ] = None,
    moving_outlines: Annotated[
        list[Path] | None, typer.Option(help="Those of the moving scan.", rich_help_panel=INPUTS)
    ] = None,
    use_points: Annotated[
        float | None,
        typer.Option(
            metavar="MM", help="Landmarks and outlines pull; how exactly they are known.", rich_help_panel=PULLS
        ),
    ] = None,
    use_labels: Annotated[
        str | None,
        typer.Option(
            metavar="all|1,2[=WEIGHT]", help="Labels that pull, and so measure nothing.", rich_help_panel=PULLS
        ),
    ] = None,
    fixed_mask: common.FixedMask = None,
    moving_mask: common.MovingMask = None,
    no_partner: common.NoPartner = None,
    moving_no_partner: common.MovingNoPartner = None,
    find_no_partner: Annotated[
        bool,
        typer.Option(
            "--find-no-partner",
            help="Look for what one scan alone shows, and leave it out; the same as --set find_no_partner=true.",
            rich_help_panel=common.REGISTRATION,
        ),
    ] = False,
    keep_rigid: common.KeepRigid = None,
    keep_volume: common.KeepVolume = None,
    stiffness: common.Stiffness = None,
    sliding: common.Sliding = None,
    moving_keep_rigid: Annotated[
        list[str] | None,
        typer.Option(metavar="MASK[=WEIGHT]", help="The same for the moving scan.", rich_help_panel=common.TISSUE),
    ] = None,
    moving_keep_volume: Annotated[
        list[str] | None,
        typer.Option(metavar="MASK[=WEIGHT]", help="The same for the moving scan.", rich_help_panel=common.TISSUE),
    ] = None,
    moving_stiffness: Annotated[
        str | None, typer.Option(metavar="MAP", help="The same for the moving scan.", rich_help_panel=common.TISSUE)
    ] = None,
    moving_sliding: Annotated[
        str | None,
        typer.Option(metavar="MASK|lungs", help="The same for the moving scan.", rich_help_panel=common.TISSUE),
    ] = None,
    resample: common.Resample = False,
    device: common.DeviceName = "auto",
    seed: common.Seed = 0,
    threads: common.Threads = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Upper bound of memory, such as 2G.", rich_help_panel=RUN)
    ] = None,
    composite: Annotated[
        bool, typer.Option("--composite", help="Write ITK .h5 composites too.", rich_help_panel=RUN)
    ] = False,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom",
            help="Write DICOM too: warped series, structures, segmentation, registrations.",
            rich_help_panel=RUN,
        ),
    ] = False,
    dense_fields: Annotated[
        bool,
        typer.Option("--dense-fields", help="Fields and maps at every voxel of the scans.", rich_help_panel=RUN),
    ] = False,
    no_viewer: Annotated[
        bool,
        typer.Option(
            "--no-viewer", help="A small report, without the interactive view and the scans in it.", rich_help_panel=RUN
        ),
    ] = False,
    bids: Annotated[
        bool,
        typer.Option(
            "--bids",
            help="OUT is a data set of BIDS derivatives; the moving scan has a BIDS name.",
            rich_help_panel=RUN,
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier result.", rich_help_panel=RUN)
    ] = False,
    fail_on: FailOn = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan, the predicted memory and time, and stop.", rich_help_panel=RUN),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Register two scans and write both transforms, the warped scan, the numbers and a report to a folder."""
    from anamorph.runtime.threads import limit_threads

    check_fail_on(fail_on)
    if only_start:
        method = _linear(method)
    limit_threads(threads)
    from anamorph.registration.request import Request

    request = Request(
        fixed=common.of_series(fixed, series),
        moving=common.of_series(moving, series),
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        label_names=label_names,
        fixed_points=fixed_points,
        moving_points=moving_points,
        fixed_outlines=fixed_outlines,
        moving_outlines=moving_outlines,
        use_points=use_points,
        use_labels=use_labels,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        no_partner=no_partner,
        moving_no_partner=moving_no_partner,
        keep_rigid=common.kept(keep_rigid),
        keep_volume=common.kept(keep_volume),
        stiffness=stiffness,
        sliding=sliding,
        moving_keep_rigid=common.kept(moving_keep_rigid),
        moving_keep_volume=common.kept(moving_keep_volume),
        moving_stiffness=moving_stiffness,
        moving_sliding=moving_sliding,
        same_patient=same_patient,
        init=init,
        method=method,
        preset=preset,
        settings=[*(settings or ()), "find_no_partner=true"] if find_no_partner else settings,
        device=device,  # type: ignore[arg-type]  # checked with the rest of the request
        seed=seed,
        resample=resample,
        threads=threads,
        max_memory=max_memory,
    )
    extras = None
    if dicom:
        from anamorph.registration.dicom_folder import DicomFolder

        extras = DicomFolder.of(request)
    if dry_run:
        from anamorph.registration.run import prepare

        show_plan(request, out, *prepare(request))
        return
    if bids:
        if dicom or composite or dense_fields:
            raise UserError("--bids writes derivatives of BIDS alone; drop --dicom, --composite and --dense-fields")
        result = _derive(request, out, overwrite, quiet)
    else:
        kept = {"overwrite": overwrite, "composite": composite, "dense_fields": dense_fields, "viewer": not no_viewer}
        result, saved = run_and_show(request, out, **kept, quiet=quiet, extras=extras)
        if "dicom_not_written" in saved.record:
            say(f"warning: {saved.record['dicom_not_written']}")
    judged = result.verdict
    if fail_on is not None and judged.status in TRIPS[fail_on]:
        say(f"the verdict is {judged.status} (--fail-on {fail_on}): {judged.reasons[0]}; everything is in {out}")
        raise typer.Exit(VERDICT_TRIPPED)


def _linear(method: str) -> str:
    from anamorph.methods import DEFAULT_METHOD, LINEAR

    if method not in (DEFAULT_METHOD, LINEAR):
        raise UserError(f"--only-start is --method {LINEAR}; drop --only-start or --method {method}")
    return LINEAR


def run_and_show(
    request: Request,
    out: Path,
    *,
    overwrite: bool,
    composite: bool,
    dense_fields: bool = False,
    viewer: bool = True,
    quiet: bool,
    extras: Extras | None = None,
) -> tuple[Result, Saved]:
    """Run a request with a progress bar and print what came out."""
    from anamorph.image.nibabel_files import import_alone
    from anamorph.registration.run import run_to_folder

    import_alone()
    with progress_bar(quiet) as progress, spoken("anamorph.registration"):
        result, saved = run_to_folder(
            request,
            out,
            overwrite=overwrite,
            composite=composite,
            dense_fields=dense_fields,
            progress=progress,
            extras=extras,
            viewer=viewer,
        )
    warn_of_page(saved.report_failure)
    if not quiet:
        show_result(result, saved)
    return result, saved


def _derive(request: Request, out: Path, overwrite: bool, quiet: bool) -> Result:
    """Run a request and write derivatives of BIDS."""
    from anamorph.data.bids import root_of
    from anamorph.image.nibabel_files import import_alone
    from anamorph.registration.derivatives import Derivatives, write_dataset, write_derivatives
    from anamorph.registration.run import run

    import_alone()
    fixed, moving = Path(str(request.fixed)), Path(str(request.moving))
    names = Derivatives.of(out, fixed, moving, raw=root_of(moving))
    for file in names.files():
        refuse_existing(file, overwrite, (str(fixed), str(moving)))
    with progress_bar(quiet) as progress, spoken("anamorph.registration"):
        result = run(request, progress=progress)
        write_dataset(out, names.raw)
        _, saved = write_derivatives(result, names)
    warn_of_page(saved.report_failure)
    if not quiet:
        show_result(result, saved)
    return result


def show_plan(request: Request, out: Path, inputs: Inputs, plan: RegistrationPlan) -> None:
    """Print what a run would do."""
    from anamorph.registration.plan import output_bytes
    from anamorph.runtime.memory import gigabytes
    from anamorph.settings import as_text

    fixed, moving = inputs.pair.fixed, inputs.pair.moving
    table = make_table("", "", title="Plan (nothing was computed or written)")
    table.show_header = False
    table.add_row("fixed", f"{fixed.name}: {fixed.grid!r}")
    table.add_row("moving", f"{moving.name}: {moving.grid!r}")
    table.add_row("method", f"{plan.name} on {request.device}, seed {request.seed}")
    table.add_row("preset", f"{plan.preset} ({plan.preset_reason})")
    for key, value in plan.method.settings().items():
        table.add_row(f"  {key}", as_text(value))
    table.add_row("memory", f"about {gigabytes(plan.needed_bytes)} at the peak")
    if plan.one_core_seconds is not None:
        table.add_row("time", f"about {plan.one_core_seconds:.1f} s of one core, half to twice as long as a rule")
    at_voxels = inputs.pair.slides or plan.method.fields_at_voxels
    table.add_row("output", f"{out}: up to {gigabytes(output_bytes(fixed, moving, at_voxels))}")
    for kind, lines in (("warning", plan.warnings), ("note", plan.notes)):
        for line in lines:
            table.add_row(kind, line)
    show(table)


def _start_lines(provenance: Mapping[str, Any]) -> list[str]:
    """How the linear start was found, the winner first, and what it does."""
    from anamorph.registration.start_map import map_rows

    steps = [("  " if n else "start: ") + step for n, step in enumerate(provenance.get("start", ()))]
    return steps + [f"  {part}: {text}" for part, text in map_rows(provenance.get("start_map", {}))]


def show_result(result: Result, saved: Saved) -> None:
    """Print the numbers of a run, both answers of the verdict, the key numbers again, and where everything is."""
    from anamorph.geometry.lengths import numbers_mm
    from anamorph.report.numbers import Named, overview

    table = make_table("", ">before", ">after", paths_first=True)
    for row in overview(result.metrics, files=False):
        table.add_row(*row)
    seconds = saved.record["timings_s"]
    show(table)
    show_lines(f"time: {seconds['total']:.1f} s, of which the registration took {seconds['registration']:.1f} s")
    check = saved.record["direction_check"]
    centre, there = (", ".join(numbers_mm(check[f"{key}_ras_mm"], 1)) for key in ("fixed_centre", "maps_to_moving"))
    show_lines(*_start_lines(result.provenance))
    show_lines(f"direction: the fixed centre RAS ({centre}) mm maps to the moving scan's RAS ({there}) mm")
    if result.inputs.same_patient:
        show_lines(f"change: not looked for: {result.changes_unseen}" if result.change is None else result.change.line)
    show_lines(*(result.no_partner.lines() if result.no_partner is not None else ()))
    judged, named = result.verdict, Named(result.inputs.label_names.names)
    show_lines(
        f"{judged.status}: {named.in_text(judged.headline)}",
        *(f"  {named.in_text(reason)}" for reason in judged.reasons),
    )
    show_lines(*_key_numbers(result))
    show_lines(
        f"report: {saved.folder / saved.report_name}" if saved.report_failure is None else f"results: {saved.folder}"
    )


def _key_numbers(result: Result) -> list[str]:
    """The most telling numbers of a result, a line each."""
    from anamorph.report.numbers import key_numbers

    shown = key_numbers(result.metrics, KEY_NUMBERS)
    wide = max((len(tile.name) for tile in shown), default=0)
    changes = (f"{tile.before} -> {tile.value}" if tile.before else tile.value for tile in shown)
    return [
        f"  {tile.name:<{wide}}  {change} {tile.unit}".rstrip() for tile, change in zip(shown, changes, strict=True)
    ]
