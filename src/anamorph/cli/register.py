from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.common_options import Quiet
from anamorph.cli.console import CompilationNews, make_table, progress_bar, say, show, warn_of_page
from anamorph.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anamorph.registration.api import Plan
    from anamorph.registration.inputs import PairInputs, PairRequest
    from anamorph.registration.pipeline import Extras, PairOutcome

VERDICT_TRIPPED = 3
"""Exit code of a run whose verdict is one of those that ``--fail-on`` names."""
_TRIPS = {"warn": ("WARN", "FAIL"), "fail": ("FAIL",)}

INPUTS, HOW, RUN = "Inputs", "How", "Run"


def register(
    fixed: Annotated[str, typer.Argument(help="Scan that stays: NIfTI, NRRD, MHA, or a DICOM folder.")],
    moving: Annotated[str, typer.Argument(help="Scan that is brought to the fixed one; any grid.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; it appears when it is complete.")],
    method: Annotated[str, typer.Option(help="See `anamorph methods`.", rich_help_panel=HOW)] = "convex",
    preset: Annotated[
        str, typer.Option(help="Kind of scan; auto: by what the scans look like.", rich_help_panel=HOW)
    ] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method; repeatable.", rich_help_panel=HOW),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Start from a fixed-to-moving transform or from world, centres, translation, rigid, affine, any-pose.",
            rich_help_panel=HOW,
        ),
    ] = None,
    only_start: Annotated[
        bool,
        typer.Option(
            "--only-start",
            help="The linear start alone, as ITK .tfm and .mat too; the same as --method linear.",
            rich_help_panel=HOW,
        ),
    ] = False,
    fixed_labels: Annotated[
        str | None, typer.Option(help="Label map of the fixed scan: for Dice and HD95.", rich_help_panel=INPUTS)
    ] = None,
    moving_labels: Annotated[
        str | None, typer.Option(help="Label map of the moving scan: is warped too.", rich_help_panel=INPUTS)
    ] = None,
    fixed_points: Annotated[
        Path | None, typer.Option(help="Landmarks of the fixed scan: for the error in mm.", rich_help_panel=INPUTS)
    ] = None,
    moving_points: Annotated[
        Path | None, typer.Option(help="The same landmarks in the moving scan.", rich_help_panel=INPUTS)
    ] = None,
    fixed_mask: Annotated[
        str | None, typer.Option(help="Weights 0..1 on the fixed grid: where to look.", rich_help_panel=INPUTS)
    ] = None,
    moving_mask: Annotated[
        str | None, typer.Option(help="The same for the moving scan.", rich_help_panel=INPUTS)
    ] = None,
    resample: Annotated[
        bool,
        typer.Option(
            "--resample", help="Bring masks and labels on another grid to their scan.", rich_help_panel=INPUTS
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=RUN)] = "auto",
    seed: Annotated[int, typer.Option(help="Of every random choice.", rich_help_panel=RUN)] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all by default.", rich_help_panel=RUN)] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Upper bound of memory, such as 2G.", rich_help_panel=RUN)
    ] = None,
    composite: Annotated[
        bool, typer.Option("--composite", help="Write ITK .h5 composites too.", rich_help_panel=RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier result.", rich_help_panel=RUN)
    ] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="warn|fail",
            help="Exit with code 3 when the verdict is WARN or FAIL (warn), or FAIL (fail); all files are kept.",
            rich_help_panel=RUN,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the predicted memory, and stop.", rich_help_panel=RUN)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Register two scans and write both transforms, the warped scan, the numbers and a report to a folder."""
    from anamorph.memory import limit_threads, parse_size

    if fail_on not in (None, *_TRIPS):
        raise UserError(f"--fail-on takes warn or fail, not '{fail_on}'")
    if only_start:
        method = _linear(method)
    limit_threads(threads)
    limit = None if max_memory is None else parse_size(max_memory)
    from anamorph.registration.api import named_start
    from anamorph.registration.inputs import PairRequest

    start, given = named_start(init, settings)
    request = PairRequest(
        fixed=fixed,
        moving=moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        fixed_points=fixed_points,
        moving_points=moving_points,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        init=start,
        method=method,
        preset=preset,
        settings=given,
        device=device,  # type: ignore[arg-type]  # checked with the rest of the request
        seed=seed,
        resample=resample,
        max_memory=limit,
    )
    if dry_run:
        from anamorph.registration.pipeline import plan_pair

        show_plan(request, out, *plan_pair(request))
        return
    outcome = run_and_show(request, out, overwrite=overwrite, composite=composite, quiet=quiet)
    judged = outcome.verdict
    if fail_on is not None and judged.status in _TRIPS[fail_on]:
        say(f"the verdict is {judged.status} (--fail-on {fail_on}): {judged.reasons[0]}; everything is in {out}")
        raise typer.Exit(VERDICT_TRIPPED)


def _linear(method: str) -> str:
    from anamorph.methods import DEFAULT_METHOD, LINEAR

    if method not in (DEFAULT_METHOD, LINEAR):
        raise UserError(f"--only-start is --method {LINEAR}; drop --only-start or --method {method}")
    return LINEAR


def run_and_show(
    request: PairRequest,
    out: Path,
    *,
    overwrite: bool,
    composite: bool,
    quiet: bool,
    news: CompilationNews | None = None,
    extras: Extras | None = None,
) -> PairOutcome:
    """Run the pipeline with a progress bar and print what came out."""
    from anamorph.registration.pipeline import register_pair

    def tell_plan(plan: Plan) -> None:
        say(f"method {plan.name}, preset {plan.preset} ({plan.preset_reason})", quiet)
        for warning in plan.warnings:
            say(f"warning: {warning}", quiet)
        for note in plan.notes:
            say(f"note: {note}", quiet)

    with progress_bar(quiet) as progress:
        outcome = register_pair(
            request,
            out,
            overwrite=overwrite,
            composite=composite,
            progress=progress,
            on_compilation=news or CompilationNews(quiet),
            on_plan=tell_plan,
            extras=extras,
        )
    warn_of_page(outcome.report_failure)
    if not quiet:
        show_outcome(outcome)
    return outcome


def show_plan(request: PairRequest, out: Path, inputs: PairInputs, plan: Plan, needed: int) -> None:
    """Print what a run would do."""
    from anamorph.memory import gigabytes, output_bytes
    from anamorph.settings import as_text

    table = make_table("", "", title="Plan (nothing was computed or written)")
    table.show_header = False
    table.add_row("fixed", f"{inputs.fixed.name}: {inputs.fixed.grid!r}")
    table.add_row("moving", f"{inputs.moving.name}: {inputs.moving.grid!r}")
    table.add_row("method", f"{plan.name} on {request.device}, seed {request.seed}")
    table.add_row("preset", f"{plan.preset} ({plan.preset_reason})")
    for key, value in plan.method.settings().items():
        table.add_row(f"  {key}", as_text(value))
    table.add_row("memory", f"about {gigabytes(needed)} at the peak")
    table.add_row("output", f"{out}: up to {gigabytes(output_bytes(inputs.fixed, inputs.moving))}")
    for kind, lines in (("warning", plan.warnings), ("note", plan.notes)):
        for line in lines:
            table.add_row(kind, line)
    show(table)


def _start_lines(steps: Sequence[str]) -> list[str]:
    """How the linear start was found, the winner first."""
    return [("  " if n else "start: ") + step for n, step in enumerate(steps)]


def show_outcome(outcome: PairOutcome) -> None:
    """Print the numbers of a run, both answers of the verdict and where everything is."""
    from anamorph.geometry.lengths import numbers_mm
    from anamorph.registration.outputs import REPORT
    from anamorph.report.numbers import overview

    table = make_table("", ">before", ">after")
    for row in overview(outcome.metrics, files=False):
        table.add_row(*row)
    seconds = outcome.record["timings_s"]
    table.add_row("time: registration / all", "", f"{seconds['registration']:.1f} / {seconds['total']:.1f} s")
    show(table)
    check = outcome.record["direction_check"]
    centre, there = (", ".join(numbers_mm(check[f"{key}_ras_mm"], 1)) for key in ("fixed_centre", "maps_to_moving"))
    for line in _start_lines(outcome.result.provenance.get("start", [])):
        show(line)
    show(f"direction: the fixed centre RAS ({centre}) mm maps to the moving scan's RAS ({there}) mm")
    judged = outcome.verdict
    show(f"{judged.status}: {judged.headline}" + "".join(f"\n  {reason}" for reason in judged.reasons))
    show(f"report: {outcome.folder / REPORT}" if outcome.report_failure is None else f"results: {outcome.folder}")
