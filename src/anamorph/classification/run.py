"""The whole question, whether the deformation tells the label, and the files of the answer."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import anamorph
from anamorph.classification.features import Cohort
from anamorph.classification.models import LogisticBaseline
from anamorph.classification.registrations import Registration
from anamorph.classification.validation import (
    Classifier,
    Permutation,
    Scores,
    cross_validate,
    patient_folds,
    permutation_test,
    score,
)
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_text, write_text
from anamorph.runtime.device import resolve_device
from anamorph.types import Progress

MODELS = ("summaries", "field", "cnn")
FEW_PATIENTS = 20
UNBALANCED = 3
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Plan:
    """How the question is put.

    Args:
        models: of :data:`MODELS`.
        folds: of the cross-validation.
        repeats: how often the patients are cut into folds anew.
        permutations: of the labels, for the models that are not networks; 0 for none.
        seed: of every draw.
        epochs: of the network.
        device: of the network.
        rate: learning rate of the network, halved every 50 epochs; published: 1e-4.

    Raises:
        UserError: no such model, or a number below its least.
    """

    models: tuple[str, ...] = MODELS
    folds: int = 5
    repeats: int = 3
    permutations: int = 200
    seed: int = 0
    epochs: int = 50
    device: str = "auto"
    rate: float = 1e-3

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in MODELS]
        if unknown:
            raise UserError(f"there is no model '{unknown[0]}'; choose --model {', '.join(MODELS)}")
        for option, value, least in (
            ("repeats", self.repeats, 1),
            ("permutations", self.permutations, 0),
            ("seed", self.seed, 0),
            ("epochs", self.epochs, 1),
        ):
            if value < least:
                raise UserError(f"--{option} {value} is too few; take {least} or more")
        if not 0 < self.rate < 1:
            raise UserError(f"--rate {self.rate:g} must be between 0 and 1; published: 1e-4")

    def classifiers(self) -> list[Classifier]:
        """One per model.

        Raises:
            UserError: there is no such device, or no scikit-learn.
        """
        return [self._classifier(name) for name in dict.fromkeys(self.models)]

    def check(self, registrations: Sequence[Registration]) -> None:
        """See, before anything is computed, that the models can be made and the patients suffice.

        Raises:
            UserError: no such device or package, or too few patients.
        """
        self.classifiers()
        patients = np.array([registration.patient for registration in registrations])
        positive = np.array([registration.positive for registration in registrations])
        patient_folds(patients, positive, self.folds, self.seed)

    def _classifier(self, name: str) -> Classifier:
        if name == "cnn":
            from anamorph.classification.models import FieldClassifier

            return FieldClassifier(self.epochs, self.rate, device=resolve_device(self.device))
        return LogisticBaseline("summaries" if name == "summaries" else "field")


@dataclass(frozen=True, eq=False)
class ModelOutcome:
    """What one kind of model says.

    Args:
        name: of the model.
        summary: what it is.
        probabilities: ``(P,)`` of the positive label, of models that never saw the patient.
        scores: of them.
        permutation: None where labels were not shuffled.
    """

    name: str
    summary: str
    probabilities: np.ndarray
    scores: Scores
    permutation: Permutation | None


@dataclass(frozen=True, eq=False)
class Classification:
    """The answer.

    Args:
        plan: how it was asked.
        cohort: of whom.
        words: for the negative and the positive label.
        patients: ``(P,)`` names.
        positive: ``(P,)`` labels.
        models: one per kind.
    """

    plan: Plan
    cohort: Cohort
    words: tuple[str, str]
    patients: np.ndarray
    positive: np.ndarray
    models: tuple[ModelOutcome, ...]

    @property
    def warnings(self) -> list[str]:
        """What speaks against reading much into the numbers."""
        negative, positive = int((~self.positive).sum()), int(self.positive.sum())
        few, many = sorted((negative, positive))
        found = []
        if few < FEW_PATIENTS:
            found.append(
                f"Few patients: {positive} {self.words[1]} and {negative} {self.words[0]}. The intervals are wide, and "
                "differences between the models mean little."
            )
        if many > UNBALANCED * few:
            found.append(
                f"Unequal groups: always saying the same would be right in {many / (few + many):.0%}; read the "
                "balanced accuracy and the area under the curve."
            )
        for model in self.models:
            low, high = model.scores.auc_interval
            if not model.scores.beyond_chance:
                found.append(
                    f"{model.name}: chance (0.5) is not below the interval of the area under the curve, {low:.2f} to "
                    f"{high:.2f}; no effect is shown."
                )
            elif model.permutation is not None and model.permutation.p_value > SIGNIFICANT:
                found.append(
                    f"{model.name}: shuffled labels are predicted as well with p = {model.permutation.p_value:.3f}."
                )
        return found


def classify(
    cohort: Cohort,
    words: tuple[str, str],
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Classification:
    """Cross-validate every model, and shuffle the labels of the simple ones.

    Args:
        cohort: the features of all registrations.
        words: for the negative and the positive label.
        plan: what to do; all models by default.
        progress: called as ``progress(stage, fraction)``.

    Raises:
        UserError: as :meth:`Plan.check`.
    """
    plan = plan or Plan()
    classifiers, rows = plan.classifiers(), cohort.rows
    patients, first = np.unique(rows.patients, return_index=True)
    positive = rows.positive[first]
    shuffles = {"summaries": plan.permutations, "field": plan.permutations}
    outcomes = []
    for n, classifier in enumerate(classifiers):
        count = shuffles.get(classifier.name, 0)
        fits = plan.folds * (plan.repeats + (count + 1 if count else 0))
        tick = _ticker(progress, classifier.name, n / len(classifiers), 1 / len(classifiers), fits)
        chances = cross_validate(classifier, rows, plan.folds, plan.repeats, plan.seed, tick)
        permutation = permutation_test(classifier, rows, plan.folds, count, plan.seed, tick) if count else None
        scores = score(chances, positive)
        outcomes.append(ModelOutcome(classifier.name, classifier.summary, chances, scores, permutation))
    return Classification(plan, cohort, words, patients, positive, tuple(outcomes))


def _ticker(progress: Progress | None, name: str, start: float, share: float, fits: int) -> Callable[[], None]:
    """Counts fitted models of one kind towards the whole."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(f"fitting {name}, model {done} of {fits}", start + share * done / fits)

    return tick


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
