# mypy: allow-untyped-defs
"""Fused CPU kernels of the min-convolution; the readable twin is in ``min_convolution.py``."""

import numpy as np
from numba import njit

f32 = np.float32


@njit(fastmath={"nnan", "nsz"}, cache=True)
def _convolve_axis(source, labels, rest, weight, offset, row, target):
    """target[m, a] = min over b of source[b, m] + (weight * (a - b) + offset)^2, the axis going from first to last."""
    last = labels - 1
    for a in range(labels):
        for m in range(rest):
            row[m] = f32(np.inf)
        for b in range(0, labels, 4):
            # Beyond the last label it is compared again, which changes no minimum.
            b0, b1, b2, b3 = b, min(b + 1, last), min(b + 2, last), min(b + 3, last)
            d0, d1 = weight * f32(a - b0) + offset, weight * f32(a - b1) + offset
            d2, d3 = weight * f32(a - b2) + offset, weight * f32(a - b3) + offset
            p0, p1, p2, p3 = d0 * d0, d1 * d1, d2 * d2, d3 * d3
            s0 = source[b0 * rest : b0 * rest + rest]
            s1 = source[b1 * rest : b1 * rest + rest]
            s2 = source[b2 * rest : b2 * rest + rest]
            s3 = source[b3 * rest : b3 * rest + rest]
            for m in range(rest):
                row[m] = min(row[m], min(min(s0[m] + p0, s1[m] + p1), min(s2[m] + p2, s3[m] + p3)))
        for m in range(rest):
            target[m * labels + a] = row[m]


@njit(cache=True)
def min_convolve(costs, size, weight, offset, scratch, row, out):
    """out[a] = min over b of costs[b] + ||weight * (a - b) + offset||^2 for labels on a grid of ``size``, last fastest.

    Each pass turns the axes by one, so that all three run over long contiguous rows.
    """
    ni, nj, nk = size
    _convolve_axis(costs, ni, nj * nk, weight[0], offset[0], row, out)
    _convolve_axis(out, nj, nk * ni, weight[1], offset[1], row, scratch)
    _convolve_axis(scratch, nk, ni * nj, weight[2], offset[2], row, out)


@njit(nogil=True, error_model="numpy", cache=True)
def min_convolve_all(begin, end, costs, size, weight, offset, out):
    """The same for every row of costs ``(N, labels)`` with offsets ``(N, 3)``."""
    labels = costs.shape[1]
    for n in range(begin, end):
        scratch = np.empty(labels, np.float32)
        row = np.empty(labels, np.float32)
        min_convolve(costs[n], size, weight, offset[n], scratch, row, out[n])
