"""Cutting patients into folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
