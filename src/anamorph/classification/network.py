"""A shallow network that reads a displacement field."""

from __future__ import annotations

from torch import Tensor, nn

from anamorph.networks.blocks import activation_of

CHANNELS = (8, 16, 32, 64)


class FieldNetwork(nn.Module):
    """Four convolutions of stride 2 and a linear head; own design, as Christodoulidis et al. (2018) tell no layers.

    Instance normalisation follows the first three: it sharpens the pattern, but forgets how far all of it moves, which
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
            layers.append(activation_of("leaky"))
            inputs = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(CHANNELS[-1], 1))

    def forward(self, field: Tensor) -> Tensor:
        """``(N,)`` log odds of ``(N, 3, I, J, K)`` fields of about unit size."""
        return self.head(self.features(field).mean(dim=(2, 3, 4)))[:, 0]
