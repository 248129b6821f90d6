"""The parts that networks are made of: convolutions, encoder and decoder, padding, recomputation, warps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import grid_sample
from torch.utils.checkpoint import checkpoint

from anamorph.geometry.frames import to_grid_sample_order, voxel_to_normalised
from anamorph.geometry.sampling import identity_positions_torch
from anamorph.networks.widths import CONVOLUTIONS, LEAK, Activation, channels_of


def activation_of(name: Activation) -> nn.Module:
    """The activation of a name."""
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(LEAK, inplace=True)


class Convolution(nn.Conv3d):
    """A 3 x 3 x 3 convolution that keeps the size, or divides it by its stride."""

    def __init__(
        self, inputs: int, outputs: int, dilation: int = 1, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, 3, stride, dilation, dilation, groups, bias)

    def forward(self, image: Tensor) -> Tensor:
        return convolve(image, self.weight, self.bias, self.dilation[0], self.stride[0], self.groups)


def convolve(
    image: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1, stride: int = 1, groups: int = 1
) -> Tensor:
    """What a :class:`Convolution` of these weights does."""
    # PyTorch 2.13 returns memory it never wrote as the gradient of bfloat16 weights for volumes thinner than these.
    if image.device.type == "cpu" and min(image.shape[2:]) <= 2 * dilation:
        with torch.autocast("cpu", enabled=False):
            return F.conv3d(image.float(), weight.float(), bias, stride, dilation, dilation, groups)
    return F.conv3d(image, weight, bias, stride, dilation, dilation, groups)


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


class Staged(nn.Module):
    """A part of a network that keeps no more than the inputs of its stages when ``recompute`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.recompute = False

    def run(self, stage: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """The output of a stage."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(stage, *inputs, use_reentrant=False)
        return stage(*inputs)


class Checkpointing(nn.Module):
    """A network whose ``checkpointing`` switches ``recompute`` of all its staged parts."""

    @property
    def checkpointing(self) -> bool:
        """Whether activations are recomputed."""
        return any(part.recompute for part in self.modules() if isinstance(part, Staged))

    @checkpointing.setter
    def checkpointing(self, wanted: bool) -> None:
        for part in self.modules():
            if isinstance(part, Staged):
                part.recompute = wanted


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


def pad(image: Tensor, padding: Sequence[tuple[int, int]]) -> Tensor:
    """``(B, C, I, J, K)`` continued by zeros."""
    if not any(before or after for before, after in padding):
        return image
    return F.pad(image, [n for pair in reversed(padding) for n in pair])


def cut(volume: Tensor, padding: Sequence[tuple[int, int]]) -> Tensor:
    """``(B, C, I, J, K)`` without its padding."""
    for axis, (before, after) in enumerate(padding):
        volume = volume.narrow(axis - 3, before, volume.shape[axis - 3] - before - after)
    return volume


def cells_as_channels(volume: Tensor, cell: int) -> Tensor:
    """``(B, C, I, J, K)`` to ``(B, C cell^3, I / cell, J / cell, K / cell)``: a channel per voxel of a cell."""
    for axis in (2, 3, 4):
        volume = volume.unflatten(axis, (-1, cell)).movedim(axis + 1, 2).flatten(1, 2)
    return volume


def warp(volume: Tensor, disp_vox: Tensor) -> Tensor:
    """Pull volumes through fields, linear between voxel centres, with the border repeated outside.

    Args:
        volume: ``(B, C, I, J, K)`` of the moving side.
        disp_vox: ``(B, 3, I, J, K)`` from the fixed voxels to the moving ones, order i, j, k.

    Returns:
        ``(B, C, I, J, K)`` on the fixed voxels.
    """
    positions = identity_positions_torch(disp_vox[0]) + disp_vox
    places = to_grid_sample_order(voxel_to_normalised(positions.movedim(1, -1), tuple(volume.shape[2:])))
    return grid_sample(volume, places.to(volume.dtype), padding_mode="border", align_corners=True)


def one_hot(labels: Tensor, values: Tensor) -> Tensor:
    """``(B, 1, I, J, K)`` label maps to ``(B, L, I, J, K)`` float32, one channel per value."""
    return (labels == values.reshape(1, -1, 1, 1, 1)).to(torch.float32)
