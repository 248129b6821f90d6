# mypy: allow-untyped-defs
"""Fused CPU kernels of expected values; the readable twin is in ``expected_values.py``."""

import numpy as np
from numba import njit

from anamorph.discrete._trilinear_numba import RELAXED, cell_of, read

f32 = np.float32
u64 = np.uint64


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
