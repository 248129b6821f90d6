# mypy: allow-untyped-defs
"""Fused CPU kernels of costs and expected values; the readable twins are in ``correlation.py``.

They read a volume ``(I, J, K, C)``, flattened, between its voxels, its border repeated.
"""

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


@njit(fastmath=RELAXED, cache=True)
def _apart(here, volume, first, steps, weights, channels):
    """The squared difference of a feature vector and of the volume between eight voxels, over the channels."""
    total = f32(0)
    for n in range(channels):
        difference = here[n] - read(volume, first + u64(n), steps, weights)
        total += difference * difference
    return total


@njit(fastmath=RELAXED, cache=True)
def _slopes(here, volume, first, steps, weights, gradient, out):
    """What a change of that difference means for each value that is read of the volume."""
    for n in range(len(out)):
        out[n] = f32(2) * gradient * (read(volume, first + u64(n), steps, weights) - here[n])


@njit(nogil=True, error_model="numpy", cache=True)
def squared_differences(begin, end, here, moving, centres, displacements, out):
    """out[n, l] = ||here[n] - moving(centres[n] + displacements[l])||^2, the border of ``moving`` repeated.

    ``here`` is ``(N, C)``, ``moving`` ``(I, J, K, C)``.
    """
    ni, nj, nk, channels = moving.shape
    flat = moving.reshape(-1)
    for n in range(begin, end):
        for label in range(len(displacements)):
            first, steps, weights = cell_of(centres[n], displacements[label], (ni, nj, nk, channels))
            out[n, label] = _apart(here[n], flat, first, steps, weights, channels)


@njit(nogil=True, error_model="numpy", cache=True)
def squared_difference_gradients(begin, end, here, moving, centres, displacements, gradients, d_here, d_moving):
    """Gradients of a sum weighted by ``gradients (N, L)``: ``d_here (N, C)`` and ``d_moving (P, I, J, K, C)``, from 0.

    The second is a sum over P parts: several points add to one voxel, so each part of the points has its own.
    """
    ni, nj, nk, channels = moving.shape
    flat = moving.reshape(-1)
    parts = len(d_moving)
    for part in range(begin, end):
        d_flat = d_moving[part].reshape(-1)
        slopes = np.empty(channels, f32)
        for n in range(part * len(centres) // parts, (part + 1) * len(centres) // parts):
            for label in range(len(displacements)):
                first, steps, weights = cell_of(centres[n], displacements[label], (ni, nj, nk, channels))
                _slopes(here[n], flat, first, steps, weights, gradients[n, label], slopes)
                d_here[n] -= slopes
                add(d_flat, first, steps, weights, slopes)


@njit(fastmath=RELAXED, cache=True)
def _add_share(volume, first, steps, weights, channels, share, out):
    """Add a share of what is read of the volume, channel by channel."""
    for c in range(channels):
        out[c] += share * read(volume, first + u64(c), steps, weights)


@njit(fastmath=RELAXED, cache=True)
def _inner(volume, first, steps, weights, channels, vector):
    """The inner product of a vector and of what is read of the volume."""
    total = f32(0)
    for c in range(channels):
        total += vector[c] * read(volume, first + u64(c), steps, weights)
    return total


@njit(nogil=True, error_model="numpy", cache=True)
def expected(begin, end, volume, probabilities, points, labels, out):
    """out[n] = sum over l of probabilities[n, l] volume(points[n] + labels[l]); ``volume`` is ``(I, J, K, C)``."""
    ni, nj, nk, channels = volume.shape
    flat = volume.reshape(-1)
    for n in range(begin, end):
        out[n] = f32(0)
        for label in range(len(labels)):
            first, steps, weights = cell_of(points[n], labels[label], (ni, nj, nk, channels))
            _add_share(flat, first, steps, weights, channels, probabilities[n, label], out[n])


@njit(nogil=True, error_model="numpy", cache=True)
def probability_gradients(begin, end, volume, gradients, points, labels, out):
    """out[n, l] = the inner product of gradients[n] and volume(points[n] + labels[l])."""
    ni, nj, nk, channels = volume.shape
    flat = volume.reshape(-1)
    for n in range(begin, end):
        for label in range(len(labels)):
            first, steps, weights = cell_of(points[n], labels[label], (ni, nj, nk, channels))
            out[n, label] = _inner(flat, first, steps, weights, channels, gradients[n])
