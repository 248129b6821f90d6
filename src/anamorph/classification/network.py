"""A shallow network that reads a displacement field, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from anamorph.classification.features import Features, Rows
from anamorph.classification.validation import Predictor

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
