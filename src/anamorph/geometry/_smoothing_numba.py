# mypy: allow-untyped-defs
"""CPU kernel of separable box smoothing; the readable twin is in ``smoothing.py``."""

import numpy as np
from numba import njit

f32 = np.float32


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
