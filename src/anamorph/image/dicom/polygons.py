"""Polygons and voxels: what lies inside outlines drawn on a slice, and the outlines of what lies in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def fill(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Which voxels of a slice have their centre inside an odd number of polygons, so that inner outlines are holes.

    Edges are crossed row by row in floating point. Pillow and OpenCV round vertices to voxels; Matplotlib and
    scikit-image ask each voxel about each edge, which takes 30 times as long on an outline of a body.

    Args:
        polygons: ``(N, 2)`` vertices each, in voxels along i and j, closed by the first one.
        shape: ``(I, J)`` of the slice.

    Returns:
        ``(I, J)`` booleans.
    """
    columns, rows = shape
    crossings = np.zeros((rows, columns + 1), np.int32)
    for polygon in polygons:
        x, y = np.asarray(polygon, np.float64).T
        run, rise = np.roll(x, -1) - x, np.roll(y, -1) - y
        # An edge holds its lower end and not its upper one, so that two edges that meet on a row count once.
        first = np.clip(np.ceil(np.minimum(y, y + rise)), 0, rows).astype(int)
        end = np.clip(np.ceil(np.maximum(y, y + rise)), 0, rows).astype(int)
        count = end - first
        edge = np.repeat(np.arange(len(x)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        crossed = x[edge] + run[edge] * ((row - y[edge]) / rise[edge])
        np.add.at(crossings, (row, np.clip(np.ceil(crossed), 0, columns).astype(int)), 1)
    return (np.cumsum(crossings[:, :columns], axis=1) % 2 == 1).T


def coverage(polygons: Sequence[np.ndarray], shape: tuple[int, int], parts: int = 4) -> np.ndarray:
    """The share of each voxel of a slice that polygons cover, by so many sample points along each side.

    Args:
        polygons: as of :func:`fill`.
        shape: ``(I, J)`` of the slice.
        parts: sample points along each side of a voxel.

    Returns:
        ``(I, J)`` float32.
    """
    out = np.zeros(shape, np.float32)
    vertices = np.concatenate([np.asarray(polygon, np.float64) for polygon in polygons])
    low = np.clip(np.floor(vertices.min(axis=0) + 0.5), 0, shape).astype(int)
    high = np.clip(np.floor(vertices.max(axis=0) + 0.5) + 1, low, shape).astype(int)
    columns, rows = (int(n) for n in high - low)
    fine = [(np.asarray(polygon, np.float64) - low + 0.5) * parts - 0.5 for polygon in polygons]
    inside = fill(fine, (columns * parts, rows * parts)).reshape(columns, parts, rows, parts)
    out[low[0] : high[0], low[1] : high[1]] = inside.mean(axis=(1, 3), dtype=np.float32)
    return out


def trace(values: np.ndarray, level: float = 0.5) -> list[np.ndarray]:
    """The closed outlines of what lies above a level in a slice, holes included.

    Args:
        values: ``(I, J)``; what is beyond the border counts as zero.
        level: the outlines run where linear interpolation reaches it.

    Returns:
        ``(N, 2)`` vertices each, in voxels along i and j, without the first one again at the end.
    """
    from contourpy import contour_generator

    held = np.argwhere(values > 0)
    if not len(held):
        return []
    low, high = held.min(axis=0), held.max(axis=0) + 1
    around = np.pad(np.asarray(values[low[0] : high[0], low[1] : high[1]], np.float64), 1)
    lines = contour_generator(z=around.T).lines(level)
    return [np.asarray(line)[:-1] + low - 1 for line in lines if len(line) > 3]
