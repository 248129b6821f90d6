"""A grid taken in parts, so that what is computed of a large scan needs little memory, on several threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anamorph.geometry.grid import Grid
from anamorph.runtime.threads import limited_kernels, over_slabs

T = TypeVar("T")
SLAB_VOXELS = 1 << 20


def over_grid(grid: Grid, work: Callable[[slice, Grid], T]) -> list[T]:
    """Call ``work(planes, slab)`` on parts of a grid along its first axis, several at a time.

    Args:
        grid: the whole.
        work: is given which planes a part holds, and the grid of the part.

    Returns:
        What it returned, in the order of the parts, which do not depend on the number of threads.
    """
    step = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    parts = [slice(first, min(first + step, grid.shape[0])) for first in range(0, grid.shape[0], step)]

    def some(begin: int, end: int) -> list[T]:
        with limited_kernels(1):  # the threads are busy with other parts
            return [work(planes, planes_of(grid, planes)) for planes in parts[begin:end]]

    if len(parts) == 1:
        return [work(parts[0], grid)]
    return [found for several in over_slabs(some, len(parts)) for found in several]


def planes_of(grid: Grid, planes: slice) -> Grid:
    """The grid of some planes along the first axis."""
    return grid.cropped((planes, slice(0, grid.shape[1]), slice(0, grid.shape[2])))
