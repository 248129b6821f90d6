# mypy: allow-untyped-defs
"""CPU kernels of the optimisers, their data terms and diffusion; the readable twins are beside them."""

import numpy as np
from numba import njit

from anamorph.geometry._sampling_numba import corner

f32 = np.float32


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def adam_step(begin, end, parameters, gradient, first, second, step, rate):
    """One step of Adam (Kingma and Ba 2015, default decay) in place, on flat arrays."""
    b1, b2 = f32(0.9), f32(0.999)
    c1 = f32(1) / (f32(1) - b1**step)
    c2 = f32(1) / (f32(1) - b2**step)
    # Indices from 0 on cannot be negative, which is what the compiler must know to make vectors of them.
    parameters, gradient = parameters[begin:end], gradient[begin:end]
    first, second = first[begin:end], second[begin:end]
    for n in range(parameters.size):
        g = gradient[n]
        first[n] = b1 * first[n] + (f32(1) - b1) * g
        second[n] = b2 * second[n] + (f32(1) - b2) * g * g
        parameters[n] -= rate * (first[n] * c1) / (np.sqrt(second[n] * c2) + f32(1e-12))


u64 = np.uint64


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def data_term(begin, end, fixed, weight, moving, disp, gradient):
    """Sum of weight * ||F(p) - M(p + u)||^2 over planes, and its gradient with respect to u, in one pass over channels.

    Descriptors are ``(I, J, K, C)`` with C a multiple of 16; the border of M is repeated, without a
    gradient there.
    """
    ni, nj, nk, channels = fixed.shape
    # Flat arrays and unsigned offsets, which cannot be negative, let the loop over channels become vectors.
    lanes = u64(channels)
    fixed_flat, moving_flat = fixed.reshape(-1), moving.reshape(-1)
    total = 0.0
    for i in range(begin, end):
        for j in range(nj):
            for k in range(nk):
                w = weight[i, j, k]
                if w == f32(0):
                    gradient[0, i, j, k] = f32(0)
                    gradient[1, i, j, k] = f32(0)
                    gradient[2, i, j, k] = f32(0)
                    continue
                xu = f32(i) + disp[0, i, j, k]
                yu = f32(j) + disp[1, i, j, k]
                zu = f32(k) + disp[2, i, j, k]
                x = min(max(xu, f32(0)), f32(ni - 1))
                y = min(max(yu, f32(0)), f32(nj - 1))
                z = min(max(zu, f32(0)), f32(nk - 1))
                i0 = min(int(x), max(ni - 2, 0))
                j0 = min(int(y), max(nj - 2, 0))
                k0 = min(int(z), max(nk - 2, 0))
                i1, j1, k1 = min(i0 + 1, ni - 1), min(j0 + 1, nj - 1), min(k0 + 1, nk - 1)
                wx, wy, wz = x - f32(i0), y - f32(j0), z - f32(k0)
                vx, vy, vz = f32(1) - wx, f32(1) - wy, f32(1) - wz
                gx = f32(0)
                gy = f32(0)
                gz = f32(0)
                cost = f32(0)
                row = u64((i * nj + j) * nk + k) * lanes
                c000, c001 = u64((i0 * nj + j0) * nk + k0) * lanes, u64((i0 * nj + j0) * nk + k1) * lanes
                c010, c011 = u64((i0 * nj + j1) * nk + k0) * lanes, u64((i0 * nj + j1) * nk + k1) * lanes
                c100, c101 = u64((i1 * nj + j0) * nk + k0) * lanes, u64((i1 * nj + j0) * nk + k1) * lanes
                c110, c111 = u64((i1 * nj + j1) * nk + k0) * lanes, u64((i1 * nj + j1) * nk + k1) * lanes
                for n in range(u64(0), lanes):
                    a000, a001 = moving_flat[c000 + n], moving_flat[c001 + n]
                    a010, a011 = moving_flat[c010 + n], moving_flat[c011 + n]
                    a100, a101 = moving_flat[c100 + n], moving_flat[c101 + n]
                    a110, a111 = moving_flat[c110 + n], moving_flat[c111 + n]
                    b00 = a000 * vz + a001 * wz
                    b01 = a010 * vz + a011 * wz
                    b10 = a100 * vz + a101 * wz
                    b11 = a110 * vz + a111 * wz
                    c0 = b00 * vy + b01 * wy
                    c1 = b10 * vy + b11 * wy
                    r = c0 * vx + c1 * wx - fixed_flat[row + n]
                    cost += r * r
                    gx += r * (c1 - c0)
                    gy += r * ((b01 - b00) * vx + (b11 - b10) * wx)
                    gz += r * (
                        ((a001 - a000) * vy + (a011 - a010) * wy) * vx + ((a101 - a100) * vy + (a111 - a110) * wy) * wx
                    )
                total += w * cost
                gradient[0, i, j, k] = f32(2) * w * gx if x == xu else f32(0)
                gradient[1, i, j, k] = f32(2) * w * gy if y == yu else f32(0)
                gradient[2, i, j, k] = f32(2) * w * gz if z == zu else f32(0)
    return total


@njit(nogil=True, error_model="numpy", cache=True, fastmath=True)
def point_data_term(begin, end, wanted, volume, positions, losses, gradient):
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
