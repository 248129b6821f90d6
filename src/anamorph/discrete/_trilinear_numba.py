# mypy: allow-untyped-defs
"""Read a volume ``(I, J, K, C)``, flattened, between its voxels, its border repeated; for the kernels."""

import numpy as np
from numba import njit

from anamorph.geometry._sampling_numba import corner

f32 = np.float32
u64 = np.uint64
RELAXED = {"nsz", "arcp", "contract", "reassoc"}
"""What the kernels need to be vectorised; not a number stays what it is."""


@njit(cache=True)
def cell_of(centre, displacement, shape):
    """Where the eight voxels around a position lie, and their weights: first index, three steps, eight weights."""
    ni, nj, nk, channels = shape
    i0, i1, a = corner(centre[0] + displacement[0], ni)
    j0, j1, b = corner(centre[1] + displacement[1], nj)
    k0, k1, c = corner(centre[2] + displacement[2], nk)
    first = u64(((i0 * nj + j0) * nk + k0) * channels)
    steps = u64((i1 - i0) * nj * nk * channels), u64((j1 - j0) * nk * channels), u64((k1 - k0) * channels)
    w11, w10 = b * c, b * (f32(1) - c)
    w01, w00 = (f32(1) - b) * c, (f32(1) - b) * (f32(1) - c)
    e = f32(1) - a
    return first, steps, (e * w00, e * w01, e * w10, e * w11, a * w00, a * w01, a * w10, a * w11)


@njit(fastmath=RELAXED, cache=True)
def read(volume, m, steps, w):
    """The value at the cell whose first voxel is ``m``."""
    di, dj, dk = steps
    return (
        (w[0] * volume[m] + w[1] * volume[m + dk] + w[2] * volume[m + dj] + w[3] * volume[m + dj + dk])
        + (w[4] * volume[m + di] + w[5] * volume[m + di + dk])
        + (w[6] * volume[m + di + dj] + w[7] * volume[m + di + dj + dk])
    )


@njit(fastmath=RELAXED, cache=True)
def add(volume, first, steps, weights, values):
    """The adjoint of :func:`read` for the values of all channels."""
    di, dj, dk = steps
    _add_scaled(volume, first, weights[0], values)
    _add_scaled(volume, first + dk, weights[1], values)
    _add_scaled(volume, first + dj, weights[2], values)
    _add_scaled(volume, first + dj + dk, weights[3], values)
    _add_scaled(volume, first + di, weights[4], values)
    _add_scaled(volume, first + di + dk, weights[5], values)
    _add_scaled(volume, first + di + dj, weights[6], values)
    _add_scaled(volume, first + di + dj + dk, weights[7], values)


@njit(fastmath=RELAXED, cache=True)
def _add_scaled(volume, first, weight, values):
    for n in range(len(values)):
        volume[first + u64(n)] += weight * values[n]
