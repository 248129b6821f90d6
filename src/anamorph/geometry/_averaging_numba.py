# mypy: allow-untyped-defs
"""CPU kernels of averages over cells and of separable box smoothing; the readable twins are in ``averaging.py``."""

import numpy as np
from numba import njit

f32 = np.float32


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def pool_channels_first(begin, end, volume, cell, out):
    _, ni, nj, nk = volume.shape
    _, ci, cj, ck = out.shape
    for plane in range(begin, end):
        c = plane // ci
        a = plane % ci
        i0, i1 = a * cell[0], min((a + 1) * cell[0], ni)
        for b in range(cj):
            j0, j1 = b * cell[1], min((b + 1) * cell[1], nj)
            for d in range(ck):
                k0, k1 = d * cell[2], min((d + 1) * cell[2], nk)
                total = f32(0)
                for i in range(i0, i1):
                    for j in range(j0, j1):
                        for k in range(k0, k1):
                            total += f32(volume[c, i, j, k])
                out[c, a, b, d] = total / f32((i1 - i0) * (j1 - j0) * (k1 - k0))


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def pool_channels_last(begin, end, volume, cell, out):
    ni, nj, nk, channels = volume.shape
    _, cj, ck, _ = out.shape
    for row in range(begin, end):
        a = row // cj
        b = row % cj
        i0, i1 = a * cell[0], min((a + 1) * cell[0], ni)
        j0, j1 = b * cell[1], min((b + 1) * cell[1], nj)
        for d in range(ck):
            k0, k1 = d * cell[2], min((d + 1) * cell[2], nk)
            for c in range(channels):
                out[a, b, d, c] = f32(0)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    for k in range(k0, k1):
                        for c in range(channels):
                            out[a, b, d, c] += volume[i, j, k, c]
            scale = f32(1.0 / ((i1 - i0) * (j1 - j0) * (k1 - k0)))
            for c in range(channels):
                out[a, b, d, c] *= scale


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def box_axis(begin, end, field, axis, radius, out):
    """Box average along one spatial axis of ``(C, I, J, K)``, border repeated."""
    _, ni, nj, nk = field.shape
    scale = f32(1.0 / (2 * radius + 1))
    for plane in range(begin, end):
        c = plane // ni
        i = plane % ni
        if axis == 0:
            for j in range(nj):
                for k in range(nk):
                    out[c, i, j, k] = f32(0)
            for d in range(-radius, radius + 1):
                ii = min(max(i + d, 0), ni - 1)
                for j in range(nj):
                    for k in range(nk):
                        out[c, i, j, k] += field[c, ii, j, k] * scale
        elif axis == 1:
            for j in range(nj):
                for k in range(nk):
                    out[c, i, j, k] = f32(0)
                for d in range(-radius, radius + 1):
                    jj = min(max(j + d, 0), nj - 1)
                    for k in range(nk):
                        out[c, i, j, k] += field[c, i, jj, k] * scale
        else:
            for j in range(nj):
                for k in range(nk):
                    s = f32(0)
                    for d in range(-radius, radius + 1):
                        s += field[c, i, j, min(max(k + d, 0), nk - 1)]
                    out[c, i, j, k] = s * scale
