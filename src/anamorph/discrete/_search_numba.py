# mypy: allow-untyped-defs
"""Fused CPU kernels of the discrete search; the readable twins are in ``cost_volume.py`` and ``coupled_convex.py``."""

import numpy as np
from numba import njit

f32 = np.float32
u64 = np.uint64


@njit(nogil=True, error_model="numpy", cache=True)
def planar(begin, end, descriptor, channels, border, out):
    """``(I, J, K, C)`` to ``(channels, I, J, K + 2 * border)``, the border along K repeated: rows become vectors."""
    _, nj, nk, _ = descriptor.shape
    for row in range(begin, end):
        i = row // nj
        j = row % nj
        for k in range(nk + 2 * border):
            source = min(max(k - border, 0), nk - 1)
            for c in range(channels):
                out[c, i, j, k] = descriptor[i, j, source, c]


@njit(fastmath=True, cache=True)
def _add_row(fixed, moving, f, m, fixed_stride, moving_stride, channels, weight, total, count):
    """Add the weighted squared differences of two rows over all channels; unsigned offsets let it vectorise."""
    for c in range(u64(0), channels, u64(4)):
        f0 = f + c * fixed_stride
        f1, f2, f3 = f0 + fixed_stride, f0 + u64(2) * fixed_stride, f0 + u64(3) * fixed_stride
        m0 = m + c * moving_stride
        m1, m2, m3 = m0 + moving_stride, m0 + u64(2) * moving_stride, m0 + u64(3) * moving_stride
        for k in range(count):
            d0 = fixed[f0 + k] - moving[m0 + k]
            d1 = fixed[f1 + k] - moving[m1 + k]
            d2 = fixed[f2 + k] - moving[m2 + k]
            d3 = fixed[f3 + k] - moving[m3 + k]
            total[k] += weight[f + k] * (d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3)


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def cost_volume(begin, end, fixed, weight, moving, cell, step, radius, first_row, out):
    """out[row, b, c, label] = mean over the cell of weight * ||F(p) - M(p + step * label)||^2, border of M repeated.

    ``fixed`` is ``(C, I, J, K)`` and ``moving`` ``(C, I, J, K + 2 * step * radius)``, C a multiple of 4: whole rows of
    voxels are compared at once, so that nothing is summed across a vector register.
    """
    channels, ni, nj, nk = fixed.shape
    _, nb, nc, _ = out.shape
    ri, rj, rk = radius
    width = moving.shape[3]
    fixed_flat, moving_flat, weight_flat = fixed.reshape(-1), moving.reshape(-1), weight.reshape(-1)
    for cellrow in range(begin, end):
        a = cellrow // nb
        b = cellrow % nb
        i0 = (first_row + a) * cell[0]
        j0 = b * cell[1]
        i1, j1 = min(i0 + cell[0], ni), min(j0 + cell[1], nj)
        total = np.zeros(nk, np.float32)
        # Only the stretch of voxels with weight is compared: the air around a body costs nothing.
        first, last = nk, 0
        for i in range(i0, i1):
            for j in range(j0, j1):
                for k in range(nk):
                    if weight[i, j, k] > f32(0):
                        first = min(first, k)
                        last = max(last, k + 1)
        n = 0
        for di in range(-ri, ri + 1):
            for dj in range(-rj, rj + 1):
                for dk in range(2 * rk + 1):
                    shift = dk * step[2]
                    for k in range(nk):
                        total[k] = f32(0)
                    for i in range(i0, i1):
                        mi = min(max(i + di * step[0], 0), ni - 1)
                        for j in range(j0, j1):
                            mj = min(max(j + dj * step[1], 0), nj - 1)
                            _add_row(
                                fixed_flat,
                                moving_flat,
                                u64((i * nj + j) * nk + first),
                                u64((mi * nj + mj) * width + first + shift),
                                u64(ni * nj * nk),
                                u64(ni * nj * width),
                                u64(channels),
                                weight_flat,
                                total,
                                u64(max(last - first, 0)),
                            )
                    for c in range(nc):
                        k0 = c * cell[2]
                        k1 = min(k0 + cell[2], nk)
                        s = f32(0)
                        for k in range(max(k0 - first, 0), min(k1, last) - first):
                            s += total[k]
                        out[a, b, c, n] = s * f32(1.0 / ((i1 - i0) * (j1 - j0) * (k1 - k0)))
                    n += 1


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def smooth_cells(begin, end, cost, axis):
    """Average every label's cost over three neighbouring cells along one axis, in place, the border repeated."""
    na, nb, nc, labels = cost.shape
    third = f32(1 / 3)
    length = na if axis == 0 else nb if axis == 1 else nc
    for line in range(begin, end):
        before = np.empty(labels, np.float32)
        here = np.empty(labels, np.float32)
        for s in range(length):
            t = min(s + 1, length - 1)
            if axis == 0:
                now, after = cost[s, line // nc, line % nc], cost[t, line // nc, line % nc]
            elif axis == 1:
                now, after = cost[line // nc, s, line % nc], cost[line // nc, t, line % nc]
            else:
                now, after = cost[line // nb, line % nb, s], cost[line // nb, line % nb, t]
            if s == 0:
                for n in range(labels):
                    before[n] = now[n]
            for n in range(labels):
                here[n] = now[n]
            for n in range(labels):
                now[n] = (before[n] + here[n] + after[n]) * third
            before, here = here, before


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def coupled_argmin(begin, end, cost, radius, guess, coupling, first_row, out):
    """Write the label that minimises cost + coupling * ||label - guess||^2, in labels, for rows ``first_row`` on."""
    _, nb, nc, _ = cost.shape
    ri, rj, rk = radius
    for cellrow in range(begin, end):
        a = cellrow // nb
        b = cellrow % nb
        for c in range(nc):
            ui, uj, uk = guess[0, first_row + a, b, c], guess[1, first_row + a, b, c], guess[2, first_row + a, b, c]
            costs = cost[a, b, c]
            best = f32(np.inf)
            bi, bj = 0, 0
            n = 0
            for di in range(-ri, ri + 1):
                pi = (f32(di) - ui) * (f32(di) - ui)
                for dj in range(-rj, rj + 1):
                    pj = pi + (f32(dj) - uj) * (f32(dj) - uj)
                    least = f32(np.inf)
                    for dk in range(2 * rk + 1):
                        step = f32(dk - rk) - uk
                        least = min(least, costs[n + dk] + coupling * (pj + step * step))
                    if least < best:
                        best = least
                        bi, bj = di, dj
                    n += 2 * rk + 1
            # The winner's place along k is found afterwards, so that the loop above is a plain vector minimum.
            n = ((bi + ri) * (2 * rj + 1) + bj + rj) * (2 * rk + 1)
            pj = (f32(bi) - ui) * (f32(bi) - ui) + (f32(bj) - uj) * (f32(bj) - uj)
            bk = 0
            least = f32(np.inf)
            for dk in range(2 * rk + 1):
                step = f32(dk - rk) - uk
                value = costs[n + dk] + coupling * (pj + step * step)
                if value < least:
                    least = value
                    bk = dk - rk
            out[0, first_row + a, b, c] = bi
            out[1, first_row + a, b, c] = bj
            out[2, first_row + a, b, c] = bk
