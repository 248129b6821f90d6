"""The volumes of the viewer: 8-bit values on one grid, as NIfTI files."""

from __future__ import annotations

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import native, sample
from anamorph.image.background import background_value
from anamorph.image.convert import to_nibabel
from anamorph.image.image import Image
from anamorph.report.pictures import pair_windows, to_grey
from anamorph.transforms.maps import Affine, Reading

WINDOW_VOXELS = 2_000_000
"""Voxels that are enough to choose a window by."""


def shown_grid(grid: Grid, most_voxels: int) -> Grid:
    """The grid of a scan, or a coarser one over the same field of view with at most so many voxels.

    Axes whose voxels are wider than those of the coarser grid keep them.
    """
    shape = np.array(grid.shape)
    if shape.prod() <= most_voxels:
        return grid
    low, high = grid.finest_mm, grid.longest_mm
    for _ in range(30):
        middle = (low * high) ** 0.5
        fits = np.prod(grid.resampled(np.maximum(middle, grid.spacing_mm)).shape) <= most_voxels
        low, high = (low, middle) if fits else (middle, high)
    return grid.resampled(np.maximum(high, grid.spacing_mm))


def scan_on(scan: Image, grid: Grid) -> np.ndarray:
    """``(I, J, K)`` float32: the first channel of a scan on a grid, averaged where that is coarser."""
    channel = native(scan.data[:1])
    if scan.grid.matches(grid):
        return channel[0].astype(np.float32)
    return Reading.of(scan.grid, grid).read(channel, fill=background_value(scan))[0]


def map_on(found: Image, grid: Grid) -> np.ndarray:
    """``(I, J, K)`` float32: a map read at the voxels of a grid, NaN where it says nothing."""
    positions = Affine.identity().moving_positions(grid, found.grid)
    return sample(native(found.data[:1]), positions, "linear", float("nan"))[0]


def grey(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, both_ct: bool) -> list[np.ndarray]:
    """Three scans on one grid as 8-bit grey, in one window per scan (per pair for CT)."""
    every = max(round((fixed.size / WINDOW_VOXELS) ** (1 / 3)), 1)
    thin = (slice(None, None, every),) * 3
    of_fixed, of_moving = pair_windows([fixed[thin]], [warped[thin]], both_ct)
    return [to_grey(fixed, of_fixed), to_grey(moving, of_moving), to_grey(warped, of_moving)]


def nifti_bytes(values: np.ndarray, grid: Grid) -> bytes:
    """A volume as a NIfTI file."""
    return to_nibabel(Image(values[None], grid)).to_bytes()
