# mypy: allow-untyped-defs
"""Fused CPU kernels of MIND-SSC, whole and quantised; the readable twins are beside them.

Whole: one pass over slabs of the first axis: squared differences, box sums, normalisation, exponential and pooling
happen in a buffer that stays in the cache, and only the pooled descriptor is written, channels last, 12 entries padded
to 16.

Quantised: planes of the first axis stream through two ring buffers, one of box sums over a plane and one over all three
axes, so that every box is summed once and only the codes are written.
"""

import numpy as np
from numba import njit

f32 = np.float32


@njit(inline="always", fastmath=True)
def exp_minus(x):
    """exp(-x) for x >= 0 to an absolute error of 1e-5, in multiplications that vectorise."""
    y = x * f32(0.125)
    t = f32(1) + y * (
        f32(1) + y * f32(0.5) * (f32(1) + y * f32(1 / 3) * (f32(1) + y * f32(0.25) * (f32(1) + y * f32(0.2))))
    )
    t = t * t
    t = t * t
    return f32(1) / (t * t)


@njit(fastmath=True, cache=True)
def _box_distances(image, shift, radius, low, high, out):
    """Box sums over (j, k) of the squared difference to the shifted image, for rows low..high-1, border repeated."""
    ni, nj, nk = image.shape
    rj, rk = radius[1], radius[2]
    columns = np.empty(nk + 2 * rk, np.float32)
    rows = np.empty((nj, nk), np.float32)
    for i in range(low, high):
        ia = min(max(i, 0), ni - 1)
        ib = min(max(ia + shift[0], 0), ni - 1)
        for j in range(nj):
            jb = min(max(j + shift[1], 0), nj - 1)
            for k in range(nk):
                kb = min(max(k + shift[2], 0), nk - 1)
                d = image[ia, j, k] - image[ib, jb, kb]
                rows[j, k] = d * d
        for j in range(nj):
            for k in range(nk + 2 * rk):
                columns[k] = f32(0)
            for b in range(-rj, rj + 1):
                jj = min(max(j + b, 0), nj - 1)
                for k in range(nk):
                    columns[k + rk] += rows[jj, k]
            for k in range(rk):
                columns[k] = columns[rk]
                columns[nk + rk + k] = columns[nk + rk - 1]
            for k in range(nk):
                s = f32(0)
                for b in range(2 * rk + 1):
                    s += columns[k + b]
                out[i - low, j, k] = s


@njit(nogil=True, error_model="numpy", fastmath=True, cache=True)
def mind_ssc(
    begin, end, slab, image, shifts, radius, entry_shift, entry_offset, pool, floor, ceiling, out, variance_sum
):
    """Descriptor of ``image`` averaged over cells of ``pool`` voxels, in slabs of ``slab`` voxels along the first axis.

    With ``out`` of no size only ``variance_sum[slab]`` (sum of the variance estimates) is computed.
    """
    ni, nj, nk = image.shape
    reach = 0
    for t in range(12):
        reach = max(reach, abs(entry_offset[t, 0]))
    only_variance = out.size == 0
    ri = radius[0]
    halo = reach + ri
    nkp = (nk + pool[2] - 1) // pool[2]
    for s in range(begin, end):
        low = s * slab
        high = min(low + slab, ni)
        boxes = np.empty((6, slab + 2 * halo, nj, nk), np.float32)
        for n in range(6):
            _box_distances(image, shifts[n], radius, low - halo, high + halo, boxes[n])
        row = np.empty((12, nk), np.float32)
        least = np.empty(nk, np.float32)
        mean = np.empty(nk, np.float32)
        total = 0.0
        step = 4 if only_variance else 1
        for i in range(low, high):
            ip = i // pool[0]
            for j in range(0, nj, step):
                jp = j // pool[1]
                for t in range(12):
                    n = entry_shift[t]
                    io = min(max(i + entry_offset[t, 0], 0), ni - 1) - low + halo
                    jo = min(max(j + entry_offset[t, 1], 0), nj - 1)
                    ok = entry_offset[t, 2]
                    for k in range(nk):
                        row[t, k] = f32(0)
                    for b in range(-ri, ri + 1):
                        if ok == 0:
                            for k in range(nk):
                                row[t, k] += boxes[n, io + b, jo, k]
                        else:
                            for k in range(nk):
                                row[t, k] += boxes[n, io + b, jo, min(max(k + ok, 0), nk - 1)]
                for k in range(nk):
                    least[k] = row[0, k]
                    mean[k] = f32(0)
                for t in range(1, 12):
                    for k in range(nk):
                        least[k] = min(least[k], row[t, k])
                for t in range(12):
                    for k in range(nk):
                        mean[k] += (row[t, k] - least[k]) * f32(1 / 12)
                if only_variance:
                    for k in range(nk):
                        total += mean[k]
                    continue
                for k in range(nk):
                    mean[k] = f32(1) / min(max(mean[k], floor), ceiling)
                for t in range(12):
                    for k in range(nk):
                        row[t, k] = exp_minus((row[t, k] - least[k]) * mean[k])
                if pool[2] == 1:
                    for k in range(nk):
                        for t in range(12):
                            out[ip, jp, k, t] += row[t, k]
                else:
                    for kp in range(nkp):
                        for k in range(kp * pool[2], min((kp + 1) * pool[2], nk)):
                            for t in range(12):
                                out[ip, jp, kp, t] += row[t, k]
            if (i + 1) % pool[0] == 0 or i == ni - 1:
                count_i = i - ip * pool[0] + 1
                if not only_variance:
                    for jp in range(out.shape[1]):
                        count_j = min((jp + 1) * pool[1], nj) - jp * pool[1]
                        for kp in range(nkp):
                            count_k = min((kp + 1) * pool[2], nk) - kp * pool[2]
                            scale = f32(1.0 / (count_i * count_j * count_k))
                            for t in range(12):
                                out[ip, jp, kp, t] *= scale
        variance_sum[s] = total


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
