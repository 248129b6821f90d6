"""``results.json``: the evaluation in the schema of Learn2Reg's evaluator (version 2.0), with all else beside it.

Numbers that are not finite are written as ``NaN`` and ``Infinity``, as the evaluator does and Python reads.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anamorph
from anamorph.errors import UserError
from anamorph.evaluation.cohort import CaseResult, Evaluation
from anamorph.evaluation.learn2reg.aggregate import Metric
from anamorph.evaluation.learn2reg.config import Measure, measure_from
from anamorph.evaluation.numbers import scores_from
from anamorph.image.atomic import write_text
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
