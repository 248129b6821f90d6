"""The U-Net that the DeepLab of SLIC-Reg is compared with; the layers of the published one are not known."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

WIDTHS = (32, 48, 64, 96)
"""Channels at a half, a quarter, an eighth and a sixteenth of the resolution."""


class UNetSlic(nn.Module):
    """Features at half the resolution of the input, at about the cost of :class:`~anamorph.networks.deeplab.DeepLab`.

    Takes ``(B, C, I, J, K)``, gives ``(B, channels, I / 2, J / 2, K / 2)``, odd sizes rounded up. The number of
    parameters, 1.26 million, is near that of the DeepLab, so that the two differ in kind alone.

    Args:
        inputs: channels of a scan.
    """

    channels: ClassVar[int] = 152

    def __init__(self, inputs: int = 1) -> None:
        super().__init__()
        finest = WIDTHS[0]
        self.first = nn.Sequential(_convolution(inputs, finest, stride=2), _convolution(finest, finest))
        self.deeper = _Deeper(WIDTHS)
        self.last = _convolution(finest, self.channels - finest)

    @property
    def stages(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """What may be recomputed one by one on the way back."""
        return self.first, self.deeper, nn.Identity()

    def join(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The early features with what the deeper levels make of them."""
        return torch.cat([fine, self.last(_up(coarse, fine))], dim=1)


class _Deeper(nn.Module):
    """All levels below the first: down, and up again with skips; gives its input's channels at half its size."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        here, below = widths[:2]
        self.down = nn.Sequential(_convolution(here, below, stride=2), _convolution(below, below))
        self.deeper = _Deeper(widths[1:]) if len(widths) > 2 else None
        self.up = _convolution(2 * below if self.deeper else below, here)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.up(x if self.deeper is None else torch.cat([x, _up(self.deeper(x), x)], dim=1))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv3d(inputs, outputs, 3, padding=1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


def _up(coarse: Tensor, like: Tensor) -> Tensor:
    return interpolate(coarse, size=like.shape[2:], mode="nearest")
