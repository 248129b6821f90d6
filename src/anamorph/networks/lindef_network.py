"""The network of ``lindef``: a linear map and a deformation from one encoder (Christodoulidis et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from anamorph.geometry.sampling import identity_positions_torch
from anamorph.networks.blocks import Block, Checkpointing, Convolution, Staged, convolve, warp
from anamorph.transforms.fields import integrate_gradients

UNIT_VOX = 32.0
"""A translation of 1 is so many voxels.

A linear map is kept as ``A - I``, a ``(B, 3, 4)`` matrix on voxel coordinates centred in the volume in these units:
rotation and translation do not mix, all twelve numbers are of one order, and none changes its meaning with the size of
the volume.
"""


def linear_after(offset: Tensor, disp_vox: Tensor) -> Tensor:
    """The displacement to ``A(p + u(p))``: the moving scan is aligned linearly first, then deformed.

    Args:
        offset: ``(B, 3, 4)``.
        disp_vox: ``(B, 3, I, J, K)``: u.
    """
    half = (disp_vox.new_tensor(disp_vox.shape[2:]) - 1).reshape(3, 1, 1, 1) / 2
    places = (identity_positions_torch(disp_vox[0]) - half + disp_vox) / UNIT_VOX
    moved = (offset[:, :, :3] @ places.flatten(2) + offset[:, :, 3:]) * UNIT_VOX
    return disp_vox + moved.reshape(disp_vox.shape)


def linear_before(offset: Tensor, disp_vox: Tensor) -> Tensor:
    """The displacement to ``A p + u(A p)``: the moving scan is deformed first, then moved linearly (as published).

    Arguments as of :func:`linear_after`; outside the volume u is that of its border.
    """
    moved = linear_after(offset, disp_vox.new_zeros(disp_vox.shape))
    return moved + warp(disp_vox, moved)


ORDERS = [(a, b, c) for a in range(3) for b in range(3) for c in range(3) if a + b + c <= 2]
MOMENTS = len(ORDERS)
"""Of a volume: its mean, three first and six second moments."""


def moments(volume: Tensor) -> Tensor:
    """Means of a volume times products of Legendre polynomials of the coordinates, which run from -1 to 1.

    Args:
        volume: ``(B, C, I, J, K)``.

    Returns:
        ``(B, C, 10)`` in single precision, the plain mean first.
    """
    current = volume.float()
    for n in reversed(volume.shape[2:]):
        # The last axis is summed up, and its three orders go to the front of what is left.
        summed = current @ _polynomials(n, current) / n
        current = summed.movedim(-1, 2)
    every = current.reshape(*volume.shape[:2], 3, 3, 3)
    return torch.stack([every[:, :, a, b, c] for a, b, c in ORDERS], dim=-1)


def _polynomials(size: int, like: Tensor) -> Tensor:
    """``(size, 3)``: Legendre polynomials of order 0, 1 and 2 at the voxels of an axis."""
    x = torch.linspace(-1, 1, size, device=like.device) if size > 1 else torch.zeros(1, device=like.device)
    return torch.stack([torch.ones_like(x), x, (3 * x * x - 1) / 2], dim=1)


Order = Literal["linear-first", "deform-first"]
Pooling = Literal["mean", "moments"]
DILATIONS = (1, 1, 2, 3, 5)
ENCODER_WIDTHS = (1, 2, 4, 1, 1)
BRANCH_WIDTHS = (4, 2, 1, 1, 1)
REDUCTION = 16
STEADY = 16
"""Moments count like so many features, however many there are."""


class LindefFlow(NamedTuple):
    """One direction: what the network predicts, and what follows from it.

    Attributes:
        gradients: ``(B, 3, I, J, K)`` in (0, 1); twice these are the derivatives of the deformation along each axis.
        disp_vox: ``(B, 3, I, J, K)``: both parts together, from the voxels of the one image to those of the other.
        offset: ``(B, 3, 4)``: the linear part less the identity (:mod:`anamorph.networks.lindef_network`).
        coarse_disp_vox: none.
    """

    gradients: Tensor
    disp_vox: Tensor
    offset: Tensor
    coarse_disp_vox: tuple[Tensor, ...] = ()


class LindefNetwork(Checkpointing):
    """Dilated convolutions at full resolution; their outputs together give a matrix and the derivatives of a field.

    Both heads start at zero: an untrained network is the identity exactly. Leaky activations have a slope of 0.01,
    which is not published; with a steeper one the mean of a normalised feature would tell the linear branch even less.

    Args:
        inputs: channels of an image.
        width: channels of the narrowest layers; published is 32 (1,767,875 parameters).
        affine: have the linear branch; without, the deformation alone.
        pooling: what the linear branch sees of a feature: its ``mean``, as published, or its ``moments`` up to the
            second, which tell where things are even of features that a norm has given a mean of zero.
        order: ``linear-first`` reads the moving image at A(G(p)); ``deform-first``, as published, at G(A p).
        gradient_gain: factor of what goes into the sigmoid of the derivatives; published is 1. Integration adds up all
            voxels of a line, so that a step of Adam moves its far end by voxels: a tenth learns faster.
    """

    def __init__(
        self,
        inputs: int = 1,
        width: int = 32,
        affine: bool = True,
        pooling: Pooling = "mean",
        order: Order = "linear-first",
        gradient_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = DilatedEncoder(2 * inputs, width)
        self.deformation = DeformableBranch(self.encoder.channels, width)
        self.linear = LinearBranch(sum(self.encoder.channels), pooling) if affine else None
        self.gradient_gain = gradient_gain
        self.compose = linear_after if order == "linear-first" else linear_before

    def forward(self, fixed: Tensor, moving: Tensor, both: bool = True) -> list[LindefFlow]:
        """Predict the flow from fixed to moving voxels; with ``both`` also the other one, by a pass of its own.

        Args:
            fixed: ``(B, C, I, J, K)``, any size.
            moving: an image of the same shape.
            both: also predict from the moving to the fixed image.
        """
        pairs = [(fixed, moving), (moving, fixed)] if both else [(fixed, moving)]
        return [self._flow(torch.cat(pair, dim=1)) for pair in pairs]

    def _flow(self, images: Tensor) -> LindefFlow:
        features = self.encoder(images)
        gradients = torch.sigmoid(self.gradient_gain * self.deformation(features).float())
        disp_vox = integrate_gradients(gradients)
        if self.linear is None:
            return LindefFlow(gradients, disp_vox, gradients.new_zeros(len(images), 3, 4))
        offset = self.linear(features)
        # Sums over hundreds of voxels: not in half precision.
        with torch.autocast(images.device.type, enabled=False):
            return LindefFlow(gradients, self.compose(offset, disp_vox), offset)


class DilatedEncoder(Staged):
    """Five convolutions whose dilations are Fibonacci numbers, so that no voxel of the 25 in reach is passed over."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.channels = [inputs, *(width * factor for factor in ENCODER_WIDTHS)]
        steps = zip(pairwise(self.channels), DILATIONS, strict=True)
        self.stages = nn.ModuleList(Block.same(a, b, "leaky", dilation) for (a, b), dilation in steps)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, I, J, K)`` to the image and the output of every convolution."""
        features = [image]
        for stage in self.stages:
            features.append(self.run(stage, features[-1]))
        return features


class LinearBranch(nn.Module):
    """Twelve numbers from what the features are like as a whole."""

    def __init__(self, channels: int, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling
        self.last = nn.Linear(channels * (MOMENTS if pooling == "moments" else 1), 12)
        # A step of Adam changes every weight alike, and so the map by as many features as there are: at a rate of 1e-3
        # a few voxels at once. The published branch, of means, is left as it is.
        self.gain = STEADY / self.last.in_features if pooling == "moments" else 1.0
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """``(B, 3, 4)``: the matrix less the identity."""
        with torch.autocast(features[0].device.type, enabled=False):
            pool = moments if self.pooling == "moments" else mean_of_voxels
            pooled = torch.cat([pool(part).flatten(1) for part in features], dim=1)
            offset: Tensor = self.gain * self.last(pooled)
        return offset.unflatten(1, (3, 4))


class DeformableBranch(Staged):
    """Features weighted by squeeze and excitation, then convolutions to the derivatives of a field.

    The features are never joined in one volume, nor multiplied by their weights: the first convolution is the sum of
    those of its parts, with weights of its own for each image. At full resolution either copy would cost as much memory
    as all features together.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.channels = list(channels)
        every = sum(channels)
        squeezed = max(every // REDUCTION, 1)
        self.excitation = nn.Sequential(
            nn.Linear(every, squeezed), nn.ReLU(inplace=True), nn.Linear(squeezed, every), nn.Sigmoid()
        )
        widths = [width * factor for factor in BRANCH_WIDTHS]
        self.merge, self.merged = Convolution(every, widths[0]), Block.after(widths[0], "leaky")
        self.narrowing = nn.Sequential(*(Block.same(a, b, "leaky") for a, b in pairwise(widths)))
        self.last = Convolution(widths[-1], 3)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """``(B, 3, I, J, K)`` before the sigmoid."""
        gates = self.excitation(torch.cat([mean_of_voxels(part) for part in features], dim=1))
        # Two stages: the narrow blocks, computed again, hold less than the merge does in any case.
        merged = self.run(self._merge, gates, *features)
        logits: Tensor = self.last(self.run(self.narrowing, merged))
        return logits

    def _merge(self, gates: Tensor, *features: Tensor) -> Tensor:
        """The first block, from gates ``(B, C)`` and the parts of the features."""
        weights = self.merge.weight * gates[:, None, :, None, None, None]
        images = []
        for n, own in enumerate(weights):
            first, *others = zip(features, own.split(self.channels, dim=1), strict=True)
            image = convolve(first[0][n : n + 1], first[1], self.merge.bias)
            for part, weight in others:
                image = image + convolve(part[n : n + 1], weight)
            images.append(image)
        merged: Tensor = self.merged(torch.cat(images))
        return merged


def mean_of_voxels(volume: Tensor) -> Tensor:
    """``(B, C, I, J, K)`` to ``(B, C)`` in single precision."""
    return volume.mean(dim=(2, 3, 4), dtype=torch.float32)
