from __future__ import annotations

from anamorph.cli.console import make_table, show


def metrics() -> None:
    """List what is measured of a registered pair: name, unit, better end, and what the pair must have for it."""
    from anamorph.errors import UserError
    from anamorph.evaluation.metrics import METRICS
    from anamorph.evaluation.metrics.metric import load

    table = make_table("metric", "title", "unit", "better", "needs", "meaning")
    for name in METRICS:
        try:
            metric = load(name)
        except UserError as error:  # of another package: the rest of the list is of use all the same
            table.add_row(name, str(error), "", "", "", "")
        else:
            table.add_row(name, metric.title, metric.unit, metric.better, ", ".join(metric.needs), metric.meaning)
    show(table)
