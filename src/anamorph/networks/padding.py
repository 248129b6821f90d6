"""Any size through a network of several resolutions: pad, and cut the result."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def padding_to_multiple(shape: Sequence[int], cell: int) -> list[tuple[int, int]]:
    """How many voxels to add before and after each axis, so that every axis is a whole number of cells.

    There are at least two cells along an axis of several voxels: over a single voxel no norm can be taken.
    """
    padding = []
    for n in shape:
        missing = max(-(-n // cell), 2 if n > 1 else 1) * cell - n
        padding.append((missing // 2, missing - missing // 2))
    return padding


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
