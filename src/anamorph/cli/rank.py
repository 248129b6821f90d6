from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.console import make_table, show

if TYPE_CHECKING:
    from rich.table import Table

    from anamorph.evaluation.ranking import TaskRanking


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
        show(_table(task), *task.notes)
    if len(ranking.tasks) > 1:
        table = make_table("method", ">score", title="All tasks")
        for method, score in ranking.overall.items():
            table.add_row(method, f"{score:.3f}")
        show(table)


def _table(task: TaskRanking) -> Table:
    headings = (f">{name}" for name in task.columns)
    table = make_table("method", ">score", *headings, title=f"{task.task}: rank score (mean value)")
    for method, score in task.scores.items():
        cells = (f"{column[method].score:.3f} ({column[method].mean:.4g})" for column in task.columns.values())
        table.add_row(method, f"{score:.3f}", *cells)
    return table
