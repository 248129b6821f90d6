"""Features of PDD-Net: a small network that looks at far-away places by learnable offsets (OBELISK)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn.functional import avg_pool3d, grid_sample, pad

from anamorph.discrete import fused
from anamorph.discrete.labels import grid_points, label_window
from anamorph.geometry.frames import to_grid_sample_order, voxel_to_normalised
from anamorph.networks.blocks import Convolution
from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import over_slabs

if TYPE_CHECKING:
    from torch import Tensor


Convention = Literal["voxel", "corner", "half-pixel", "two-warps"]
"""Where the points of PDD-Net lie.

The published programs speak of a scan as of the interval from -1 to 1 along each axis, and differ in what that means; a
network must be used as it was trained, so its card keeps the name.

``voxel``: every point is where its voxel is, and grids are those of the centres of equal cells. ``corner``: -1 and 1
are the centres of the first and the last voxel of every map, however it was made (PyTorch before 1.3). ``half-pixel``:
they are the outer faces of these voxels (the first program, on later versions of PyTorch). ``two-warps``: features lie
as in ``half-pixel`` and are read as in ``corner`` (the program with two warps)."""


def points(counts: Sequence[int], shape: Sequence[int], convention: Convention) -> Tensor:
    """``(prod(counts), 3)``: an even grid of points over a scan of a shape, the last axis fastest."""
    if convention in ("voxel", "half-pixel"):
        return grid_points(shape, counts)
    reach = [(size - 1) / 2 for size in shape]
    return label_window(counts, reach) + torch.tensor(reach)


def feature_points(counts: Sequence[int], shape: Sequence[int], convention: Convention) -> Tensor:
    """``(prod(counts), 3)``: the places at which features are computed, the last axis fastest."""
    if convention != "two-warps":
        return points(counts, shape, convention)
    scale = torch.tensor([(size - 1) / size for size in shape])
    return (grid_points(shape, counts) + 0.5) * scale


def displacements(width: int, reach: float, shape: Sequence[int], convention: Convention) -> Tensor:
    """``(width^3, 3)`` voxels: the labels of a search, the last axis fastest, the middle one zero.

    Args:
        width: labels along each axis, odd.
        reach: the largest displacement as a share of half the extent; ``half-pixel`` takes 1 / width less.
        shape: of the scan.
        convention: of the program that the network was trained with.
    """
    share = reach * (width - 1) / width if convention == "half-pixel" else reach
    return label_window([width] * 3, (share * half_extent(shape, convention)).tolist())


def half_extent(shape: Sequence[int], convention: Convention) -> Tensor:
    """``(3,)`` voxels: what 1 means along each axis of a scan."""
    size = torch.tensor([float(n) for n in shape])
    return size / 2 if convention in ("voxel", "half-pixel") else (size - 1) / 2


def in_map(
    places: Tensor, shape: Sequence[int], cells: Sequence[int], convention: Convention, stride: int = 0
) -> Tensor:
    """Voxels of a scan as (fractional) indices of a smaller map.

    Args:
        places: ``(..., 3)``.
        shape: of the scan.
        cells: of the map.
        convention: of the program that the network was trained with.
        stride: for a map made by strided convolutions, whose cell n is at voxel ``stride * n``; 0 for one made at
            :func:`points`.
    """
    if convention == "voxel" and stride:
        return places / stride
    size, count = places.new_tensor([*shape]), places.new_tensor([*cells])
    if convention in ("voxel", "half-pixel"):
        return (places + 0.5) * (count / size) - 0.5
    return places * ((count - 1) / (size - 1).clamp_min(1))


FIRST_CHANNELS = 4
OFFSET_DEVIATION = 0.05


class Obelisk(nn.Module):
    """A vector of features at every ``spacing``-th voxel of a scan (Heinrich et al., MedIA 2019; MICCAI 2019).

    A strided convolution makes 4 channels. At every place ``2 * channels`` pairs of points are looked at, each moved
    from the place by an offset of its own, and the differences go through three convolutions. With 16 channels there
    are 120,780 parameters, with 24 there are 270,772, as published.

    Args:
        inputs: channels of a scan.
        channels: features of a place.
        spacing: of the places, voxels; published is 3.
        pooled: halve the resolution before the first convolution, as published; scans of few voxels are better off
            without.
        sampling: see :data:`~anamorph.networks.obelisk.Convention`.
    """

    def __init__(
        self,
        inputs: int = 1,
        channels: int = 16,
        spacing: int = 3,
        pooled: bool = True,
        sampling: Convention = "voxel",
    ) -> None:
        super().__init__()
        self.spacing, self.pooled, self.sampling = spacing, pooled, sampling
        wide = 4 * channels
        self.offsets = nn.Parameter(torch.randn(2, 2 * channels, 3) * OFFSET_DEVIATION)
        self.first = nn.Conv3d(inputs, FIRST_CHANNELS, 5, stride=2, padding=2, bias=False)
        self.first_norm = nn.BatchNorm3d(FIRST_CHANNELS)
        self.mix = nn.Sequential(
            nn.Conv3d(FIRST_CHANNELS * 2 * channels, wide, 1, bias=False),
            nn.BatchNorm3d(wide),
            nn.ReLU(inplace=True),
            Convolution(wide, wide, bias=False),
            nn.BatchNorm3d(wide),
            nn.ReLU(inplace=True),
            nn.Conv3d(wide, channels, 1),
        )
        for part in self.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.xavier_normal_(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, inputs, I, J, K)`` to ``(B, channels, I // spacing, J // spacing, K // spacing)``."""
        shape = image.shape[2:]
        cells = [max(n // self.spacing, 1) for n in shape]
        pooled = avg_pool3d(image, 3, stride=2, padding=1) if self.pooled else image
        first = torch.relu(self.first_norm(self.first(pooled)))
        # Places in at least single precision: in half precision they would be off by tenths of a voxel.
        first = first.to(torch.promote_types(first.dtype, torch.float32))
        places = feature_points(cells, shape, self.sampling).to(image)
        look = self._differences if fused.suits(first, constant=(first, self.offsets)) else self.differences_torch
        return self.mix(look(first, places, shape).reshape(len(image), -1, *cells))

    def differences_torch(self, first: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
        """``(B, 4, 2 * channels, P)``: differences of the first map around places; differentiable, on any device."""
        here, there = (self._read(first, places, offsets, shape) for offsets in self.offsets)
        return here - there

    def _differences(self, first: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
        """The same by the kernel."""
        # Around a border of zeros everything is zero, which is what repeating that border says.
        volumes = pad(first, [1] * 6).permute(0, 2, 3, 4, 1)
        centres = self._indices(places, first, shape) + 1
        middle = self._indices(torch.zeros_like(places[:1]), first, shape)
        here, there = (self._indices(self._moves(offsets, shape), first, shape) - middle for offsets in self.offsets)
        out = first.new_empty(len(first), first.shape[1], len(here), len(centres))
        for volume, one in zip(volumes, out, strict=True):
            over_slabs(kernels.far_differences, len(here), *fused.arrays(volume, centres, here, there, one))
        return out

    def _moves(self, offsets: Tensor, shape: torch.Size) -> Tensor:
        """Offsets in voxels of the scan."""
        return offsets * half_extent(shape, self.sampling).to(offsets)

    def _indices(self, points_vox: Tensor, first: Tensor, shape: torch.Size) -> Tensor:
        """Points of the scan as indices of the first map."""
        return in_map(points_vox, shape, first.shape[2:], self.sampling, 4 if self.pooled else 2)

    def _read(self, first: Tensor, places: Tensor, offsets: Tensor, shape: torch.Size) -> Tensor:
        """``(B, 4, 2 * channels, P)``: the first map around every place, zero outside."""
        indices = self._indices(places + self._moves(offsets, shape)[:, None], first, shape)
        points = to_grid_sample_order(voxel_to_normalised(indices, tuple(first.shape[2:])))[None, :, :, None]
        points = points.to(first.dtype).expand(len(first), -1, -1, -1, -1)
        return grid_sample(first, points, align_corners=True)[..., 0]
