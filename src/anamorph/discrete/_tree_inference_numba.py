# mypy: allow-untyped-defs
"""Fused CPU kernels of inference on a tree; the readable twin is in ``tree_inference.py``."""

import numpy as np
from numba import njit

from anamorph.discrete._min_convolution_numba import min_convolve

f32 = np.float32


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
