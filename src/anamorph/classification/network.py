"""A shallow network that reads a displacement field."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anamorph.networks.convolutions import activation_of

CHANNELS = (8, 16, 32, 64)


class FieldNetwork(nn.Module):
    """Four convolutions of stride 2 and a linear head; own design, as Christodoulidis et al. (2018) tell no layers.

    Instance normalisation forgets how far anything moves: it follows the first three convolutions only, and the head is
    given the root mean square of each component of the field beside the pooled features.

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
            layers.append(activation_of("leaky"))
            inputs = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(CHANNELS[-1] + 3, 1))

    def forward(self, field: Tensor) -> Tensor:
        """``(N,)`` log odds of ``(N, 3, I, J, K)`` fields of unit size."""
        pooled = self.features(field).mean(dim=(2, 3, 4))
        reach = field.square().mean(dim=(2, 3, 4)).sqrt()
        return self.head(torch.cat([pooled, reach], dim=1))[:, 0]
