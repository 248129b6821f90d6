"""The encoder that the registration and the segmentation network share (Estienne et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from anamorph.networks.convolutions import Activation, Block, FullResolution
from anamorph.networks.recomputation import Staged

BASE_CHANNELS = 4
CONVOLUTIONS = (1, 2, 3, 2)
"""Published: so many 3 x 3 x 3 convolutions follow each halving of the resolution."""


def channels_of(mult: int, levels: int) -> list[int]:
    """Channels of each resolution, finest first: published are 8 times 4, 8, 16, 32, 64."""
    return [mult * BASE_CHANNELS * 2**level for level in range(levels + 1)]


class Encoder(Staged):
    """Features of an image at every resolution.

    Args:
        inputs: channels of the image.
        mult: width.
        convolutions: per halving of the resolution.
        activation: ``relu`` or ``leaky``.
    """

    def __init__(
        self, inputs: int, mult: int, convolutions: Sequence[int] = CONVOLUTIONS, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        channels = channels_of(mult, len(convolutions))
        self.stages = nn.ModuleList([FullResolution(inputs, channels[0], activation)])
        for count, (finer, coarser) in zip(convolutions, pairwise(channels), strict=True):
            same = [Block.same(coarser, coarser, activation) for _ in range(count)]
            self.stages.append(nn.Sequential(Block.down(finer, coarser, activation), *same))

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, I, J, K)`` to features of each resolution, finest first."""
        features = []
        for stage in self.stages:
            image = self.run(stage, image)
            features.append(image)
        return features
