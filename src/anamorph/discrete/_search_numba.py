# mypy: allow-untyped-defs
"""Fused CPU kernels of the discrete search; the readable twins are in ``cost_volume.py`` and ``coupled_convex.py``."""

import numpy as np
from numba import njit, prange

f32 = np.float32


@njit(parallel=True, cache=True)
def planar(descriptor, channels, border, out):
    """``(I, J, K, C)`` to ``(channels, I, J, K + 2 * border)``, the border along K repeated: rows become vectors."""
    ni, nj, nk, _ = descriptor.shape
    for row in prange(ni * nj):
        i = row // nj
        j = row % nj
        for k in range(nk + 2 * border):
            source = min(max(k - border, 0), nk - 1)
            for c in range(channels):
                out[c, i, j, k] = descriptor[i, j, source, c]


@njit(parallel=True, fastmath=True, cache=True)
def cost_volume(fixed, weight, moving, cell, step, radius, first_row, out):
    """out[row, b, c, label] = mean over the cell of weight * ||F(p) - M(p + step * label)||^2, border of M repeated.

    ``fixed`` is ``(C, I, J, K)`` and ``moving`` ``(C, I, J, K + 2 * step * radius)``, C a multiple of 4: whole rows of
    voxels are compared at once, so that nothing is summed across a vector register.
    """
    channels, ni, nj, nk = fixed.shape
    rows, nb, nc, _ = out.shape
    ri, rj, rk = radius
    for cellrow in prange(rows * nb):
        a = cellrow // nb
        b = cellrow % nb
        i0 = (first_row + a) * cell[0]
        j0 = b * cell[1]
        i1, j1 = min(i0 + cell[0], ni), min(j0 + cell[1], nj)
        total = np.zeros(nk, np.float32)
        row = np.empty(nk, np.float32)
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
                    for k in range(first, last):
                        total[k] = f32(0)
                    for i in range(i0, i1):
                        mi = min(max(i + di * step[0], 0), ni - 1)
                        for j in range(j0, j1):
                            mj = min(max(j + dj * step[1], 0), nj - 1)
                            for k in range(first, last):
                                row[k] = f32(0)
                            for c in range(0, channels, 4):
                                f0, f1, f2, f3 = (
                                    fixed[c, i, j],
                                    fixed[c + 1, i, j],
                                    fixed[c + 2, i, j],
                                    fixed[c + 3, i, j],
                                )
                                m0 = moving[c, mi, mj, shift : shift + nk]
                                m1 = moving[c + 1, mi, mj, shift : shift + nk]
                                m2 = moving[c + 2, mi, mj, shift : shift + nk]
                                m3 = moving[c + 3, mi, mj, shift : shift + nk]
                                for k in range(first, last):
                                    d0 = f0[k] - m0[k]
                                    d1 = f1[k] - m1[k]
                                    d2 = f2[k] - m2[k]
                                    d3 = f3[k] - m3[k]
                                    row[k] += d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3
                            w = weight[i, j]
                            for k in range(first, last):
                                total[k] += w[k] * row[k]
                    for c in range(nc):
                        k0 = c * cell[2]
                        k1 = min(k0 + cell[2], nk)
                        s = f32(0)
                        for k in range(k0, k1):
                            s += total[k]
                        out[a, b, c, n] = s * f32(1.0 / ((i1 - i0) * (j1 - j0) * (k1 - k0)))
                    n += 1


@njit(parallel=True, fastmath=True, cache=True)
def smooth_cells(cost, axis):
    """Average every label's cost over three neighbouring cells along one axis, in place, the border repeated."""
    na, nb, nc, labels = cost.shape
    third = f32(1 / 3)
    lines = nb * nc if axis == 0 else na * nc if axis == 1 else na * nb
    length = na if axis == 0 else nb if axis == 1 else nc
    for line in prange(lines):
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


@njit(parallel=True, fastmath=True, cache=True)
def coupled_argmin(cost, radius, guess, coupling, first_row, out):
    """Write the label that minimises cost + coupling * ||label - guess||^2, in labels, for rows ``first_row`` on."""
    rows, nb, nc, _ = cost.shape
    ri, rj, rk = radius
    for cellrow in prange(rows * nb):
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
