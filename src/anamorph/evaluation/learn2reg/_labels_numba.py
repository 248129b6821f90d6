# mypy: allow-untyped-defs
"""Kernels over label maps. One thread each, without the interpreter's lock: pairs are evaluated side by side."""

import math

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def warp_nearest(labels, disp, out):
    """The voxel nearest to p + u(p), halves upwards; 0 where p + u(p) lies beyond the outermost voxel centres."""
    ni, nj, nk = labels.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x = i + np.float64(disp[0, i, j, k])
                y = j + np.float64(disp[1, i, j, k])
                z = k + np.float64(disp[2, i, j, k])
                inside = 0 <= x <= ni - 1 and 0 <= y <= nj - 1 and 0 <= z <= nk - 1
                if inside:
                    out[i, j, k] = labels[math.floor(x + 0.5), math.floor(y + 0.5), math.floor(z + 0.5)]
                else:
                    out[i, j, k] = 0


@njit(nogil=True, cache=True)
def count_surface_elements(padded):
    """How many (cell, label) pairs have some but not all of the cell's eight corners in the label."""
    total = 0
    ni, nj, nk = padded.shape
    corners = np.empty(8, padded.dtype)
    for i in range(ni - 1):
        for j in range(nj - 1):
            for k in range(nk - 1):
                if _read_corners(padded, i, j, k, corners):
                    for n in range(8):
                        if corners[n] != 0 and _is_first(corners, n):
                            total += 1
    return total


@njit(nogil=True, cache=True)
def list_surface_elements(padded, labels, cells, codes):
    """Fill in label, cell and neighbour code (corner n sets bit 7 - n) of what ``count_surface_elements`` counts."""
    row = 0
    ni, nj, nk = padded.shape
    corners = np.empty(8, padded.dtype)
    for i in range(ni - 1):
        for j in range(nj - 1):
            for k in range(nk - 1):
                if not _read_corners(padded, i, j, k, corners):
                    continue
                for n in range(8):
                    if corners[n] == 0 or not _is_first(corners, n):
                        continue
                    code = 0
                    for m in range(8):
                        code = 2 * code + (1 if corners[m] == corners[n] else 0)
                    labels[row] = corners[n]
                    cells[row, 0], cells[row, 1], cells[row, 2] = i, j, k
                    codes[row] = code
                    row += 1


@njit
def _read_corners(padded, i, j, k, corners):
    """The eight corners of a cell; False if they are all alike."""
    first = padded[i, j, k]
    mixed = False
    for n in range(8):
        corners[n] = padded[i + (n >> 2), j + ((n >> 1) & 1), k + (n & 1)]
        mixed = mixed or corners[n] != first
    return mixed


@njit
def _is_first(corners, n):
    """No earlier corner has the same label."""
    first = True
    for m in range(n):
        first = first and corners[m] != corners[n]
    return first
