"""How wide the networks are and how they pad, known without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Activation = Literal["relu", "leaky"]
LEAK = 0.01
"""Slope of ``leaky`` below 0."""

BASE_CHANNELS = 4
CONVOLUTIONS = (1, 2, 3, 2)
"""Published: so many 3 x 3 x 3 convolutions follow each halving of the resolution."""


def channels_of(mult: int, levels: int) -> list[int]:
    """Channels of each resolution, finest first: published are 8 times 4, 8, 16, 32, 64."""
    return [mult * BASE_CHANNELS * 2**level for level in range(levels + 1)]


def padding_to_multiple(shape: Sequence[int], cell: int) -> list[tuple[int, int]]:
    """How many voxels to add before and after each axis, so that every axis is a whole number of cells.

    There are at least two cells along an axis of several voxels: over a single voxel no norm can be taken.
    """
    padding = []
    for n in shape:
        missing = max(-(-n // cell), 2 if n > 1 else 1) * cell - n
        padding.append((missing // 2, missing - missing // 2))
    return padding


def padding_after(shape: Sequence[int], cell: int) -> list[int]:
    """How many voxels to add after each axis, so that cells begin at the first voxel; sizes as in the other padding."""
    return [sum(pair) for pair in padding_to_multiple(shape, cell)]
