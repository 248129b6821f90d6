"""The files of an evaluation: ``results.json`` in the schema of Learn2Reg's evaluator, and ``results.csv``.

Numbers that are not finite are written to JSON as ``NaN`` and ``Infinity``, as the evaluator does and Python reads.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anamorph
from anamorph.errors import UserError
from anamorph.evaluation.cohort import CaseResult, Evaluation
from anamorph.evaluation.learn2reg.config import Measure, measure_from
from anamorph.evaluation.learn2reg.measures import Metric
from anamorph.evaluation.metrics.metric import all_columns
from anamorph.evaluation.numbers import Scores, scores_from
from anamorph.image.atomic import atomic_text, write_text
from anamorph.reading import read_json, understood

RESULTS = "results.json"
OWN = "anamorph"
"""The key of everything that the evaluator does not know."""


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write the file once it is complete."""
    write_text(path, json.dumps(as_json(evaluation), indent=2, ensure_ascii=False) + "\n")


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The content: the evaluator's keys, then ours under :data:`OWN`."""
    scored = [case for case in evaluation.cases if case.scores]
    known = [case for case in evaluation.cases if case.baseline]
    baselines = {case.key: case.baseline for case in known if case.baseline}
    return {
        "name": evaluation.task,
        "aggregates": evaluation.compatible_aggregates(),
        "cases": {case.key: dict(case.compatible) for case in scored},
        "eval_version": "2.0",
        OWN: {
            "version": anamorph.__version__,
            "method": evaluation.method,
            "split": evaluation.split,
            "masked": evaluation.masked,
            "evaluation_methods": [asdict(measure) for measure in evaluation.measures],
            "labels": {str(value): name for value, name in evaluation.label_names.items()},
            "pairs": {case.key: {"fixed": case.fixed, "moving": case.moving} for case in evaluation.cases},
            "errors": evaluation.errors,
            "verdicts": {case.key: _verdict(case) for case in scored},
            "correct": {
                "aggregates": evaluation.correct_aggregates(),
                "cases": {case.key: dict(case.correct) for case in scored},
            },
            "baseline": {
                "aggregates": evaluation.compatible_aggregates(baseline=True),
                "cases": {key: dict(scores.compatible) for key, scores in baselines.items()},
                "correct": {
                    "aggregates": evaluation.correct_aggregates(baseline=True),
                    "cases": {key: dict(scores.correct) for key, scores in baselines.items()},
                },
            },
        },
    }


def _verdict(case: CaseResult) -> dict[str, Any]:
    return {
        "status": case.verdict,
        "signs_of_failure": case.signs_of_failure,
        "accuracy": case.accuracy,
        "reasons": case.reasons,
    }


def read_evaluation(path: Path) -> Evaluation:
    """Read ``results.json``, or what Learn2Reg's own evaluator wrote, which has fewer numbers.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        UserError: no such file, or another kind of file.
    """
    path = Path(path)
    path = path / RESULTS if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a {RESULTS} of `anamorph evaluate`")
    with understood(
        path,
        "not the result of an evaluation",
        "expected the JSON of `anamorph evaluate` or of Learn2Reg's evaluator 2.0",
    ):
        return _from_json(read_json(path), path)


def _from_json(content: dict[str, Any], path: Path) -> Evaluation:
    own = content.get(OWN, {})
    rows, baseline = content["cases"], own.get("baseline", {})
    method = path.parent.resolve().name if path.name == RESULTS else path.stem
    cases = []
    for key, pair in own.get("pairs", {key: {} for key in rows}).items():
        fixed, _, moving = key.partition("<--")
        judged = own.get("verdicts", {}).get(key, {})
        cases.append(
            CaseResult(
                key,
                pair.get("fixed", fixed),
                pair.get("moving", moving),
                scores_from(rows[key], _cases(own.get("correct", {})).get(key, {})) if key in rows else None,
                scores_from(_cases(baseline)[key], _cases(baseline["correct"])[key])
                if key in _cases(baseline)
                else None,
                own.get("errors", {}).get(key),
                judged.get("status"),
                tuple(judged.get("reasons", ())),
                signs_of_failure=judged.get("signs_of_failure"),
                accuracy=judged.get("accuracy"),
            )
        )
    return Evaluation(
        task=str(content["name"]),
        method=own.get("method", method),
        measures=tuple(_measures(content, own)),
        cases=tuple(cases),
        label_names={int(value): name for value, name in own.get("labels", {}).items()},
        split=own.get("split", ""),
        masked=own.get("masked", False),
    )


def _cases(part: dict[str, Any]) -> dict[str, Any]:
    return part.get("cases", {})


def _measures(content: dict[str, Any], own: dict[str, Any]) -> list[Measure]:
    """As recorded; in a file of another evaluator, as the names tell."""
    if "evaluation_methods" in own:
        return [measure_from(row) for row in own["evaluation_methods"]]
    return [Measure(name, _metric(name)) for name in content["aggregates"] if name != "num_foldings"]


def _metric(name: str) -> Metric:
    words: dict[str, Metric] = {"dsc": "dice", "dice": "dice", "hd95": "hd95", "tre": "tre", "jac": "sdlogj"}
    words["sdlogj"] = "sdlogj"
    for word, metric in words.items():
        if word in name.lower():
            return metric
    raise ValueError(f"no metric is known by the name '{name}'")


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
