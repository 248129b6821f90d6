"""Cross-validation by patient, and its test by shuffled labels: models never saw the patients whom they predict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from anamorph.classification.features import Features, Rows
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


Interval = tuple[float, float]
THRESHOLD = 0.5
"""Of the probability. It is not fitted: the models weigh both labels alike."""
_Z = 1.959964  # of 95 %


@dataclass(frozen=True)
class Share:
    """A number of patients out of all that it could have been, with Wilson's 95 % interval."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """Between 0 and 1."""
        return self.hits / self.of

    @property
    def interval(self) -> Interval:
        """Wilson (1927)."""
        p, n, z = self.value, self.of, _Z
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max((middle - half) / (1 + z * z / n), 0.0), min((middle + half) / (1 + z * z / n), 1.0)


@dataclass(frozen=True)
class Scores:
    """Scores over patients; accuracy, sensitivity and specificity at a probability of 0.5.

    Args:
        sensitivity: of the patients with the positive label, those predicted so.
        specificity: of the others, those predicted so.
        auc: area under the curve: how often a positive patient has a higher probability than a negative one.
        auc_interval: 95 %; see :func:`auc_interval`.
        roc: ``(false positive rate, true positive rate)`` from (0, 0) to (1, 1).
    """

    sensitivity: Share
    specificity: Share
    auc: float
    auc_interval: Interval
    roc: tuple[tuple[float, float], ...]

    @property
    def accuracy(self) -> Share:
        """Patients predicted rightly."""
        return Share(self.sensitivity.hits + self.specificity.hits, self.sensitivity.of + self.specificity.of)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity; 0.5 by chance, however unequal the groups are."""
        return (self.sensitivity.value + self.specificity.value) / 2

    @property
    def beyond_chance(self) -> bool:
        """Whether an area of 0.5 lies below the interval."""
        return self.auc_interval[0] > 0.5

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        shares = {
            name: {"value": share.value, "interval": share.interval, "patients": share.of}
            for name, share in (
                ("accuracy", self.accuracy),
                ("sensitivity", self.sensitivity),
                ("specificity", self.specificity),
            )
        }
        true, false = self.sensitivity, self.specificity
        return {
            "auc": {"value": self.auc, "interval": self.auc_interval},
            "balanced_accuracy": self.balanced_accuracy,
            **shares,
            "confusion": {
                "true_positive": true.hits,
                "false_negative": true.of - true.hits,
                "true_negative": false.hits,
                "false_positive": false.of - false.hits,
            },
            "roc": self.roc,
        }


def score(probabilities: np.ndarray, positive: np.ndarray) -> Scores:
    """Score ``(P,)`` probabilities of ``(P,)`` patients, of whom some are positive and some are not."""
    said = probabilities >= THRESHOLD
    area = auc(probabilities, positive)
    counts = int(positive.sum()), int((~positive).sum())
    return Scores(
        Share(int((said & positive).sum()), counts[0]),
        Share(int((~said & ~positive).sum()), counts[1]),
        area,
        auc_interval(area, *counts),
        _roc(probabilities, positive),
    )


def auc(probabilities: np.ndarray, positive: np.ndarray) -> float:
    """Area under the curve as the statistic of Mann and Whitney; ties count half."""
    difference = probabilities[positive][:, None] - probabilities[~positive]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def auc_interval(area: float, positive: int, negative: int) -> Interval:
    """95 % confidence interval of an area over so many patients.

    Newcombe, Statistics in Medicine 2006, method 5: the areas that differ from the one found by less than 1.96 times
    the standard deviation they would have themselves. Unlike those of DeLong and of the bootstrap it does not shrink to
    a point where a few patients happen to be separated without an error.
    """

    def too_far(candidate: float) -> bool:
        n = (positive + negative) / 2 - 1
        spread = 1 + n * (1 - candidate) / (2 - candidate) + n * candidate / (1 + candidate)
        return (candidate - area) ** 2 > _Z * _Z * candidate * (1 - candidate) * spread / (positive * negative)

    def bound(end: float) -> float:
        inside, outside = area, end
        if not too_far(end):
            return end
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if too_far(middle) else (middle, outside)
        return inside

    return bound(0.0), bound(1.0)


def _roc(probabilities: np.ndarray, positive: np.ndarray) -> tuple[tuple[float, float], ...]:
    thresholds = np.unique(probabilities)[::-1]
    above = [probabilities >= threshold for threshold in thresholds]
    points = [(float(said[~positive].mean()), float(said[positive].mean())) for said in above]
    return ((0.0, 0.0), *points)
