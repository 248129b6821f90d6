# mypy: allow-untyped-defs
"""CPU kernels of coded layers; the readable twins are in ``layer_codes.py``."""

import numpy as np
from numba import njit

f32 = np.float32


@njit(nogil=True, error_model="numpy", cache=True)
def count_codes(begin, end, labels, codes, count, out):
    """Share of each code among the 27 voxels around every second voxel.

    Args:
        labels: ``(L, I, J, K)`` uint8.
        codes: ``(L, S)`` below ``count``.
        count: of codes per layer.
        out: ``(ceil(I / 2), ..., L * count)`` float32, zeros.
    """
    layers, ni, nj, nk = labels.shape
    for i in range(begin, end):
        i0, i1 = max(2 * i - 1, 0), min(2 * i + 2, ni)
        for j in range(out.shape[1]):
            j0, j1 = max(2 * j - 1, 0), min(2 * j + 2, nj)
            for k in range(out.shape[2]):
                k0, k1 = max(2 * k - 1, 0), min(2 * k + 2, nk)
                share = f32(1) / ((i1 - i0) * (j1 - j0) * (k1 - k0))
                for layer in range(layers):
                    for a in range(i0, i1):
                        for b in range(j0, j1):
                            for c in range(k0, k1):
                                out[i, j, k, layer * count + codes[layer, labels[layer, a, b, c]]] += share


@njit(nogil=True, error_model="numpy", cache=True)
def average_lines(begin, end, volume, reach, out):
    """Averages over the ``2 * reach + 1`` neighbours along the middle axis of ``(A, N, M)``, fewer at the ends."""
    n = volume.shape[1]
    for a in range(begin, end):
        for x in range(n):
            low, high = max(x - reach, 0), min(x + reach + 1, n)
            share = f32(1) / (high - low)
            for m in range(volume.shape[2]):
                out[a, x, m] = volume[a, low, m] * share
            for y in range(low + 1, high):
                for m in range(volume.shape[2]):
                    out[a, x, m] += volume[a, y, m] * share
