"""The convolutional parts that the encoder and the decoder are made of."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["relu", "leaky"]


def activation_of(name: Activation) -> nn.Module:
    """The activation of a name; the slope of ``leaky`` is 0.01."""
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(0.01, inplace=True)


class Convolution(nn.Conv3d):
    """A 3 x 3 x 3 convolution that keeps the size."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, 3, padding=dilation, dilation=dilation)

    def forward(self, image: Tensor) -> Tensor:
        return convolve(image, self.weight, self.bias, self.dilation[0])


def convolve(image: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1) -> Tensor:
    """What a :class:`Convolution` of these weights does."""
    # PyTorch 2.13 returns memory it never wrote as the gradient of bfloat16 weights for volumes thinner than these.
    if image.device.type == "cpu" and min(image.shape[2:]) <= 2 * dilation:
        with torch.autocast("cpu", enabled=False):
            return F.conv3d(image.float(), weight.float(), bias, padding=dilation, dilation=dilation)
    return F.conv3d(image, weight, bias, padding=dilation, dilation=dilation)


class Block(nn.Sequential):
    """A change of resolution, or none, followed by a norm without parameters and an activation."""

    def __init__(self, convolution: nn.Module, outputs: int, activation: Activation) -> None:
        super().__init__(convolution, *Block.after(outputs, activation))

    @staticmethod
    def after(outputs: int, activation: Activation) -> nn.Sequential:
        """The norm and the activation."""
        return nn.Sequential(nn.InstanceNorm3d(outputs), activation_of(activation))

    @classmethod
    def same(cls, inputs: int, outputs: int, activation: Activation, dilation: int = 1) -> Block:
        """At the same resolution, by a :class:`Convolution`."""
        return cls(Convolution(inputs, outputs, dilation), outputs, activation)

    @classmethod
    def down(cls, inputs: int, outputs: int, activation: Activation) -> Block:
        """To half the resolution, by a convolution of 2 x 2 x 2."""
        return cls(nn.Conv3d(inputs, outputs, 2, stride=2), outputs, activation)

    @classmethod
    def up(cls, inputs: int, outputs: int, activation: Activation) -> Block:
        """To twice the resolution, by a transposed convolution of 2 x 2 x 2."""
        return cls(nn.ConvTranspose3d(inputs, outputs, 2, stride=2), outputs, activation)


class FullResolution(nn.Module):
    """The first stage of the encoder: two convolutions without norm, the second one's output added to the first's."""

    def __init__(self, inputs: int, outputs: int, activation: Activation) -> None:
        super().__init__()
        self.first = nn.Sequential(Convolution(inputs, outputs), activation_of(activation))
        self.second = nn.Sequential(Convolution(outputs, outputs), activation_of(activation))

    def forward(self, image: Tensor) -> Tensor:
        first = self.first(image)
        return first + self.second(first)
