"""Numbers of whole data sets: ``anamorph evaluate`` and ``anamorph rank``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.common_options import TemplatePairs
from anamorph.cli.console import make_table, progress_bar, show, show_lines, warn_of_page
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from anamorph.evaluation.cohort import Evaluation
    from anamorph.evaluation.ranking import TaskRanking


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="Folder or .zip with one field per pair: disp_FFFF_MMMM...")
    ],
    dataset: Annotated[
        Path, typer.Option("--dataset", metavar="JSON", help="The *_dataset.json, or the folder that holds it.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder to write: results.json, results.csv, report.html.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which pairs of the data set: val, test or training.")] = "val",
    pairs: TemplatePairs = None,
    config: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Learn2Reg's evaluation configuration: pairs and measures.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the method; the folder's name by default.")] = None,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails/--no-thumbnails", help="Pictures of the pairs in the report.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the table only.")] = False,
) -> None:
    """Measure predicted fields: what Learn2Reg's evaluator would say, and correct numbers beside it.

    A missing or damaged field is an error of its pair; the others are still evaluated, and the exit code is 1.
    """
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from anamorph.data.manifest import read_dataset
    from anamorph.errors import RegistrationFailure, UserError
    from anamorph.evaluation.cohort import evaluate_dataset
    from anamorph.evaluation.cohort_files import RESULTS
    from anamorph.image.atomic import atomic_directory
    from anamorph.report.cohort.evaluated import Thumbnails, write_evaluation

    if pairs is not None and config is not None:
        raise UserError("--pairs and --config both say which pairs are measured; choose one")
    source = read_dataset(dataset).with_pairs(pairs, split)  # type: ignore[arg-type]
    with ExitStack() as stack:
        folder = pictures = None
        if out is not None:
            inputs = [path for path in (predictions, dataset, config) if path is not None]
            folder = stack.enter_context(atomic_directory(out, overwrite, marker=RESULTS, inputs=inputs))
            if thumbnails:
                pictures = Thumbnails(Path(stack.enter_context(TemporaryDirectory())))
        progress = stack.enter_context(progress_bar(quiet))
        evaluation = evaluate_dataset(
            source,
            predictions,
            split=split,  # type: ignore[arg-type]
            config=config,
            method=name,
            progress=progress,
            on_field=pictures,
        )
        if folder is not None:
            warn_of_page(write_evaluation(folder, evaluation, pictures.paths if pictures else {}))
    _print(evaluation)
    say(f"wrote {out}" if out else "nothing was written; -o FOLDER keeps the numbers and a report", quiet)
    if evaluation.errors:
        raise RegistrationFailure(f"{len(evaluation.errors)} of {len(evaluation.cases)} pairs have no result")


def _print(evaluation: Evaluation) -> None:
    from anamorph.evaluation.metrics.metric import shown_columns

    names = [measure.name for measure in evaluation.measures]
    show(
        _table("As Learn2Reg's evaluator counts", names, evaluation.compatible_aggregates, "30"),
        _table("Correct", [column.name for column in shown_columns()], evaluation.correct_aggregates, "worse 30 %"),
    )
    for key, reason in evaluation.errors.items():
        show_lines(f"no result for {key}: {reason}")


def _table(title: str, names: list[str], aggregates: Callable[[bool], dict[str, dict[str, float]]], tail: str) -> Table:
    table = make_table("", ">mean", ">std", f">{tail}", ">identity, mean", title=title)
    identity, found = aggregates(True), aggregates(False)
    for name in names:
        if name in found:
            numbers = (*(found[name][key] for key in ("mean", "std", "30")), identity[name]["mean"])
            table.add_row(name, *(f"{number:.4f}" for number in numbers))
    return table


def rank(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT...", help="results.json of each method, or the folders with them.")
    ],
    variant: Annotated[
        str, typer.Option(help="rank-sum: as the challenge's code ranks; signed-rank: as its description says.")
    ] = "rank-sum",
    initial: Annotated[
        Path | None, typer.Option(metavar="RESULT", help="Before registration, for the hardest 30 %.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Rank by this metric, such as dice or hd95_mm; repeat it for more columns."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank methods by Learn2Reg's significance ranking: tests between all pairs, rank scores, geometric means.

    Several data sets may be mixed: results of one task are compared with each other, and the scores of the tasks are
    averaged. The columns are those of Learn2Reg's evaluator; --metric chooses metrics of `anamorph evaluate` instead.
    """
    from dataclasses import asdict

    from anamorph.evaluation.cohort_files import read_evaluation
    from anamorph.evaluation.ranking import VARIANTS
    from anamorph.evaluation.ranking import rank as rank_evaluations

    evaluations = [read_evaluation(path) for path in results]
    before = None if initial is None else read_evaluation(initial)
    ranking = rank_evaluations(evaluations, variant, before, metric or ())  # type: ignore[arg-type]
    if json_output:
        import json

        print(json.dumps(asdict(ranking) | {"description": VARIANTS[ranking.variant]}, indent=2, ensure_ascii=False))
        return
    show(f"{ranking.variant}: {VARIANTS[ranking.variant]}")
    for task in ranking.tasks:
        show(_ranking_table(task), *task.notes)
    if len(ranking.tasks) > 1:
        table = make_table("method", ">score", title="All tasks")
        for method, score in ranking.overall.items():
            table.add_row(method, f"{score:.3f}")
        show(table)


def _ranking_table(task: TaskRanking) -> Table:
    headings = (f">{name}" for name in task.columns)
    table = make_table("method", ">score", *headings, title=f"{task.task}: rank score (mean value)")
    for method, score in task.scores.items():
        cells = (f"{column[method].score:.3f} ({column[method].mean:.4g})" for column in task.columns.values())
        table.add_row(method, f"{score:.3f}", *cells)
    return table
