# mypy: allow-untyped-defs
"""Fused CPU kernel of the Hamming cost; the readable twin is in ``hamming_cost.py``.

Rows along the last axis are regrouped by their place within a cell, so that neighbouring cells lie side by side: eight
of them are compared at once, whatever the size of a cell, the step of the labels or the stride of the samples.
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
