# mypy: allow-untyped-defs
"""Fused CPU kernels of min-convolution and inference on a tree; the readable twins are in ``tree_inference.py``."""

import numpy as np
from numba import njit

f32 = np.float32


@njit(fastmath={"nnan", "nsz"}, cache=True)
def _convolve_axis(source, labels, rest, weight, offset, row, target):
    """target[m, a] = min over b of source[b, m] + (weight * (a - b) + offset)^2, the axis going from first to last."""
    last = labels - 1
    for a in range(labels):
        for m in range(rest):
            row[m] = f32(np.inf)
        for b in range(0, labels, 4):
            # Beyond the last label it is compared again, which changes no minimum.
            b0, b1, b2, b3 = b, min(b + 1, last), min(b + 2, last), min(b + 3, last)
            d0, d1 = weight * f32(a - b0) + offset, weight * f32(a - b1) + offset
            d2, d3 = weight * f32(a - b2) + offset, weight * f32(a - b3) + offset
            p0, p1, p2, p3 = d0 * d0, d1 * d1, d2 * d2, d3 * d3
            s0 = source[b0 * rest : b0 * rest + rest]
            s1 = source[b1 * rest : b1 * rest + rest]
            s2 = source[b2 * rest : b2 * rest + rest]
            s3 = source[b3 * rest : b3 * rest + rest]
            for m in range(rest):
                row[m] = min(row[m], min(min(s0[m] + p0, s1[m] + p1), min(s2[m] + p2, s3[m] + p3)))
        for m in range(rest):
            target[m * labels + a] = row[m]


@njit(cache=True)
def min_convolve(costs, size, weight, offset, scratch, row, out):
    """out[a] = min over b of costs[b] + ||weight * (a - b) + offset||^2 for labels on a grid of ``size``, last fastest.

    Each pass turns the axes by one, so that all three run over long contiguous rows.
    """
    ni, nj, nk = size
    _convolve_axis(costs, ni, nj * nk, weight[0], offset[0], row, out)
    _convolve_axis(out, nj, nk * ni, weight[1], offset[1], row, scratch)
    _convolve_axis(scratch, nk, ni * nj, weight[2], offset[2], row, out)


@njit(nogil=True, error_model="numpy", cache=True)
def min_convolve_all(begin, end, costs, size, weight, offset, out):
    """The same for every row of costs ``(N, labels)`` with offsets ``(N, 3)``."""
    labels = costs.shape[1]
    for n in range(begin, end):
        scratch = np.empty(labels, np.float32)
        row = np.empty(labels, np.float32)
        min_convolve(costs[n], size, weight, offset[n], scratch, row, out[n])


@njit(nogil=True, error_model="numpy", cache=True)
def collect(begin, end, depth, costs, cells, first_child, similarity, size, weight, start):
    """Add to the costs of the parents of one depth, whose places begin at ``depth``, what their children will pay.

    In place; a child's costs, in which its own children are by then, are multiplied by its similarity.
    """
    labels = costs.shape[1]
    # Parents are worked on at once: each gathers its own children, so nothing is added from two sides.
    for p in range(depth + begin, depth + end):
        if first_child[p] == first_child[p + 1]:
            continue
        scratch = np.empty(labels, np.float32)
        row = np.empty(labels, np.float32)
        message = np.empty(labels, np.float32)
        offset = np.empty(3, np.float32)
        parent = costs[cells[p]]
        for q in range(first_child[p], first_child[p + 1]):
            child = costs[cells[q]]
            for n in range(labels):
                child[n] *= similarity[q]
            for axis in range(3):
                offset[axis] = start[axis, cells[p]] - start[axis, cells[q]]
            min_convolve(child, size, weight, offset, scratch, row, message)
            least = f32(np.inf)
            for n in range(labels):
                least = min(least, message[n])
            for n in range(labels):
                parent[n] += message[n] - least


@njit(nogil=True, error_model="numpy", cache=True)
def distribute(begin, end, depth, costs, cells, parents, size, weight, start, out):
    """Give the cells of one depth, whose places begin at ``depth``, the label that is best for that of their parent."""
    ni, nj, nk = size
    for q in range(depth + begin, depth + end):
        here, above = cells[q], cells[parents[q]]
        o0 = start[0, above] - start[0, here] + weight[0] * out[0, above]
        o1 = start[1, above] - start[1, here] + weight[1] * out[1, above]
        o2 = start[2, above] - start[2, here] + weight[2] * out[2, above]
        best = f32(np.inf)
        n = 0
        for i in range(ni):
            di = o0 - weight[0] * f32(i - ni // 2)
            for j in range(nj):
                dj = o1 - weight[1] * f32(j - nj // 2)
                for k in range(nk):
                    dk = o2 - weight[2] * f32(k - nk // 2)
                    value = costs[here, n] + (di * di + dj * dj + dk * dk)
                    if value < best:
                        best = value
                        out[0, here], out[1, here], out[2, here] = i - ni // 2, j - nj // 2, k - nk // 2
                    n += 1
