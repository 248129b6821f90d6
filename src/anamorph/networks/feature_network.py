"""The network of ``features``: what surrounds every cell of a scan, as a unit vector that contrasts do not change."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from anamorph.networks.blocks import Checkpointing, Decoder, Encoder, cells_as_channels
from anamorph.networks.widths import Activation, padding_after


class FeatureNetwork(Checkpointing):
    """The encoder and the decoder of ``segment``, whose output stays on the cells of the stem.

    Features of any contrast, trained on synthetic shapes (anatomix: Dey et al., ICLR 2025).

    Args:
        inputs: channels of the scan.
        classes: channels of the result.
        mult: width.
        convolutions: 3 x 3 x 3 convolutions per halving of the resolution.
        activation: ``relu`` or ``leaky``.
        residual: of the decoder.
        stem: voxels along each axis of a cell.
    """

    def __init__(
        self,
        inputs: int = 1,
        classes: int = 16,
        mult: int = 4,
        convolutions: Sequence[int] = (2, 2),
        activation: Activation = "leaky",
        residual: bool = False,
        stem: int = 2,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(inputs * stem**3, mult, convolutions, activation)
        self.decoder = Decoder(mult, classes, convolutions, activation, residual)
        self.stem = stem
        self.cell = stem * 2 ** len(convolutions)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, I, J, K)``, any size, to ``(B, classes, I / stem, J / stem, K / stem)``, rounded up, of length 1."""
        after = padding_after(image.shape[-3:], self.cell)
        padded = F.pad(image, [n for missing in reversed(after) for n in (0, missing)], mode="replicate")
        features, _ = self.decoder(self.encoder(cells_as_channels(padded, self.stem)))
        i, j, k = (-(-n // self.stem) for n in image.shape[-3:])
        return F.normalize(features[..., :i, :j, :k].float(), dim=1)
