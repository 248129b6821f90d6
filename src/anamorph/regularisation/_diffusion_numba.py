# mypy: allow-untyped-defs
"""CPU kernel of the diffusion term; the readable twin is in ``diffusion.py``."""

import numpy as np
from numba import njit

f32 = np.float32


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def add_diffusion(begin, end, disp, strength, gradient):
    """Sum over planes of strength[c, a] * (forward difference of u_c along axis a)^2; its gradient is added."""
    _, ni, nj, nk = disp.shape
    total = 0.0
    for i in range(begin, end):
        for c in range(3):
            for j in range(nj):
                for k in range(nk):
                    v = disp[c, i, j, k]
                    s = f32(0)
                    if i > 0:
                        s += strength[c, 0] * (v - disp[c, i - 1, j, k])
                    if i < ni - 1:
                        d = v - disp[c, i + 1, j, k]
                        s += strength[c, 0] * d
                        total += strength[c, 0] * d * d
                    if j > 0:
                        s += strength[c, 1] * (v - disp[c, i, j - 1, k])
                    if j < nj - 1:
                        d = v - disp[c, i, j + 1, k]
                        s += strength[c, 1] * d
                        total += strength[c, 1] * d * d
                    if k > 0:
                        s += strength[c, 2] * (v - disp[c, i, j, k - 1])
                    if k < nk - 1:
                        d = v - disp[c, i, j, k + 1]
                        s += strength[c, 2] * d
                        total += strength[c, 2] * d * d
                    gradient[c, i, j, k] += f32(2) * s
    return total
