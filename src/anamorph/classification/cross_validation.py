"""Predicting every patient by models that have never seen that patient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from anamorph.classification.features import Features, Rows
from anamorph.classification.folds import patient_folds

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
