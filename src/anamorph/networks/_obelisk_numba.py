# mypy: allow-untyped-defs
"""Fused CPU kernel of the differences that OBELISK looks at; the readable twin is in ``obelisk.py``."""

import numpy as np
from numba import njit

from anamorph.discrete._correlation_numba import RELAXED, cell_of, read

u64 = np.uint64


@njit(fastmath=RELAXED, cache=True)
def _difference(volume, one, other, channels, out):
    """What is read at one cell less what is read at the other, channel by channel."""
    for c in range(channels):
        out[c] = read(volume, one[0] + u64(c), one[1], one[2]) - read(volume, other[0] + u64(c), other[1], other[2])


@njit(nogil=True, error_model="numpy", cache=True)
def differences(begin, end, volume, places, here, there, out):
    """out[:, m, p] = volume(places[p] + here[m]) - volume(places[p] + there[m]).

    ``volume`` is ``(I, J, K, C)``, its border repeated; ``places`` ``(P, 3)``, both sets of offsets ``(M, 3)``.
    """
    ni, nj, nk, channels = volume.shape
    flat = volume.reshape(-1)
    for m in range(begin, end):
        values = np.empty(channels, np.float32)
        for p in range(len(places)):
            one = cell_of(places[p], here[m], (ni, nj, nk, channels))
            other = cell_of(places[p], there[m], (ni, nj, nk, channels))
            _difference(flat, one, other, channels, values)
            for c in range(channels):
                out[c, m, p] = values[c]
