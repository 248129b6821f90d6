"""The segmentation network that predicts pseudo-labels (Estienne et al., Learn2Reg 2020)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from anamorph.networks.blocks import (
    CONVOLUTIONS,
    Activation,
    Checkpointing,
    Decoder,
    Encoder,
    cut,
    pad,
    padding_to_multiple,
)

BACKGROUND_BIAS = 4.0


class SegmentationNetwork(Checkpointing):
    """The encoder and the decoder of the registration network on a single image.

    Args:
        inputs: channels of the image.
        classes: of the result, background among them.
        mult: width; published is 4.
        convolutions: 3 x 3 x 3 convolutions per halving of the resolution.
        activation: ``relu`` or ``leaky`` (published).
        residual: of the decoder.
    """

    def __init__(
        self,
        inputs: int = 1,
        classes: int = 12,
        mult: int = 4,
        convolutions: Sequence[int] = CONVOLUTIONS,
        activation: Activation = "leaky",
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, mult, convolutions, activation)
        self.decoder = Decoder(mult, classes, convolutions, activation, residual)
        # Labels begin rare: spread over the whole scan, a small organ hardly changes its Dice and is learned late.
        bias = self.decoder.last.bias
        assert bias is not None
        nn.init.zeros_(bias)
        nn.init.constant_(bias[:1], BACKGROUND_BIAS)
        self.cell = 2 ** len(convolutions)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, I, J, K)``, any size, to logits ``(B, classes, I, J, K)``; softmax makes probabilities of them."""
        padding = padding_to_multiple(image.shape[-3:], self.cell)
        logits, _ = self.decoder(self.encoder(pad(image, padding)))
        return cut(logits, padding).float()
