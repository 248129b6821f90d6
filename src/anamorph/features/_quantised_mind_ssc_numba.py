# mypy: allow-untyped-defs
"""Fused CPU kernel of the quantised MIND-SSC; the readable twin is in ``quantised_mind_ssc.py``.

Planes of the first axis stream through two ring buffers, one of box sums over a plane and one over all three axes, so
that every box is summed once and only the codes are written.
"""

import numpy as np
from numba import njit

f32 = np.float32
u32 = np.uint32
u64 = np.uint64


@njit(cache=True)
def _plane_boxes(image, i, shift, step, squared, columns, out):
    """Box sums over (j, k) of the squared difference to the shifted image in plane i; what lies outside is 0."""
    ni, nj, nk = image.shape
    ib = i + shift[0]
    rj, rk = step[1], step[2]
    if i < 0 or i >= ni or ib < 0 or ib >= ni:
        out[:] = f32(0)
        return
    k0, k1 = max(0, -shift[2]), min(nk, nk - shift[2])
    here, there = image[i], image[ib]
    for j in range(nj):
        jb = j + shift[1]
        row = squared[j]
        if jb < 0 or jb >= nj:
            row[:] = f32(0)
            continue
        for k in range(k0):
            row[k] = f32(0)
        for k in range(max(k1, 0), nk):
            row[k] = f32(0)
        one, other = here[j], there[jb]
        for k in range(k0, k1):
            d = other[k + shift[2]] - one[k]
            row[k] = d * d
    for j in range(nj):
        for k in range(nk):
            columns[k + rk] = f32(0)
        for jj in range(max(j - rj, 0), min(j + rj + 1, nj)):
            row = squared[jj]
            for k in range(nk):
                columns[k + rk] += row[k]
        target = out[j]
        for k in range(nk):
            target[k] = columns[k]
        for b in range(1, 2 * rk + 1):
            for k in range(nk):
                target[k] += columns[k + b]


@njit(nogil=True, error_model="numpy", cache=True)
def quantised_mind_ssc(begin, end, image, step, shifts, entry_shift, entry_offset, thresholds, chunks, out):
    """Write the 60-bit code of every voxel; ``chunks`` stretches of the first axis are worked on at once."""
    ni, nj, nk = image.shape
    qi = step[0]
    ring = 2 * qi + 1
    for chunk in range(begin, end):
        low, high = ni * chunk // chunks, ni * (chunk + 1) // chunks
        flat = np.zeros((6, ring, nj, nk), np.float32)
        boxes = np.zeros((6, ring, nj, nk), np.float32)
        squared = np.zeros((nj, nk), np.float32)
        columns = np.zeros(nk + 2 * step[2], np.float32)
        entries = np.empty((12, nk), np.float32)
        least = np.empty(nk, np.float32)
        mean = np.empty(nk, np.float32)
        lower = np.empty(nk, np.uint32)
        upper = np.empty(nk, np.uint32)
        for p in range(low - 2 * qi, high + 2 * qi):
            for n in range(6):
                _plane_boxes(image, p, shifts[n], step, squared, columns, flat[n, p % ring])
                box = boxes[n, (p - qi) % ring]
                box[:] = f32(0)
                for r in range(ring):
                    source = flat[n, (p - r) % ring]
                    for j in range(nj):
                        for k in range(nk):
                            box[j, k] += source[j, k]
            i = p - 2 * qi
            if i < low:
                continue
            for j in range(nj):
                for t in range(12):
                    n = entry_shift[t]
                    io, jo, ko = i + entry_offset[t, 0], j + entry_offset[t, 1], entry_offset[t, 2]
                    if io < 0 or io >= ni:
                        io = i
                    if jo < 0 or jo >= nj:
                        jo = j
                    source = boxes[n, io % ring, jo]
                    entry = entries[t]
                    k0, k1 = min(max(0, -ko), nk), max(min(nk, nk - ko), 0)
                    for k in range(nk):
                        entry[k] = source[k]
                    for k in range(k0, k1):
                        entry[k] = source[k + ko]
                for k in range(nk):
                    least[k] = entries[0, k]
                for t in range(1, 12):
                    for k in range(nk):
                        if entries[t, k] < least[k]:
                            least[k] = entries[t, k]
                for k in range(nk):
                    mean[k] = f32(0)
                for t in range(12):
                    for k in range(nk):
                        entries[t, k] -= least[k]
                        mean[k] += entries[t, k]
                for k in range(nk):
                    mean[k] = max(mean[k] / f32(12), f32(1e-6))
                    lower[k] = u32(0)
                    upper[k] = u32(0)
                for t in range(12):
                    entry = entries[t]
                    code = lower if t < 6 else upper
                    bit = u32(5 * (t % 6))
                    for k in range(nk):
                        ratio = entry[k] / mean[k]
                        levels = (
                            u32(ratio < thresholds[0])
                            + (u32(ratio < thresholds[1]) << u32(1))
                            + (u32(ratio < thresholds[2]) << u32(2))
                            + (u32(ratio < thresholds[3]) << u32(3))
                            + (u32(ratio < thresholds[4]) << u32(4))
                        )
                        code[k] |= levels << bit
                for k in range(nk):
                    out[i, j, k] = u64(lower[k]) | (u64(upper[k]) << u64(30))
