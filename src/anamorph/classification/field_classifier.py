"""Training the shallow network on residual fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anamorph.classification.cross_validation import Predictor
from anamorph.classification.features import Features, Rows

if TYPE_CHECKING:
    import torch

HALVED_EVERY = 50  # epochs, as published


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
        import torch

        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return self._fit(rows)

    def _fit(self, rows: Rows) -> Predictor:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        from anamorph.classification.network import FieldNetwork

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
        import torch

        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)
