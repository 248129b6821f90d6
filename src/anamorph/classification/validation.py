"""Cross-validation by patient, and its test by shuffled labels: models never saw the patients whom they predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from anamorph.classification.features import Features, Rows
from anamorph.classification.scores import auc
from anamorph.errors import UserError


@dataclass(frozen=True, eq=False)
class Fold:
    """Indices of the rows that are fitted to and of those that are predicted; no patient is in both."""

    training: np.ndarray
    test: np.ndarray


def patient_folds(patients: np.ndarray, positive: np.ndarray, folds: int, seed: int) -> list[Fold]:
    """Cut rows into folds: all rows of a patient in one, both labels in each, in equal shares up to one patient.

    Args:
        patients: ``(N,)`` names.
        positive: ``(N,)`` labels, the same for all rows of a patient.
        folds: how many.
        seed: of the draw.

    Raises:
        UserError: fewer patients of a label than folds.
    """
    names, first = np.unique(patients, return_index=True)
    rng = np.random.default_rng(seed)
    order = [n for label in (True, False) for n in rng.permutation(np.flatnonzero(positive[first] == label))]
    fewest = fewest_patients(patients, positive)
    if not 2 <= folds <= fewest:
        raise UserError(
            f"{folds} folds need two or more, and as many patients of each label, but the rarer label has {fewest}; "
            "choose other --folds, or add patients"
        )
    # Dealt like cards, the second label going on where the first one ended, so that folds are of equal size.
    fold_of = dict(zip(names[order], np.arange(len(names)) % folds, strict=True))
    places = np.array([fold_of[patient] for patient in patients])
    return [Fold(np.flatnonzero(places != n), np.flatnonzero(places == n)) for n in range(folds)]


def fewest_patients(patients: np.ndarray, positive: np.ndarray) -> int:
    """Number of patients of the rarer label."""
    return min(len(np.unique(patients[positive == label])) for label in (False, True))


Predictor = Callable[[Features], np.ndarray]
"""``(N,)`` probabilities of the positive label; each row by itself, whatever the others are."""


class Classifier(Protocol):
    """A kind of model. Everything that is fitted, scaling and choices included, is fitted in :meth:`fit`."""

    @property
    def name(self) -> str:
        """Short, for files and options."""
        ...

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        ...

    def fit(self, rows: Rows, seed: int) -> Predictor:
        """A model of these rows, and of nothing else."""
        ...


def cross_validate(
    classifier: Classifier,
    rows: Rows,
    folds: int,
    repeats: int,
    seed: int,
    on_model: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Probability of the positive label for every patient, by models fitted without the patient.

    Args:
        classifier: is fitted ``folds * repeats`` times.
        rows: all registrations.
        folds: the patients are cut into.
        repeats: how often they are cut anew; the predictions are averaged over them and over a patient's rows.
        seed: of the cuts and of the models.
        on_model: called after each fit.

    Returns:
        ``(P,)`` in the order of ``np.unique(rows.patients)``.
    """
    total = np.zeros(len(rows.features))
    for repeat in range(repeats):
        for n, fold in enumerate(patient_folds(rows.patients, rows.positive, folds, seed + repeat)):
            model = classifier.fit(rows.take(fold.training), seed=(seed + repeat) * folds + n)
            total[fold.test] += model(rows.features.take(fold.test))
            on_model()
    names, place, counts = np.unique(rows.patients, return_inverse=True, return_counts=True)
    return np.bincount(place, total / repeats, len(names)) / counts


@dataclass(frozen=True)
class Permutation:
    """A test by permutation.

    Args:
        p_value: how often shuffled labels reach the area of the true ones, the true ones counted in.
        auc: of the true labels, over one cut into folds.
        shuffled_mean: area of shuffled labels, on average.
        count: of permutations.
    """

    p_value: float
    auc: float
    shuffled_mean: float
    count: int


def permutation_test(
    classifier: Classifier,
    rows: Rows,
    folds: int,
    count: int,
    seed: int,
    on_model: Callable[[], None] = lambda: None,
) -> Permutation:
    """Shuffle the labels between patients and do everything again, cuts and inner choices included.

    True and shuffled labels are compared over one cut into folds each, as many repeats would take long.

    Args:
        classifier: is fitted ``folds * (count + 1)`` times.
        rows: all registrations.
        folds: the patients are cut into.
        count: of permutations; the smallest p-value is ``1 / (count + 1)``.
        seed: of all draws.
        on_model: called after each fit.
    """
    _, first, place = np.unique(rows.patients, return_index=True, return_inverse=True)
    rng = np.random.default_rng(seed)

    def area_of(truth: np.ndarray, seed: int) -> float:
        labelled = Rows(rows.features, rows.patients, truth[place])
        return auc(cross_validate(classifier, labelled, folds, 1, seed, on_model), truth)

    truth = rows.positive[first]
    reached = area_of(truth, seed)
    shuffled = np.array([area_of(rng.permutation(truth), seed + n) for n in range(1, count + 1)])
    p_value = (1 + np.count_nonzero(shuffled >= reached)) / (count + 1)
    return Permutation(float(p_value), reached, float(shuffled.mean()), count)
