"""Where the points of PDD-Net lie: the conventions of its programs and the exact one; all in voxels of the scan.

The published programs speak of a scan as of the interval from -1 to 1 along each axis, and differ in what that means.
A network must be used with the convention that it was trained with, so its card keeps the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch

from anamorph.discrete.labels import grid_points, label_window

if TYPE_CHECKING:
    from torch import Tensor

Convention = Literal["voxel", "corner", "half-pixel", "two-warps"]
"""``voxel``: every point is where its voxel is, and grids are those of the centres of equal cells. ``corner``: -1 and 1
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
    """The same for the places at which features are computed."""
    if convention != "two-warps":
        return points(counts, shape, convention)
    scale = torch.tensor([(size - 1) / size for size in shape])
    return (grid_points(shape, counts) + 0.5) * scale


def displacements(width: int, reach: float, shape: Sequence[int], convention: Convention) -> Tensor:
    """``(width^3, 3)`` voxels: the labels of a search, the last axis fastest, the middle one zero.

    Args:
        width: labels along each axis, odd.
        reach: the largest displacement as a share of half the extent; ``half-pixel`` stays below by 1 / width of it.
        shape: of the scan.
        convention: see there.
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
    """Voxels of a scan as (fractional) indices of a smaller map of it.

    Args:
        places: ``(..., 3)``.
        shape: of the scan.
        cells: of the map.
        convention: see there.
        stride: for a map made by strided convolutions, whose cell n is at voxel ``stride * n``; 0 for one made at
            :func:`points`.
    """
    if convention == "voxel" and stride:
        return places / stride
    size, count = places.new_tensor([*shape]), places.new_tensor([*cells])
    if convention in ("voxel", "half-pixel"):
        return (places + 0.5) * (count / size) - 0.5
    return places * ((count - 1) / (size - 1).clamp_min(1))
