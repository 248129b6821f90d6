from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anamorph.cli.console import make_table, show
from anamorph.cli.logs import say


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
    from anamorph.evaluation.cohort_files import read_evaluation
    from anamorph.evaluation.organ_table import OrganTable

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
