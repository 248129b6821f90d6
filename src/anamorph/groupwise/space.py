"""The grid of a template: as large and as fine as the middle scan of the cohort, whichever scan it starts from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anamorph.geometry import Grid


def template_grid(grids: Sequence[Grid], like: Grid | None) -> Grid:
    """Median voxel size and median field of view of the scans, per axis.

    Args:
        grids: of all scans.
        like: of the scan to start from, whose axes and centre it takes; None is RAS axes around the origin.
    """
    axes = np.eye(3) if like is None else _orthonormal(like.directions)
    spacing = np.median([_along(axes, grid) for grid in grids], axis=0)
    extent_mm = np.median([np.ptp(grid.corners_mm() @ axes, axis=0) for grid in grids], axis=0)
    i, j, k = (int(n) for n in np.maximum(np.rint(extent_mm / spacing), 1))
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    middle = np.zeros(3) if like is None else like.centre_mm
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2)
    return Grid((i, j, k), affine)


def _along(axes: np.ndarray, grid: Grid) -> np.ndarray:
    """Voxel size of a grid along each of the axes: that of the nearest of its own."""
    nearest = np.abs(axes.T @ grid.directions).argmax(axis=1)
    return grid.spacing_mm[nearest]


def _orthonormal(directions: np.ndarray) -> np.ndarray:
    """The nearest axes at right angles; a tilted gantry has none."""
    left, _, right = np.linalg.svd(directions)
    return left @ right
