"""Where ITK can hold the field of a sheared grid."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid


def orthogonal_cover(grid: Grid) -> Grid:
    """The grid itself if its axes are orthogonal, else the nearest orthogonal one of its spacing that covers it."""
    if not grid.is_sheared:
        return grid
    axes = grid.nearest_orthogonal().directions
    corners = grid.corners_mm() @ axes
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.maximum(np.ceil((high - low) / grid.spacing_mm - 1e-6), 1).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes * grid.spacing_mm
    first = (low + high) / 2 - (shape - 1) / 2 * grid.spacing_mm
    affine[:3, 3] = axes @ first
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
