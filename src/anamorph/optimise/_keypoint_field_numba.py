# mypy: allow-untyped-defs
"""CPU kernel of the data term of scattered points; the readable twin is in ``keypoint_field.py``."""

import numpy as np
from numba import njit

from anamorph.geometry._sampling_numba import corner

f32 = np.float32


@njit(nogil=True, error_model="numpy", cache=True, fastmath=True)
def data_term(begin, end, wanted, volume, positions, losses, gradient):
    """Squared differences of ``V(p)`` and ``wanted`` summed over channels, and their gradient.

    Args:
        wanted: ``(N, C)`` float32.
        volume: ``(I, J, K, C)`` float32; the border repeated.
        positions: ``(N, 3)`` float32 voxels.
        losses: ``(N,)``, result.
        gradient: ``(N, 3)``, result.
    """
    ni, nj, nk, channels = volume.shape
    for p in range(begin, end):
        x, y, z = positions[p, 0], positions[p, 1], positions[p, 2]
        i0, i1, wx = corner(x, ni)
        j0, j1, wy = corner(y, nj)
        k0, k1, wz = corner(z, nk)
        vx, vy, vz = f32(1) - wx, f32(1) - wy, f32(1) - wz
        loss = f32(0)
        gx, gy, gz = f32(0), f32(0), f32(0)
        for n in range(channels):
            a000, a001 = volume[i0, j0, k0, n], volume[i0, j0, k1, n]
            a010, a011 = volume[i0, j1, k0, n], volume[i0, j1, k1, n]
            a100, a101 = volume[i1, j0, k0, n], volume[i1, j0, k1, n]
            a110, a111 = volume[i1, j1, k0, n], volume[i1, j1, k1, n]
            b00, b01 = a000 * vz + a001 * wz, a010 * vz + a011 * wz
            b10, b11 = a100 * vz + a101 * wz, a110 * vz + a111 * wz
            c0, c1 = b00 * vy + b01 * wy, b10 * vy + b11 * wy
            r = c0 * vx + c1 * wx - wanted[p, n]
            loss += r * r
            gx += r * (c1 - c0)
            gy += r * ((b01 - b00) * vx + (b11 - b10) * wx)
            gz += r * (((a001 - a000) * vy + (a011 - a010) * wy) * vx + ((a101 - a100) * vy + (a111 - a110) * wy) * wx)
        losses[p] = loss
        # Outside the volume nothing changes.
        gradient[p, 0] = f32(2) * gx if f32(0) <= x <= f32(ni - 1) else f32(0)
        gradient[p, 1] = f32(2) * gy if f32(0) <= y <= f32(nj - 1) else f32(0)
        gradient[p, 2] = f32(2) * gz if f32(0) <= z <= f32(nk - 1) else f32(0)
