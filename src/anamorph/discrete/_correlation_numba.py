# mypy: allow-untyped-defs
"""Fused CPU kernels of the correlation layer; the readable twin is in ``correlation.py``."""

import numpy as np
from numba import njit

from anamorph.discrete._trilinear_numba import RELAXED, add, cell_of, read

f32 = np.float32
u64 = np.uint64


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
