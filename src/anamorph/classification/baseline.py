"""Penalised logistic regression: the simple models that a network has to beat."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from anamorph.classification.features import Features, Rows
from anamorph.classification.validation import Predictor, fewest_patients, patient_folds
from anamorph.errors import UserError

STRENGTHS = tuple(10.0**power for power in (-2, -1, 0, 1, 2))
"""Inverse penalties to choose from, for features whose variances sum up to 1."""
INNER_FOLDS = 3


class LogisticBaseline:
    """Standardised features, their principal components and a ridge penalty chosen by an inner cross-validation.

    Args:
        name: ``summaries`` or ``field``: which features it sees.

    Raises:
        UserError: scikit-learn is not installed.
    """

    def __init__(self, name: Literal["summaries", "field"]) -> None:
        if find_spec("sklearn") is None:
            raise UserError("scikit-learn is not installed; run: pip install 'anamorph[classify]'")
        self.name = name
        what = "a few numbers of the deformation" if name == "summaries" else "principal components of the field"
        self.summary = f"logistic regression on {what}"

    def fit(self, rows: Rows, seed: int) -> Predictor:
        """Scale, decompose, choose the penalty and fit, all on these rows."""
        from sklearn import config_context

        with config_context(assume_finite=True, skip_parameter_validation=True):  # half the time of so small models
            strength = self._choose(rows, seed)
            components = _Components(self._matrix(rows.features))
            model = components.regression(rows, strength)
        return lambda features: model.predict_proba(components.of(self._matrix(features)))[:, 1]

    def _choose(self, rows: Rows, seed: int) -> float:
        """The penalty with the least log loss over patients left out; the middle one if there are too few for that."""
        folds = min(INNER_FOLDS, fewest_patients(rows.patients, rows.positive))
        if folds < 2:
            return STRENGTHS[len(STRENGTHS) // 2]
        losses = np.zeros(len(STRENGTHS))
        for fold in patient_folds(rows.patients, rows.positive, folds, seed):
            fitted, held = rows.take(fold.training), rows.take(fold.test)
            components = _Components(self._matrix(fitted.features))
            projected, weights = components.of(self._matrix(held.features)), held.weights()
            for n, strength in enumerate(STRENGTHS):
                chances = components.regression(fitted, strength).predict_proba(projected)[:, 1]
                likelihood = np.where(held.positive, chances, 1 - chances)
                losses[n] -= weights @ np.log(np.maximum(likelihood, 1e-12))
        return STRENGTHS[int(losses.argmin())]

    def _matrix(self, features: Features) -> np.ndarray:
        if self.name == "summaries":
            return features.summaries
        return features.fields.reshape(len(features), -1).astype(np.float64)


class _Components:
    """All principal components of standardised features; there are no more of them than rows.

    Args:
        matrix: ``(N, F)`` features that scale and components are fitted to.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        from sklearn.decomposition import KernelPCA
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        # By the Gram matrix, as there are far more numbers in a field than patients.
        self._pipeline = make_pipeline(StandardScaler(), KernelPCA(kernel="linear", remove_zero_eig=True))
        self._projected = self._pipeline.fit_transform(matrix)
        self._count = matrix.shape[1]

    def of(self, matrix: np.ndarray) -> np.ndarray:
        """Other rows in these components."""
        return self._pipeline.transform(matrix)

    def regression(self, rows: Rows, strength: float) -> Any:
        """A model of the rows that the components were fitted to."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=strength / self._count, solver="newton-cholesky")
        return model.fit(self._projected, rows.positive, sample_weight=rows.weights())
