// Averages over cells and separable box smoothing; the readable twins are in anamorph/geometry/averaging.py.
#include <algorithm>
#include <vector>

#include "array.h"
#include "averaging.h"

namespace {

template <typename T>
void pool_channels_first(Index begin, Index end, Array<const T, 4> volume, Triple cell, Array<float, 4> out) {
    const Index ci = out.shape[1], cj = out.shape[2], nk = volume.shape[3];
    std::vector<float> sums(nk);
    float *__restrict sum = sums.data();
    for (Index plane = begin; plane < end; ++plane) {
        const Index c = plane / ci, a = plane % ci;
        const Index i0 = a * cell[0], i1 = std::min(i0 + cell[0], volume.shape[1]);
        for (Index b = 0; b < cj; ++b) {
            const Index j0 = b * cell[1], j1 = std::min(j0 + cell[1], volume.shape[2]);
            std::fill_n(sum, nk, 0.f);
            for (Index i = i0; i < i1; ++i)
                for (Index j = j0; j < j1; ++j) {
                    const T *__restrict row = volume.at(c, i, j);
                    for (Index k = 0; k < nk; ++k) sum[k] += float(row[k]);
                }
            average_cells(sum, nk, cell[2], (i1 - i0) * (j1 - j0), out.at(c, a, b), 1);
        }
    }
}

void pool_channels_last(Index begin, Index end, Array<const float, 4> volume, Triple cell, Array<float, 4> out) {
    const Index cj = out.shape[1], ck = out.shape[2], channels = volume.shape[3];
    for (Index row = begin; row < end; ++row) {
        const Index a = row / cj, b = row % cj;
        const Index i0 = a * cell[0], i1 = std::min(i0 + cell[0], volume.shape[0]);
        const Index j0 = b * cell[1], j1 = std::min(j0 + cell[1], volume.shape[1]);
        for (Index d = 0; d < ck; ++d) {
            const Index k0 = d * cell[2], k1 = std::min(k0 + cell[2], volume.shape[2]);
            float *__restrict mean = out.at(a, b, d);
            std::fill_n(mean, channels, 0.f);
            for (Index i = i0; i < i1; ++i)
                for (Index j = j0; j < j1; ++j)
                    for (Index k = k0; k < k1; ++k) {
                        const float *__restrict voxel = volume.at(i, j, k);
                        for (Index c = 0; c < channels; ++c) mean[c] += voxel[c];
                    }
            const float scale = 1.f / float((i1 - i0) * (j1 - j0) * (k1 - k0));
            for (Index c = 0; c < channels; ++c) mean[c] *= scale;
        }
    }
}

// Box average along one spatial axis of (C, I, J, K), the border repeated.
void box_axis(Index begin, Index end, Array<const float, 4> field, int axis, Index radius, Array<float, 4> out) {
    const auto [ni, nj, nk] = Triple{field.shape[1], field.shape[2], field.shape[3]};
    const float scale = 1.f / float(2 * radius + 1);
    for (Index plane = begin; plane < end; ++plane) {
        const Index c = plane / ni, i = plane % ni;
        for (Index j = 0; j < nj; ++j) {
            float *__restrict mean = out.at(c, i, j);
            std::fill_n(mean, nk, 0.f);
            for (Index d = -radius; d <= radius; ++d) {
                if (axis == 2) {
                    const float *__restrict row = field.at(c, i, j);
                    const Index inner = std::clamp<Index>(-d, 0, nk), outer = std::max(inner, std::min(nk, nk - d));
                    for (Index k = 0; k < inner; ++k) mean[k] += row[0];
                    for (Index k = inner; k < outer; ++k) mean[k] += row[k + d];
                    for (Index k = outer; k < nk; ++k) mean[k] += row[nk - 1];
                } else {
                    const Index ii = axis == 0 ? std::clamp<Index>(i + d, 0, ni - 1) : i;
                    const Index jj = axis == 1 ? std::clamp<Index>(j + d, 0, nj - 1) : j;
                    const float *__restrict row = field.at(c, ii, jj);
                    for (Index k = 0; k < nk; ++k) mean[k] += row[k];
                }
            }
            for (Index k = 0; k < nk; ++k) mean[k] *= scale;
        }
    }
}

}  // namespace

void define_averaging(nb::module_ &module) {
    for_each_scalar([&](auto scalar) { define(module, "pool_channels_first", pool_channels_first<decltype(scalar)>); });
    define(module, "pool_channels_last", pool_channels_last);
    define(module, "box_axis", box_axis);
}
