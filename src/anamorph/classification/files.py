"""What ``anamorph classify`` writes beside its page."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anamorph
from anamorph.classification.run import Classification
from anamorph.image.atomic import atomic_text, write_text

RESULTS, PREDICTIONS, SUMMARIES = "classification.json", "predictions.csv", "summaries.csv"


def write_files(folder: Path, outcome: Classification) -> None:
    """Write the scores, the probability of every patient, and the numbers of every registration."""
    write_text(folder / RESULTS, json.dumps(as_json(outcome), indent=2, ensure_ascii=False) + "\n")
    words = outcome.words
    probabilities = [model.probabilities for model in outcome.models]
    _write_table(
        folder / PREDICTIONS,
        ("subject", "label", *(f"probability_{words[1]}_{model.name}" for model in outcome.models)),
        (
            (patient, words[int(positive)], *(f"{chances[n]:.6f}" for chances in probabilities))
            for n, (patient, positive) in enumerate(zip(outcome.patients, outcome.positive, strict=True))
        ),
    )
    cohort = outcome.cohort
    _write_table(
        folder / SUMMARIES,
        ("registration", "subject", "label", *cohort.summary_names),
        (
            (name, patient, words[int(positive)], *(f"{value:.6g}" for value in numbers))
            for name, patient, positive, numbers in zip(
                cohort.names,
                cohort.rows.patients,
                cohort.rows.positive,
                cohort.rows.features.summaries,
                strict=True,
            )
        ),
    )


def as_json(outcome: Classification) -> dict[str, Any]:
    """The content of the JSON."""
    cohort = outcome.cohort
    return {
        "version": anamorph.__version__,
        "labels": {"negative": outcome.words[0], "positive": outcome.words[1]},
        "patients": {"negative": int((~outcome.positive).sum()), "positive": int(outcome.positive.sum())},
        "registrations": len(cohort.names),
        "features": {
            "affine": cohort.affine,
            "common_grid": asdict(cohort.grid),
            "summaries": cohort.summary_names,
            "notes": cohort.notes,
        },
        "settings": asdict(outcome.plan),
        "models": {
            model.name: model.scores.as_json()
            | {"permutation": None if model.permutation is None else asdict(model.permutation)}
            for model in outcome.models
        },
        "warnings": outcome.warnings,
    }


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_text(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
