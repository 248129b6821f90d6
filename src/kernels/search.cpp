// The discrete search; the readable twins are in anamorph/discrete/cost_volume.py and coupled_convex.py.
#include <algorithm>
#include <limits>
#include <vector>

#include "array.h"
#include "lanes.h"

namespace {

// (I, J, K, C) to (I, J, channels, width): the voxels of a row lie side by side, after `border` repeats of the first and
// before as many of the last as there is room for.
void rows_of_channels(Index begin, Index end, Array<const float, 4> descriptor, Index border, Array<float, 4> out) {
    const Index nj = out.shape[1], channels = out.shape[2], width = out.shape[3];
    const Index nk = descriptor.shape[2], all = descriptor.shape[3];
    for (Index row = begin; row < end; ++row) {
        const float *__restrict from = descriptor.at(row / nj, row % nj);
        float *__restrict to = out.at(row / nj, row % nj);
        const Index fours = channels / 4 * 4;
        transpose(from, fours, all, nk / 4 * 4, to + border, width);
        for (Index c = 0; c < channels; ++c) {
            float *__restrict line = to + c * width;
            std::fill_n(line, border, from[c]);
            for (Index k = c < fours ? nk / 4 * 4 : 0; k < nk; ++k) line[border + k] = from[k * all + c];
            std::fill(line + border + nk, line + width, from[(nk - 1) * all + c]);
        }
    }
}

// Where the channels of the voxels compared lie, and how far apart.
struct Rows {
    const float *fixed, *moving;
    Index fixed_stride, moving_stride, channels, step;
};

// Add the weighted squared differences of LANES voxels at `Labels` displacements along their row. The sums stay in registers.
template <int Labels>
void compare(const Rows &rows, const float *weight, float *total) {
    Lanes sums[Labels] = {};
    const float *fixed = rows.fixed, *moving = rows.moving;
    for (Index c = 0; c < rows.channels; ++c, fixed += rows.fixed_stride, moving += rows.moving_stride) {
        const Lanes here = load(fixed);
        prefetch(moving + Labels * rows.step + 2 * LANES);  // the next voxels' turn comes soon
        for (int n = 0; n < Labels; ++n) {
            const Lanes difference = here - load(moving + n * rows.step);
            sums[n] += difference * difference;
        }
    }
    const Lanes factor = load(weight);
    for (int n = 0; n < Labels; ++n) store(total + n * LANES, load(total + n * LANES) + factor * sums[n]);
}

constexpr Index MOST = 11;
constexpr decltype(&compare<1>) COMPARE[] = {compare<1>, compare<2>, compare<3>, compare<4>, compare<5>, compare<6>,
                                             compare<7>, compare<8>, compare<9>, compare<10>, compare<11>};

// out[row, b, c, label] = mean over the cell of weight * ||F(p) - M(p + step * label)||^2, border of M repeated. Rows are
// those of `rows_of_channels` for `nk` voxels, and the weights (I, J, at least nk). All three are read up to a vector beyond
// the end of a row, where the sums are not used.
void cost_volume(Index begin, Index end, Array<const float, 4> fixed, Array<const float, 3> weight,
                 Array<const float, 4> moving, Triple cell, Triple step, Triple radius, Index nk, Index first_row,
                 Array<float, 4> out) {
    const Index ni = fixed.shape[0], nj = fixed.shape[1], channels = fixed.shape[2], width = fixed.shape[3];
    const Index nb = out.shape[1], nc = out.shape[2], labels = out.shape[3], in_row = 2 * radius[2] + 1;
    const Index parts = (in_row + MOST - 1) / MOST;
    std::vector<float> total((nk + LANES - 1) / LANES * LANES * labels);  // (blocks of LANES voxels, labels, LANES)
    for (Index cellrow = begin; cellrow < end; ++cellrow) {
        const Index a = cellrow / nb, b = cellrow % nb;
        const Index i0 = (first_row + a) * cell[0], i1 = std::min(i0 + cell[0], ni);
        const Index j0 = b * cell[1], j1 = std::min(j0 + cell[1], nj);
        std::fill(total.begin(), total.end(), 0.f);
        // All labels of a few voxels at a time: what they are compared with stays in the cache.
        for (Index k = 0; k < nk; k += LANES) {
            // The air around a body costs nothing.
            bool weighted = false;
            for (Index i = i0; i < i1; ++i)
                for (Index j = j0; j < j1; ++j)
                    for (Index n = k; n < std::min(k + LANES, nk); ++n) weighted |= weight(i, j, n) > 0;
            if (!weighted) continue;
            float *block = &total[k * labels];
            for (Index di = -radius[0]; di <= radius[0]; ++di)
                for (Index dj = -radius[1]; dj <= radius[1]; ++dj, block += in_row * LANES)
                    for (Index i = i0; i < i1; ++i)
                        for (Index j = j0; j < j1; ++j) {
                            const Index mi = std::clamp<Index>(i + di * step[0], 0, ni - 1);
                            const Index mj = std::clamp<Index>(j + dj * step[1], 0, nj - 1);
                            for (Index part = 0; part < parts; ++part) {
                                const Index low = in_row * part / parts, high = in_row * (part + 1) / parts;
                                const Rows rows{fixed.at(i, j) + k, moving.at(mi, mj) + k + low * step[2],
                                                width, moving.shape[3], channels, step[2]};
                                COMPARE[high - low - 1](rows, weight.at(i, j) + k, block + low * LANES);
                            }
                        }
        }
        for (Index c = 0; c < nc; ++c) {
            const Index k0 = c * cell[2], k1 = std::min(k0 + cell[2], nk);
            const float scale = 1.f / float((i1 - i0) * (j1 - j0) * (k1 - k0));
            float *__restrict costs = out.at(a, b, c);
            std::fill_n(costs, labels, 0.f);
            for (Index k = k0; k < k1; ++k) {
                const float *voxel = &total[k / LANES * LANES * labels + k % LANES];
                for (Index n = 0; n < labels; ++n) costs[n] += scale * voxel[n * LANES];
            }
        }
    }
}

// Average three neighbours of a line in place, the border repeated; each is `count` floats, `stride` from the next.
void smooth_line(float *line, Index length, Index stride, Index count, std::vector<float> &spare) {
    spare.resize(2 * count);
    float *before = spare.data(), *here = before + count;
    std::copy_n(line, count, before);
    for (Index s = 0; s < length; ++s) {
        float *__restrict now = line + s * stride;
        const float *after = s + 1 < length ? now + stride : now;
        for (Index n = 0; n < count; ++n) {
            const float old = now[n];
            here[n] = old;
            now[n] = (before[n] + old + after[n]) * (1.f / 3.f);
        }
        std::swap(before, here);
    }
}

// Average every label's cost over three neighbouring cells along one axis, in place, the border repeated.
void smooth_cells(Index begin, Index end, Array<float, 4> cost, int axis) {
    const Index na = cost.shape[0], nb = cost.shape[1], nc = cost.shape[2], labels = cost.shape[3];
    std::vector<float> spare;
    for (Index line = begin; line < end; ++line) {
        if (axis == 0) smooth_line(cost.at(0, line / nc, line % nc), na, nb * nc * labels, labels, spare);
        if (axis == 1) smooth_line(cost.at(line / nc, 0, line % nc), nb, nc * labels, labels, spare);
        if (axis == 2) smooth_line(cost.at(line / nb, line % nb), nc, labels, labels, spare);
    }
}

// The label that minimises cost + coupling * ||label - guess||^2, in labels, for rows `first_row` on.
void coupled_argmin(Index begin, Index end, Array<const float, 4> cost, Triple radius, Array<const float, 4> guess,
                    float coupling, Index first_row, Array<float, 4> out) {
    const Index nb = cost.shape[1], nc = cost.shape[2];
    const int labels = int(cost.shape[3]);
    std::vector<float> table;
    for (int axis = 0; axis < 3; ++axis)
        for (Index i = -radius[0]; i <= radius[0]; ++i)
            for (Index j = -radius[1]; j <= radius[1]; ++j)
                for (Index k = -radius[2]; k <= radius[2]; ++k) table.push_back(float(axis == 0 ? i : axis == 1 ? j : k));
    const float *along_i = table.data(), *along_j = along_i + labels, *along_k = along_j + labels;
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> buffer((labels + LANES - 1) / LANES * LANES, infinity);
    float *__restrict value = buffer.data();
    for (Index cellrow = begin; cellrow < end; ++cellrow) {
        const Index a = cellrow / nb, b = cellrow % nb;
        for (Index c = 0; c < nc; ++c) {
            const float *costs = cost.at(a, b, c);
            const float ui = guess(0, first_row + a, b, c), uj = guess(1, first_row + a, b, c), uk = guess(2, first_row + a, b, c);
            for (int n = 0; n < labels; ++n) {
                const float di = along_i[n] - ui, dj = along_j[n] - uj, dk = along_k[n] - uk;
                value[n] = costs[n] + coupling * (di * di + dj * dj + dk * dk);
            }
            Lanes lowest = load(value);
            for (int n = LANES; n < labels; n += LANES) lowest = lesser(load(value + n), lowest);
            float least = infinity;
            for (int lane = 0; lane < LANES; ++lane) least = std::min(least, lowest[lane]);
            // The first of the least ones; found afterwards, so that all loops become vectors.
            int best = labels;
            for (int n = 0; n < labels; ++n) {
                const int found = value[n] == least ? n : labels;
                best = found < best ? found : best;
            }
            if (best == labels) best = labels / 2;  // no cost is a number
            out(0, first_row + a, b, c) = along_i[best];
            out(1, first_row + a, b, c) = along_j[best];
            out(2, first_row + a, b, c) = along_k[best];
        }
    }
}

}  // namespace

void define_search(nb::module_ &module) {
    define(module, "rows_of_channels", rows_of_channels);
    define(module, "cost_volume", cost_volume);
    define(module, "smooth_cells", smooth_cells);
    define(module, "coupled_argmin", coupled_argmin);
}
