# mypy: allow-untyped-defs
"""The fused kernel of ``non_diffeomorphic.py``. One thread, without the interpreter's lock: pairs run side by side."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def folded_volume(disp, tetrahedra):
    """Sum over the cells between voxels of the volume of the tetrahedra that are turned inside out, times six."""
    _, ni, nj, nk = disp.shape
    total = 0.0
    corners = np.empty((8, 3))
    for i in range(ni - 1):
        for j in range(nj - 1):
            for k in range(nk - 1):
                for n in range(8):
                    a, b, c = n >> 2, (n >> 1) & 1, n & 1
                    corners[n, 0] = a + disp[0, i + a, j + b, k + c]
                    corners[n, 1] = b + disp[1, i + a, j + b, k + c]
                    corners[n, 2] = c + disp[2, i + a, j + b, k + c]
                for t in range(tetrahedra.shape[0]):
                    volume = _six_volumes(corners, tetrahedra[t])
                    if volume < 0:
                        total -= volume
    return total


@njit
def _six_volumes(corners, tetrahedron):
    """Six times the signed volume of the tetrahedron with these four corners."""
    o, p, q, r = tetrahedron
    ax, ay, az = corners[p, 0] - corners[o, 0], corners[p, 1] - corners[o, 1], corners[p, 2] - corners[o, 2]
    bx, by, bz = corners[q, 0] - corners[o, 0], corners[q, 1] - corners[o, 1], corners[q, 2] - corners[o, 2]
    cx, cy, cz = corners[r, 0] - corners[o, 0], corners[r, 1] - corners[o, 1], corners[r, 2] - corners[o, 2]
    return ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)
