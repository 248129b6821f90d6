"""How much memory a registration will take, and how large its files will be."""

from __future__ import annotations

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.base import Method
from anamorph.runtime.memory import INTERPRETER_BYTES


def predicted_peak_bytes(method: Method, fixed: Image, moving: Image) -> int:
    """Peak of the whole command: the method, or the dense fields and maps while they are measured and written."""
    scans = fixed.data.nbytes, moving.data.nbytes
    return peak_bytes_on(method.peak_memory_bytes(fixed.grid, moving.grid), fixed.grid, moving.grid, scans)


def peak_bytes_on(method_bytes: int, fixed: Grid, moving: Grid, scan_bytes: tuple[int, int]) -> int:
    """Peak memory of a pair that need not be read, from what the method needs, two grids and the bytes of each scan."""
    voxels = _voxels(fixed), _voxels(moving)
    # Both fields, two copies of one on its way to the file, and three more maps of the fixed scan.
    writing = 12 * sum(voxels) + 24 * max(voxels) + 16 * voxels[0] + scan_bytes[0]
    return INTERPRETER_BYTES + sum(scan_bytes) + max(method_bytes, writing)


def output_bytes(fixed: Image, moving: Image) -> int:
    """Upper bound of what a run writes: float32 fields hardly shrink when they are compressed."""
    return 12 * (_voxels(fixed.grid) + _voxels(moving.grid)) + (10 + moving.data.itemsize) * _voxels(fixed.grid)


def _voxels(grid: Grid) -> int:
    return grid.shape[0] * grid.shape[1] * grid.shape[2]
