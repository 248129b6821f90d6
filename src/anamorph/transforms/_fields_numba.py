# mypy: allow-untyped-defs
"""Fused CPU kernels; the readable twins are in ``fields.py`` and ``thin_plate.py``.

Displacement fields lie on one grid. Sites of thin-plate splines are ``(N, 3)`` float64; ``biharmonic`` is ``-r``, else
``r^2 log(r + 1e-6)``. Both are conditionally positive definite, so that smoothing adds to the diagonal.
"""

import numpy as np
from numba import njit

from anamorph.geometry._sampling_numba import corner

f32 = np.float32


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def compose(begin, end, first, second, sign, out):
    """Out = first + sign * second(x + first), the border of ``second`` repeated."""
    _, _, nj, nk = first.shape
    _, mi, mj, mk = second.shape
    for i in range(begin, end):
        for j in range(nj):
            for k in range(nk):
                i0, i1, wi = corner(i + first[0, i, j, k], mi)
                j0, j1, wj = corner(j + first[1, i, j, k], mj)
                k0, k1, wk = corner(k + first[2, i, j, k], mk)
                vi, vj, vk = f32(1) - wi, f32(1) - wj, f32(1) - wk
                for c in range(3):
                    a = second[c, i0, j0, k0] * vk + second[c, i0, j0, k1] * wk
                    b = second[c, i0, j1, k0] * vk + second[c, i0, j1, k1] * wk
                    d = second[c, i1, j0, k0] * vk + second[c, i1, j0, k1] * wk
                    e = second[c, i1, j1, k0] * vk + second[c, i1, j1, k1] * wk
                    out[c, i, j, k] = first[c, i, j, k] + sign * ((a * vj + b * wj) * vi + (d * vj + e * wj) * wi)


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def upsample(begin, end, field, cell, out):
    """A field on cells read at the voxels of the cells, trilinear between cell centres, in voxels of the fine grid."""
    _, _, nj, nk = out.shape
    _, ci, cj, ck = field.shape
    for i in range(begin, end):
        i0, i1, wi = corner((f32(i) + f32(0.5)) / f32(cell[0]) - f32(0.5), ci)
        for j in range(nj):
            j0, j1, wj = corner((f32(j) + f32(0.5)) / f32(cell[1]) - f32(0.5), cj)
            for k in range(nk):
                k0, k1, wk = corner((f32(k) + f32(0.5)) / f32(cell[2]) - f32(0.5), ck)
                for c in range(3):
                    a = field[c, i0, j0, k0] * (f32(1) - wk) + field[c, i0, j0, k1] * wk
                    b = field[c, i0, j1, k0] * (f32(1) - wk) + field[c, i0, j1, k1] * wk
                    d = field[c, i1, j0, k0] * (f32(1) - wk) + field[c, i1, j0, k1] * wk
                    e = field[c, i1, j1, k0] * (f32(1) - wk) + field[c, i1, j1, k1] * wk
                    value = (a * (f32(1) - wj) + b * wj) * (f32(1) - wi) + (d * (f32(1) - wj) + e * wj) * wi
                    out[c, i, j, k] = value * f32(cell[c])


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def warp_descriptor(begin, end, descriptor, disp, out):
    """out(x) = D(x + u(x)) for channels-last descriptors, the border repeated."""
    ni, nj, nk, channels = descriptor.shape
    for i in range(begin, end):
        for j in range(nj):
            for k in range(nk):
                i0, i1, wi = corner(i + disp[0, i, j, k], ni)
                j0, j1, wj = corner(j + disp[1, i, j, k], nj)
                k0, k1, wk = corner(k + disp[2, i, j, k], nk)
                vi, vj, vk = f32(1) - wi, f32(1) - wj, f32(1) - wk
                for block in range(0, channels, 16):
                    for lane in range(16):
                        n = block + lane
                        a = descriptor[i0, j0, k0, n] * vk + descriptor[i0, j0, k1, n] * wk
                        b = descriptor[i0, j1, k0, n] * vk + descriptor[i0, j1, k1, n] * wk
                        d = descriptor[i1, j0, k0, n] * vk + descriptor[i1, j0, k1, n] * wk
                        e = descriptor[i1, j1, k0, n] * vk + descriptor[i1, j1, k1, n] * wk
                        out[i, j, k, n] = (a * vj + b * wj) * vi + (d * vj + e * wj) * wi


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
