"""How often shuffled labels are told as well as the true ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anamorph.classification.cross_validation import Classifier, cross_validate
from anamorph.classification.features import Rows
from anamorph.classification.scores import auc


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
