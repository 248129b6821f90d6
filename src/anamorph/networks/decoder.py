"""The decoder that the registration and the segmentation network share (Estienne et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from anamorph.networks.convolutions import Activation, Block, Convolution
from anamorph.networks.encoder import CONVOLUTIONS, channels_of
from anamorph.networks.recomputation import Staged


class Decoder(Staged):
    """From features of every resolution back to the resolution of the image.

    Args:
        mult: width of the encoder.
        outputs: channels of the result.
        convolutions: of the encoder; the decoder's blocks have the same numbers from coarse to fine.
        activation: ``relu`` or ``leaky``.
        residual: add the up-sampled features to the output of each block (the published network for the hippocampus).
    """

    def __init__(
        self,
        mult: int,
        outputs: int,
        convolutions: Sequence[int] = CONVOLUTIONS,
        activation: Activation = "relu",
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        channels = channels_of(mult, len(convolutions))[::-1]
        self.up, self.blocks = nn.ModuleList(), nn.ModuleList()
        for count, coarser, finer in zip(reversed(convolutions), channels[:-1], channels[1:], strict=True):
            self.up.append(Block.up(coarser, finer, activation))
            widths = [coarser] + [finer] * count
            self.blocks.append(nn.Sequential(*(Block.same(a, b, activation) for a, b in pairwise(widths))))
        self.last = Convolution(channels[-1], outputs)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode.

        Args:
            features: of the encoder, finest first.

        Returns:
            the result, and the input of each block, coarsest first.
        """
        *finer, current = features
        inputs = []
        for up, block, skip in zip(self.up, self.blocks, reversed(finer), strict=True):
            inputs.append(current)
            current = self.run(partial(self._raised, up, block), current, skip)
        return self.last(current), inputs

    def _raised(self, up: nn.Module, block: nn.Module, coarser: Tensor, skip: Tensor) -> Tensor:
        raised = up(coarser)
        finer: Tensor = block(torch.cat([raised, skip], dim=1))
        return finer + raised if self.residual else finer
