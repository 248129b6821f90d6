"""The networks of ``symmetric`` and of its pseudo-labels, for registration and segmentation (Estienne et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anamorph.networks.blocks import (
    Checkpointing,
    Convolution,
    Decoder,
    Encoder,
    activation_of,
    cells_as_channels,
    cut,
    pad,
)
from anamorph.networks.widths import CONVOLUTIONS, Activation, channels_of, padding_to_multiple
from anamorph.transforms.fields import integrate_gradients

DIRECTIONS = 3


class Flow(NamedTuple):
    """One direction: what the network predicts, and what follows from it.

    Attributes:
        gradients: ``(B, 3, I, J, K)`` in (0, 1) of the padded volume.
        disp_vox: ``(B, 3, I, J, K)`` from the voxels of the one image to those of the other.
        coarse_disp_vox: the same from the heads of the coarser resolutions, coarsest first; none unless asked for.
    """

    gradients: Tensor
    disp_vox: Tensor
    coarse_disp_vox: tuple[Tensor, ...] = ()


class SymmetricNetwork(Checkpointing):
    """One encoder for both images, the difference of the features at every resolution, one decoder for both directions.

    Exchanging the images changes the sign of the differences, so that both directions cost one encoding of each image.
    The last convolution starts at zero: an untrained network gives the identity exactly.

    Args:
        inputs: channels of an image.
        mult: width; published is 8.
        convolutions: 3 x 3 x 3 convolutions per halving of the resolution.
        activation: ``relu`` (published for the abdomen) or ``leaky`` (hippocampus).
        residual: of the decoder (hippocampus).
        deep_supervision: have heads that predict from each coarser resolution.
    """

    def __init__(
        self,
        inputs: int = 1,
        mult: int = 8,
        convolutions: Sequence[int] = CONVOLUTIONS,
        activation: Activation = "relu",
        residual: bool = False,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, mult, convolutions, activation)
        self.decoder = Decoder(mult, DIRECTIONS, convolutions, activation, residual)
        coarse = channels_of(mult, len(convolutions))[:0:-1] if deep_supervision else []
        self.heads = nn.ModuleList(Convolution(channels, DIRECTIONS) for channels in coarse)
        nn.init.zeros_(self.decoder.last.weight)
        if self.decoder.last.bias is not None:
            nn.init.zeros_(self.decoder.last.bias)
        self.cell = 2 ** len(convolutions)

    def forward(self, fixed: Tensor, moving: Tensor, both: bool = True, coarse: bool = False) -> list[Flow]:
        """Predict.

        Args:
            fixed: ``(B, C, I, J, K)``, any size; padded inside.
            moving: an image of the same shape.
            both: also predict from the moving to the fixed image.
            coarse: also predict from the coarser resolutions.

        Returns:
            the flow from fixed to moving voxels, and the one from moving to fixed.
        """
        padding = padding_to_multiple(fixed.shape[-3:], self.cell)
        # One call for both images: the same work for a processor in fewer, larger steps.
        features = self.encoder(torch.cat([pad(fixed, padding), pad(moving, padding)]))
        halves = [level.chunk(2) for level in features]
        differences = [there - here for here, there in halves]
        if both:
            differences = [torch.cat([one, -one]) for one in differences]
        logits, inputs = self.decoder(differences)
        gradients = torch.sigmoid(logits.float())
        fields = [cut(integrate_gradients(gradients), padding)]
        if coarse:
            for level, (head, one) in enumerate(zip(self.heads, inputs, strict=True)):
                predicted = torch.sigmoid(head(one).float())
                raised = F.interpolate(predicted, scale_factor=self.cell >> level, mode="nearest")
                fields.append(cut(integrate_gradients(raised), padding))
        parts = [(gradients, fields)]
        if both:
            split = [field.chunk(2) for field in fields]
            parts = [(part, [pair[n] for pair in split]) for n, part in enumerate(gradients.chunk(2))]
        return [Flow(part, first, tuple(rest)) for part, (first, *rest) in parts]


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
        stem: voxels along each axis that the encoder sees as one, each with channels of its own; published is 1. With
            2 a network of the same number of weights takes a quarter of the time on a processor.
    """

    def __init__(
        self,
        inputs: int = 1,
        classes: int = 12,
        mult: int = 4,
        convolutions: Sequence[int] = CONVOLUTIONS,
        activation: Activation = "leaky",
        residual: bool = False,
        stem: int = 1,
    ) -> None:
        super().__init__()
        finest = channels_of(mult, 0)[0]
        self.encoder = Encoder(inputs * stem**3, mult, convolutions, activation)
        self.decoder = Decoder(mult, classes if stem == 1 else finest, convolutions, activation, residual)
        last: nn.Module = self.decoder.last
        if stem > 1:
            last = nn.ConvTranspose3d(finest, classes, stem, stride=stem)
            self.raised = nn.Sequential(activation_of(activation), last)
        # Labels begin rare: spread over the whole scan, a small organ hardly changes its Dice and is learned late.
        bias = last.bias
        assert isinstance(bias, Tensor)
        nn.init.zeros_(bias)
        nn.init.constant_(bias[:1], BACKGROUND_BIAS)
        self.stem = stem
        self.cell = stem * 2 ** len(convolutions)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, I, J, K)``, any size, to logits ``(B, classes, I, J, K)``; softmax makes probabilities of them."""
        padding = padding_to_multiple(image.shape[-3:], self.cell)
        padded = pad(image, padding)
        if self.stem > 1:
            padded = cells_as_channels(padded, self.stem)
        logits, _ = self.decoder(self.encoder(padded))
        if self.stem > 1:
            logits = self.raised(logits)
        return cut(logits, padding).float()
