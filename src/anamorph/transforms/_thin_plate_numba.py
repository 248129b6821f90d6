# mypy: allow-untyped-defs
"""CPU kernels of thin-plate splines in three dimensions.

Sites are ``(N, 3)`` float64; ``biharmonic`` is ``-r``, else ``r^2 log(r + 1e-6)``. Both are conditionally positive
definite, so that smoothing adds to the diagonal.
"""

import numpy as np
from numba import njit


@njit
def radial(square, biharmonic):
    r = np.sqrt(square)
    return -r if biharmonic else square * np.log(r + 1e-6)


@njit(nogil=True, error_model="numpy", cache=True)
def kernel_matrix(begin, end, sites, biharmonic, out):
    """Fill the upper left ``(N, N)`` of ``out``."""
    count = len(sites)
    for n in range(begin, end):
        for m in range(count):
            x, y, z = sites[n, 0] - sites[m, 0], sites[n, 1] - sites[m, 1], sites[n, 2] - sites[m, 2]
            out[n, m] = radial(x * x + y * y + z * z, biharmonic)


@njit(nogil=True, error_model="numpy", cache=True, fastmath=True)
def evaluate(begin, end, positions, sites, weights, affine, biharmonic, out):
    """``out[p] = affine^T [1, x_p] + sum_n w_n U(|x_p - x_n|)`` for ``(P, 3)`` positions."""
    for p in range(begin, end):
        px, py, pz = positions[p, 0], positions[p, 1], positions[p, 2]
        a = affine[0, 0] + affine[1, 0] * px + affine[2, 0] * py + affine[3, 0] * pz
        b = affine[0, 1] + affine[1, 1] * px + affine[2, 1] * py + affine[3, 1] * pz
        c = affine[0, 2] + affine[1, 2] * px + affine[2, 2] * py + affine[3, 2] * pz
        for n in range(len(sites)):
            x, y, z = px - sites[n, 0], py - sites[n, 1], pz - sites[n, 2]
            u = radial(x * x + y * y + z * z, biharmonic)
            a += weights[n, 0] * u
            b += weights[n, 1] * u
            c += weights[n, 2] * u
        out[p, 0], out[p, 1], out[p, 2] = a, b, c
