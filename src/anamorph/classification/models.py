"""The models that are compared: a baseline of affine parts and sizes, and a network."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

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


CHANNELS = (8, 16, 32, 64)
HALVED_EVERY = 50  # epochs, as published


class FieldNetwork(nn.Module):
    """Four convolutions of stride 2 and a linear head; own design, as Christodoulidis et al. (2018) tell no layers.

    Instance normalisation follows the first three: it sharpens the pattern, but forgets how far everything moves, which
    is left to the simple models. The last one is pooled as it is, as the mean of normalised features says little.

    Args:
        dropout: share of the features that a training step leaves out.
    """

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for channels in CHANNELS:
            layers.append(nn.Conv3d(inputs, channels, 3, stride=2, padding=1))
            if channels != CHANNELS[-1]:
                layers.append(nn.InstanceNorm3d(channels))
            layers.append(nn.LeakyReLU(0.01, inplace=True))
            inputs = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(CHANNELS[-1], 1))

    def forward(self, field: Tensor) -> Tensor:
        """``(N,)`` log odds of ``(N, 3, I, J, K)`` fields of about unit size."""
        return self.head(self.features(field).mean(dim=(2, 3, 4)))[:, 0]


@dataclass(frozen=True)
class FieldClassifier:
    """A shallow convolutional network on the residual field.

    As published (Christodoulidis et al. 2018): binary cross-entropy and a rate that is halved every 50 epochs. There is
    no early stopping, so nothing has to be held out of a training fold, and nothing of the test fold is looked at.

    Args:
        epochs: how often every row is visited.
        learning_rate: of Adam; published: 1e-4.
        batch_size: rows of a step.
        device: ``cpu`` or ``cuda``.
    """

    epochs: int = 50
    learning_rate: float = 1e-3
    batch_size: int = 8
    device: str = "cpu"
    name: str = "cnn"
    summary: str = "shallow convolutional network on the field"

    def fit(self, rows: Rows, seed: int) -> Predictor:
        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return self._fit(rows)

    def _fit(self, rows: Rows) -> Predictor:
        scale = float(np.sqrt(np.mean(np.square(rows.features.fields, dtype=np.float64)))) or 1.0
        fields = self._tensor(rows.features.fields / scale)
        targets, weights = self._tensor(rows.positive), self._tensor(rows.weights())
        network = FieldNetwork().to(self.device)
        optimiser = torch.optim.Adam(network.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, HALVED_EVERY, 0.5)
        for _ in range(self.epochs):
            for batch in torch.randperm(len(fields)).to(self.device).split(self.batch_size):
                loss = binary_cross_entropy_with_logits(network(fields[batch]), targets[batch], weights[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            schedule.step()
        network.eval()

        def predict(features: Features) -> np.ndarray:
            with torch.no_grad():
                return network(self._tensor(features.fields / scale)).sigmoid().cpu().numpy().astype(np.float64)

        return predict

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)
