# mypy: allow-untyped-defs
"""Fused CPU kernels of the search of deeds; the readable twins are in ``hamming_cost.py`` and ``tree_inference.py``.

For the Hamming cost rows along the last axis are regrouped by their place within a cell, so that neighbouring cells lie
side by side: eight of them are compared at once, whatever the size of a cell, the step of the labels or the stride of
the samples.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import alloca_once_value, for_range, get_or_insert_function
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

f32 = np.float32
u64 = np.uint64
LANES = 8
LABELS = 4
"""Labels counted together: each fetch of the fixed image serves them all."""
EVERY_BIT = u64(2**64 - 1)


@intrinsic
def count_differing_bits(typing_context, fixed, mask, f, moving, rows, places, p, m, samples, stride, total, t):
    """Count the bits in which eight cells differ from eight cells of the moving image at four labels.

    For each label d, with x = f + n * stride and y = m + rows[n] + places[p + d * samples + n], the sum over the
    samples n of the bits set in (fixed[x : x + 8] ^ moving[y : y + 8]) & mask[x : x + 8] becomes
    total[t + d * stride :][:8]. Written as vectors because the compiler, which must expect that arrays overlap, would
    count one word at a time.
    """
    word = ir.IntType(64)
    vector = ir.VectorType(word, LANES)

    def generate(context, builder, signature, arguments):
        fixed, mask, f, moving, rows, places, p, m, samples, stride, total, t = arguments
        types_of = dict(zip(arguments, signature.args, strict=True))
        count = get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), "llvm.ctpop.v8i64")

        def place(array, index):
            return builder.gep(make_array(types_of[array])(context, builder, array).data, [index])

        def load(array, index):
            return builder.load(builder.bitcast(place(array, index), vector.as_pointer()), align=8)

        counted = [alloca_once_value(builder, ir.Constant(vector, [0] * LANES)) for _ in range(LABELS)]
        with for_range(builder, samples) as loop:
            n = loop.index
            x = builder.add(f, builder.mul(n, stride))
            here, counts = load(fixed, x), load(mask, x)
            row = builder.add(m, builder.load(place(rows, n)))
            column = builder.add(p, n)
            for label in counted:
                there = load(moving, builder.add(row, builder.load(place(places, column))))
                differing = builder.and_(builder.xor(here, there), counts)
                builder.store(builder.add(builder.load(label), builder.call(count, [differing])), label)
                column = builder.add(column, samples)
        for label in counted:
            builder.store(builder.load(label), builder.bitcast(place(total, t), vector.as_pointer()), align=8)
            t = builder.add(t, stride)
        return context.get_dummy_value()

    return types.void(fixed, mask, f, moving, rows, places, p, m, samples, stride, total, t), generate


@njit(cache=True)
def _regroup(row, cell, border, length, out):
    """out[r, q] = row[cell * q + r - border], the border repeated."""
    nk = row.shape[0]
    for r in range(cell):
        for q in range(length):
            out[r, q] = row[min(max(cell * q + r - border, 0), nk - 1)]


@njit(nogil=True, error_model="numpy", cache=True)
def hamming_costs(begin, end, fixed, inside, scale, moving, cell, radius, step, stride, out):
    """out[a, b, c, label] = scale[a, b, c] * differing bits, over the samples of a cell, of F(p) and M(p + label).

    ``inside`` says which voxels of ``fixed`` count.
    """
    channels, ni, nj, nk = fixed.shape
    _, nb, nc, _ = out.shape
    gi, gj, gk = cell
    ri, rj, rk = radius
    si, sj, sk = stride
    padded = (nc + LANES - 1) // LANES * LANES
    border = gk * ((rk * step[2] + gk - 1) // gk)
    length = padded + 2 * (border // gk) + 1
    width = 2 * rk + 1
    fi, fj, fk = (gi + si - 1) // si, (gj + sj - 1) // sj, (gk + sk - 1) // sk
    samples = channels * fi * fj * fk
    # Where the samples of a cell are in the regrouped moving rows: by label of the last axis, and (below) by row.
    groups = (width + LABELS - 1) // LABELS
    places = np.empty((groups * LABELS, samples), np.int64)
    for dk in range(groups * LABELS):
        for n in range(samples):
            k = n % fk * sk + (min(dk, width - 1) - rk) * step[2] + border
            places[dk, n] = k % gk * length + k // gk
    flat_places = places.reshape(-1)
    for a in range(begin, end):
        here = np.empty((nb, channels, fi, fj, fk, padded), np.uint64)
        counted = np.empty((nb, channels, fi, fj, fk, padded), np.uint64)
        regrouped = np.empty((gk, padded), np.uint64)
        for b in range(nb):
            for x in range(fi):
                i = a * gi + x * si
                for y in range(fj):
                    j = b * gj + y * sj
                    covered = i < ni and j < nj
                    for c in range(channels):
                        _regroup(fixed[c, min(i, ni - 1), min(j, nj - 1)], gk, 0, padded, regrouped)
                        for z in range(fk):
                            for q in range(padded):
                                k = gk * q + z * sk
                                here[b, c, x, y, z, q] = regrouped[z * sk, q]
                                counts = covered and k < nk and inside[i, j, k]
                                counted[b, c, x, y, z, q] = EVERY_BIT if counts else u64(0)
        there = np.empty((channels, fi, nj, gk, length), np.uint64)
        rows = np.empty(samples, np.int64)
        total = np.empty((groups * LABELS, padded), np.uint64)
        flat_here, flat_counted = here.reshape(-1), counted.reshape(-1)
        flat_there, flat_total = there.reshape(-1), total.reshape(-1)
        first = 0
        for di in range(-ri, ri + 1):
            for x in range(fi):
                i = min(max(a * gi + x * si + di * step[0], 0), ni - 1)
                for c in range(channels):
                    for j in range(nj):
                        _regroup(moving[c, i, j], gk, border, length, there[c, x, j])
            for dj in range(-rj, rj + 1):
                for b in range(nb):
                    for n in range(samples):
                        j = min(max(b * gj + n // fk % fj * sj + dj * step[1], 0), nj - 1)
                        rows[n] = (n // (fk * fj) * nj + j) * gk * length
                    f = b * samples * padded
                    for dk in range(0, width, LABELS):
                        for q in range(0, padded, LANES):
                            count_differing_bits(  # type: ignore[call-arg]  # the context is numba's
                                flat_here, flat_counted, f + q, flat_there, rows, flat_places, dk * samples, q,
                                samples, padded, flat_total, dk * padded + q,
                            )  # fmt: skip
                    for q in range(nc):
                        factor = scale[a, b, q]
                        for dk in range(width):
                            out[a, b, q, first + dk] = factor * f32(total[dk, q])
                first += width


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
