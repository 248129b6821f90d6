# mypy: allow-untyped-defs
"""Fused CPU kernel of the correlation layer; the readable twin is in ``correlation.py``."""

import numpy as np
from numba import njit, prange

f32 = np.float32
u64 = np.uint64


@njit(inline="always")
def _place(position, last):
    """The lower voxel, the step to the upper one and its weight; positions outside move to the border."""
    # Not a number ends at 0: it must never become an index.
    position = min(position, f32(last)) if position > f32(0) else f32(0)
    lower = min(int(position), max(last - 1, 0))
    return lower, min(last, 1), position - f32(lower)


@njit(fastmath={"nsz", "arcp", "contract", "reassoc"}, cache=True)
def _apart(here, volume, base, di, dj, dk, a, b, c, channels):
    """The squared difference of a feature vector and of the volume between eight voxels, over the channels."""
    w11, w10 = b * c, b * (f32(1) - c)
    w01, w00 = (f32(1) - b) * c, (f32(1) - b) * (f32(1) - c)
    e = f32(1) - a
    u000, u001, u010, u011 = e * w00, e * w01, e * w10, e * w11
    u100, u101, u110, u111 = a * w00, a * w01, a * w10, a * w11
    total = f32(0)
    for n in range(channels):
        m = base + u64(n)
        value = (
            (u000 * volume[m] + u001 * volume[m + dk] + u010 * volume[m + dj] + u011 * volume[m + dj + dk])
            + (u100 * volume[m + di] + u101 * volume[m + di + dk])
            + (u110 * volume[m + di + dj] + u111 * volume[m + di + dj + dk])
        )
        difference = here[n] - value
        total += difference * difference
    return total


@njit(parallel=True, cache=True)
def squared_differences(here, moving, centres, displacements, out):
    """out[n, l] = ||here[n] - moving(centres[n] + displacements[l])||^2, the border of ``moving`` repeated.

    ``here`` is ``(N, C)``, ``moving`` ``(I, J, K, C)``.
    """
    ni, nj, nk, channels = moving.shape
    flat = moving.reshape(-1)
    for n in prange(len(centres)):
        vector = here[n]
        for label in range(len(displacements)):
            i, di, a = _place(centres[n, 0] + displacements[label, 0], ni - 1)
            j, dj, b = _place(centres[n, 1] + displacements[label, 1], nj - 1)
            k, dk, c = _place(centres[n, 2] + displacements[label, 2], nk - 1)
            out[n, label] = _apart(
                vector,
                flat,
                u64(((i * nj + j) * nk + k) * channels),
                u64(di * nj * nk * channels),
                u64(dj * nk * channels),
                u64(dk * channels),
                a,
                b,
                c,
                channels,
            )
