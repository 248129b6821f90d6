"""``anamorph train``, and what a running training shows: how far it is, and a line per validation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.console import duration, make_table, progress_bar, show
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.training.outcome import Outcome, Status
    from anamorph.types import Progress

START, RUN = "Start", "Run"
INTERRUPTED = 130


def train(
    task: Annotated[str, typer.Argument(help="What to train, such as symmetric or segment.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="RUN", help="Folder of the run.")] = None,
    dataset: Annotated[
        list[Path] | None,
        typer.Option(metavar="JSON", help="A cohort: its *_dataset.json, or the folder that holds it; repeatable."),
    ] = None,
    val_dataset: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="JSON",
            help="A cohort whose validation scans are measured, in place of those of the others; repeatable.",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="Settings of a published or measured recipe.")] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable. --settings lists them."),
    ] = None,
    keep_all_labels: Annotated[
        bool, typer.Option("--keep-all-labels", help="Learn labels too that the preset leaves out (leave_out).")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="How often everything is visited.")] = None,
    list_settings: Annotated[
        bool, typer.Option("--settings", help="List all settings and presets, then stop.")
    ] = False,
    pretrained: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Start from the weights of a model or run.", rich_help_panel=START),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where the run stopped; begin it if need be.", rich_help_panel=START),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a training in the folder.", rich_help_panel=START)
    ] = False,
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Stop cleanly within this, such as 25m or 1h30m.", rich_help_panel=RUN),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=RUN)] = "auto",
    processes: Annotated[
        int, typer.Option(help="GPUs (or CPU processes) that share every batch.", rich_help_panel=RUN)
    ] = 1,
    precision: Annotated[
        str | None,
        typer.Option(
            help="auto, 32-true, 16-mixed or bf16-mixed; auto: what the device does fast.", rich_help_panel=RUN
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Of preprocessed scans; the user's cache otherwise.", rich_help_panel=RUN),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Of the model; as the manifests say otherwise.", rich_help_panel=RUN)
    ] = None,
    attribution: Annotated[
        str | None, typer.Option(help="Whom to name; as the manifests say otherwise.", rich_help_panel=RUN)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", rich_help_panel=RUN)] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.", rich_help_panel=RUN)] = False,
) -> None:
    """Train a network; a run that was stopped or killed goes on with --resume.

    The folder of the run holds checkpoints (latest and best), the numbers as CSV and for TensorBoard, what is needed to
    repeat it, and the model of the best validation.
    """
    from anamorph.runtime.threads import limit_threads

    limit_threads(threads)
    from anamorph.errors import UserError
    from anamorph.training.time_budget import parse_duration

    if list_settings:
        _list_settings(task)
        return
    if out is None:
        raise UserError("name the folder of the run with -o RUN")
    given = list(settings or [])
    given += [f"epochs={epochs}"] if epochs is not None else []
    if keep_all_labels:
        import dataclasses

        from anamorph.training import TASKS

        if not any(field.name == "leave_out" for field in dataclasses.fields(TASKS.find(task).Config)):
            raise UserError(f"'{task}' leaves no labels out; drop --keep-all-labels")
        given.append("leave_out=")
    given += [f"precision={precision}"] if precision is not None else []
    quiet = quiet or os.environ.get("LOCAL_RANK", "0") != "0"  # the first of several processes talks
    budget = None if time_budget is None else parse_duration(time_budget)
    from anamorph.training.start import start_training

    try:
        with progress_bar(quiet) as progress:
            outcome = start_training(
                *(task, dataset or [], out),
                validation=val_dataset or [],
                preset=preset,
                given=given,
                pretrained=pretrained,
                resume=resume,
                overwrite=overwrite,
                time_budget_s=budget,
                device=device,
                processes=processes,
                cache=cache,
                licence=licence,
                attribution=attribution,
                show=training_display(progress, quiet),
                say=lambda text: say(text, quiet),
                progress=progress,
            )
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            str(interrupt) or "interrupted; what was cached is kept, the same command with --resume goes on from there"
        ) from None
    _tell(outcome, out, quiet)


def _tell(outcome: Outcome, out: Path, quiet: bool) -> None:
    if outcome.ending in ("time budget", "SIGTERM", "SIGINT"):
        say(f"stopped ({outcome.ending}) in epoch {outcome.epoch + 1}; go on with the same command and --resume", quiet)
    if not quiet:
        table = make_table("best validation", ">value", title=f"epoch {outcome.best_epoch + 1}")
        for name, value in outcome.best.items():
            table.add_row(name, f"{value:.4f}")
        if outcome.best:
            show(table)
        model = "none, as no step was taken" if outcome.model is None else out / outcome.model.name
        show(f"model: {model}")
    if outcome.ending == "SIGINT":
        raise typer.Exit(INTERRUPTED)


def _list_settings(name: str) -> None:
    import dataclasses
    from typing import Any, get_type_hints

    from anamorph.settings import as_text, describe_kind
    from anamorph.training import TASKS
    from anamorph.training.settings import LoopSettings

    task: Any = TASKS.find(name)
    show(f"{name}: {task.summary}")
    for title, config in (("Settings of the task", task.Config), ("Settings of the loop", LoopSettings)):
        kinds = get_type_hints(config)
        table = make_table("setting", ">default", "unit", "meaning", title=title)
        for field in dataclasses.fields(config):
            meaning = f"{field.metadata.get('meaning', '')} ({describe_kind(kinds[field.name])})"
            table.add_row(field.name, as_text(field.default), field.metadata.get("unit", ""), meaning)
        show(table)
    table = make_table("preset", "what it changes")
    for preset, values in task.presets.items():
        table.add_row(preset, ", ".join(f"{key}={as_text(value)}" for key, value in values.items()) or "nothing")
    show(table)


def training_display(progress: Progress, quiet: bool) -> Callable[[Status], None]:
    """What is to be called after every step; ``progress`` is that of the command."""

    def tell(status: Status) -> None:
        if status.metrics:
            say(_validation(status), quiet)
        else:
            done = (status.epoch - 1) * status.batches + status.batch
            progress(_in_words(status), done / (status.epochs * status.batches))

    return tell


def _in_words(status: Status) -> str:
    left = "" if status.remaining_s is None else f", {duration(status.remaining_s)} left"
    if status.stage == "validating":
        before = "before training" if status.step == 0 else f"after epoch {status.epoch}"
        return f"validating {before}, {100 * status.validated:.0f} %{left}"
    place = f"epoch {status.epoch} of {status.epochs}, step {status.batch} of {status.batches}"
    return f"{place}, loss {status.loss:.3g}{left}"


def _validation(status: Status) -> str:
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in status.metrics.items())
    if status.step == 0:
        return f"before training  {numbers}"
    left = "" if status.remaining_s is None else f"  ({duration(status.remaining_s)} left)"
    return f"epoch {status.epoch}/{status.epochs}  training loss {status.loss:.4g}  {numbers}{left}"
