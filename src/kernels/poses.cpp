// A scan under many rotations, each laid upon another scan at every shift; the readable twin is `PoseSearch._best_numpy` in
// anamorph/methods/start/rotations.py. The Fourier transforms between the kernels are SciPy's.
#include <vector>

#include "interpolation.h"

namespace {

using Place = std::int64_t;
constexpr Index BLOCK = 8;

// Cubes of a scan (I, J, K, C), whose channels are what is compared, of which the other scan has the first `used`, then the
// weight, the body and zeros up to a multiple of eight. `maps` (N, 3, 4) lead from the cubes' voxels to those of the scan, and
// nothing is outside. `out` (N, 2 + used, S, S, at least S) is the root of the weight, and times it the squared length of
// the channels and each of them.
void turned_volumes(Index begin, Index end, Array<const float, 4> scan, Index compared, Index used, Array<const double, 3> maps,
                    Array<float, 5> out, Array<float, 4> body) {
    const Index ni = scan.shape[0], nj = scan.shape[1], nk = scan.shape[2], channels = scan.shape[3], side = body.shape[1];
    const Index volume = out.shape[2] * out.shape[3] * out.shape[4];
    std::vector<float> values(channels);
    float *__restrict read = values.data();
    for (Index n = begin; n < end; ++n)
        for (Index i = 0; i < side; ++i)
            for (Index j = 0; j < side; ++j) {
                float *to = out.at(n, 0, i, j), *to_body = body.at(n, i, j);
                const double *m = maps.at(n);
                double row[3];
                for (int a = 0; a < 3; ++a) row[a] = m[4 * a] * double(i) + m[4 * a + 1] * double(j) + m[4 * a + 3];
                for (Index k = 0; k < side; ++k, ++to) {
                    float at[3];
                    for (int a = 0; a < 3; ++a) at[a] = float(row[a] + m[4 * a + 2] * double(k));
                    if (is_outside(at[0], at[1], at[2], ni, nj, nk)) {
                        for (Index v = 0; v < 2 + used; ++v) to[v * volume] = 0;
                        to_body[k] = 0;
                        continue;
                    }
                    const Cell cell(at[0], at[1], at[2], ni, nj, nk);
                    const ChannelsLastCell corners(cell, nj, nk, channels);
                    for (Index block = 0; block < channels; block += BLOCK) {
                        const float *low = scan.data + corners.first + block, *high = low + corners.next_i;
                        const Index sj = corners.next_j, sk = corners.next_k;
                        const float *w = corners.weight;
                        for (Index c = 0; c < BLOCK; ++c)
                            read[block + c] = (w[0] * low[c] + w[1] * low[c + sk] + w[2] * low[c + sj] + w[3] * low[c + sj + sk]) +
                                              (w[4] * high[c] + w[5] * high[c + sk] + w[6] * high[c + sj] + w[7] * high[c + sj + sk]);
                    }
                    const float root = std::sqrt(read[compared]);
                    float square = 0;
                    for (Index c = 0; c < compared; ++c) square += read[c] * read[c];
                    to[0] = root;
                    to[volume] = root * square;
                    for (Index c = 0; c < used; ++c) to[(2 + c) * volume] = root * read[c];
                    to_body[k] = read[compared + 1];
                }
            }
}

// Spectra of the overlap and of the mismatch, (N, 2, 2 F), from those of turned volumes (N, V, 2 F) and the conjugate ones of
// the fixed scan (V, 2 F), real and imaginary parts in turn; the channels of the fixed scan are doubled.
void correlated(Index begin, Index end, Array<const float, 3> turned, Array<const float, 2> fixed, Array<float, 3> out) {
    const Index volumes = fixed.shape[0], size = fixed.shape[1];
    const auto add = [&](const float *__restrict a, const float *__restrict b, float sign, float *__restrict to) {
        for (Index f = 0; f < size; f += 2) {
            to[f] += sign * (a[f] * b[f] - a[f + 1] * b[f + 1]);
            to[f + 1] += sign * (a[f] * b[f + 1] + a[f + 1] * b[f]);
        }
    };
    for (Index n = begin; n < end; ++n) {
        std::fill_n(out.at(n), 2 * size, 0.f);
        add(fixed.at(0), turned.at(n, 0), 1, out.at(n, 0));
        add(fixed.at(1), turned.at(n, 0), 1, out.at(n, 1));
        add(fixed.at(0), turned.at(n, 1), 1, out.at(n, 1));
        for (Index v = 2; v < volumes; ++v) add(fixed.at(v), turned.at(n, v), -1, out.at(n, 1));
    }
}

// How much of a body (A, B, C) meets another one (S, S, S) under a shift.
double shared(const Array<const float, 3> &fixed, const float *moving, Index side, const Index *shift) {
    Index low[3], high[3];
    for (int a = 0; a < 3; ++a) {
        low[a] = std::max<Index>(0, -shift[a]);
        high[a] = std::min(fixed.shape[a], side - shift[a]);
    }
    double total = 0;
    for (Index i = low[0]; i < high[0]; ++i)
        for (Index j = low[1]; j < high[1]; ++j) {
            const float *here = fixed.at(i, j), *there = moving + ((i + shift[0]) * side + j + shift[1]) * side + shift[2];
            float row = 0;
            for (Index k = low[2]; k < high[2]; ++k) row += here[k] * there[k];
            total += row;
        }
    return total;
}

// The shift that explains most for each rotation, as an index into the volumes `shares` (N, 2, ...) of overlap and mismatch,
// and what it explains; where no shift is allowed, the first one and what was there before.
void best_shifts(Index begin, Index end, Array<const float, 5> shares, Array<const float, 3> fixed_body,
                 Array<const float, 4> moving_body, float smaller, float chance, float least, Array<float, 1> explained,
                 Array<Place, 1> place) {
    const Index side = moving_body.shape[1], *size = shares.shape + 2;
    const auto sum = [](const float *values, Index count) {
        double total = 0;
        for (Index n = 0; n < count; ++n) total += values[n];
        return total;
    };
    const double fixed_sum = sum(fixed_body.data, fixed_body.shape[0] * fixed_body.shape[1] * fixed_body.shape[2]);
    for (Index n = begin; n < end; ++n) {
        const float *overlaps = shares.at(n, 0), *mismatches = shares.at(n, 1), *body = moving_body.at(n);
        const double body_sum = std::max(std::min(fixed_sum, sum(body, side * side * side)), 1e-9);
        place(n) = 0;
        Index index = 0;
        for (Index i = 0; i < size[0]; ++i)
            for (Index j = 0; j < size[1]; ++j)
                for (Index k = 0; k < size[2]; ++k, ++index) {
                    const float overlap = overlaps[index] / smaller;
                    if (!(overlap > least)) continue;
                    const float value = (overlap - mismatches[index] / chance / smaller) / std::sqrt(std::max(overlap, 1e-6f));
                    if (!(value > explained(n))) continue;
                    const Index shift[3] = {i < side ? i : i - size[0], j < side ? j : j - size[1], k < side ? k : k - size[2]};
                    if (!(shared(fixed_body, body, side, shift) / body_sum > least)) continue;
                    explained(n) = value;
                    place(n) = index;
                }
    }
}

}  // namespace

void define_poses(nb::module_ &module) {
    define(module, "turned_volumes", turned_volumes);
    define(module, "correlated", correlated);
    define(module, "best_shifts", best_shifts);
}
