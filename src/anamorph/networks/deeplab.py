"""The 3D DeepLab of SLIC-Reg: an inverted-residual backbone and pooling over atrous convolutions."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, interpolate

MIDDLE = (64, 128, 192, 192, 256, 256, 256, 384)
OUTPUTS = (24, 24, 32, 48, 48, 48, 64, 64)
STRIDED = 3
"""The block whose depthwise convolution halves the resolution; the first block halves it too."""
SKIPPED = 2
"""After so many blocks the features also take the short way to the head."""
RATES = (2, 4, 8, 16)
POOLED = 128


class DeepLab(nn.Module):
    """Features at half the resolution of the input (Heinrich and Hansen 2021).

    Takes ``(B, C, I, J, K)``, gives ``(B, channels, I / 2, J / 2, K / 2)``, odd sizes rounded up; an output voxel lies
    between the first two input voxels it stands for.

    Args:
        inputs: channels of a scan.
    """

    channels: ClassVar[int] = POOLED + OUTPUTS[SKIPPED - 1]

    def __init__(self, inputs: int = 1) -> None:
        super().__init__()
        blocks = [
            InvertedResidual(before, middle, after, dense=number == 0, stride=2 if number == STRIDED else 1)
            for number, ((before, after), middle) in enumerate(zip(pairwise((inputs, *OUTPUTS)), MIDDLE, strict=True))
        ]
        self.backbone = nn.Sequential(*blocks)
        self.aspp = AtrousPooling(OUTPUTS[-1], POOLED, RATES)
        for part in self.backbone.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")

    @property
    def stages(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """What may be recomputed one by one on the way back."""
        return self.backbone[:SKIPPED], self.backbone[SKIPPED:], self.aspp

    def join(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The features of the atrous pooling brought to the resolution of the early ones, and both together."""
        return torch.cat([fine, interpolate(coarse, size=fine.shape[2:], mode="nearest")], dim=1)


class InvertedResidual(nn.Module):
    """A wide depthwise convolution between two narrow ends; added to its input where both have one shape.

    Args:
        inputs: channels before.
        middle: channels within.
        outputs: channels after.
        dense: widen with a 3 x 3 x 3 convolution of stride 2 in place of a 1 x 1 x 1 one.
        stride: of the depthwise convolution.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, *, dense: bool, stride: int) -> None:
        super().__init__()
        widen = (
            nn.Conv3d(inputs, middle, 3, padding=1, stride=2, bias=False)
            if dense
            else nn.Conv3d(inputs, middle, 1, bias=False)
        )
        depthwise = nn.Conv3d(middle, middle, 3, padding=1, stride=stride, groups=middle, bias=False)
        self.layers = nn.Sequential(
            *(widen, nn.BatchNorm3d(middle), nn.ReLU6(inplace=True)),
            *(depthwise, nn.BatchNorm3d(middle), nn.ReLU6(inplace=True)),
            *(nn.Conv3d(middle, outputs, 1, bias=False), nn.BatchNorm3d(outputs)),
        )
        self.residual = inputs == outputs and stride == 1 and not dense

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class AtrousPooling(nn.Module):
    """The same features seen with several spreads and as their mean over the scan, put together."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        spread = [nn.Conv3d(inputs, outputs, 3, padding=rate, dilation=rate, bias=False) for rate in rates]
        views = [nn.Conv3d(inputs, outputs, 1, bias=False), *spread]
        mean = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(inputs, outputs, 1, bias=False))
        self.views = nn.ModuleList(nn.Sequential(view, nn.BatchNorm3d(outputs), nn.ReLU()) for view in views)
        self.views.append(nn.Sequential(mean, _NormOfFew(outputs), nn.ReLU()))
        self.project = nn.Sequential(
            nn.Conv3d(len(self.views) * outputs, outputs, 1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            nn.Dropout(0.5),
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = [view(x).expand(-1, -1, *x.shape[2:]) for view in self.views]
        return self.project(torch.cat(seen, dim=1))


class _NormOfFew(nn.BatchNorm3d):
    """Batch normalisation that takes the running statistics where a batch has one value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)
