"""``results.csv``: one row per pair, then one per pair and label."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anamorph.evaluation.cohort import CaseResult, Evaluation
from anamorph.evaluation.metrics.metric import all_columns
from anamorph.evaluation.numbers import Scores
from anamorph.image.atomic import atomic_text

TABLE = "results.csv"
COMPATIBLE, INITIAL = "learn2reg_", "initial_"
"""Before the names of the evaluator's columns, and before all columns of the state before registration."""
_JUDGED = ("verdict", "signs_of_failure", "accuracy")


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write the table once it is complete; what is missing or not a number is an empty cell."""
    rows = [row for case in evaluation.cases for row in _rows(case, evaluation)]
    names = [f"{COMPATIBLE}{measure.name}" for measure in evaluation.measures]
    names += [column.name for column in all_columns() if any(column.name in row for row in rows)]
    columns = ["pair", "fixed", "moving", "label", "label_name", *names, *(f"{INITIAL}{name}" for name in names)]
    with atomic_text(path) as stream:
        writer = csv.DictWriter(stream, [*columns, *_JUDGED, "error"], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _rows(case: CaseResult, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """The means of a pair with an empty label, then its labels."""
    whole = {"pair": case.key, "fixed": case.fixed, "moving": case.moving}
    numbers = means(case.scores, "") | means(case.baseline, INITIAL)
    judged = {name: getattr(case, name) for name in _JUDGED}
    yield whole | {"label": "", "error": case.error} | judged | numbers
    labels = sorted({label for measure in evaluation.measures for label in measure.labels})
    for label in labels if case.baseline else ():
        named = {"label": label, "label_name": evaluation.label_names.get(label)}
        numbers = _of_label(case.scores, label, evaluation, "") | _of_label(case.baseline, label, evaluation, INITIAL)
        yield whole | named | numbers


def means(scores: Scores | None, prefix: str) -> dict[str, float]:
    """The mean of every number by its column; the prefix comes before all of them."""
    if scores is None:
        return {}
    compatible = {f"{prefix}{COMPATIBLE}{name}": score["mean"] for name, score in scores.compatible.items()}
    return compatible | {f"{prefix}{name}": score["mean"] for name, score in scores.correct.items()}


def _of_label(scores: Scores | None, label: int, evaluation: Evaluation, prefix: str) -> dict[str, Any]:
    if scores is None:
        return {}
    values: dict[str, Any] = {}
    for measure in evaluation.measures:
        if label in measure.labels:
            detailed = scores.compatible[measure.name]["detailed"]
            values[f"{prefix}{COMPATIBLE}{measure.name}"] = detailed[measure.labels.index(label)]
    for name in scores.correct:
        if labels := scores.correct.labels(name):
            values[f"{prefix}{name}"] = labels.get(label)
    return values


def _cell(value: Any) -> Any:
    return "" if value is None or value != value else value
