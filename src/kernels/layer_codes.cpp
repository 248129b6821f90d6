// Coded layers; the readable twins are in anamorph/features/layer_codes.py.
#include <algorithm>

#include "array.h"

namespace {

// Share of each code among the 27 voxels around every second voxel: (I / 2, J / 2, K / 2, layers * count), zeros before.
void count_codes(Index begin, Index end, Array<const std::uint8_t, 4> labels, Array<const std::int64_t, 2> codes, Index count,
                 Array<float, 4> out) {
    const Index layers = labels.shape[0], ni = labels.shape[1], nj = labels.shape[2], nk = labels.shape[3];
    for (Index i = begin; i < end; ++i) {
        const Index i0 = std::max<Index>(2 * i - 1, 0), i1 = std::min(2 * i + 2, ni);
        for (Index j = 0; j < out.shape[1]; ++j) {
            const Index j0 = std::max<Index>(2 * j - 1, 0), j1 = std::min(2 * j + 2, nj);
            for (Index k = 0; k < out.shape[2]; ++k) {
                const Index k0 = std::max<Index>(2 * k - 1, 0), k1 = std::min(2 * k + 2, nk);
                const float share = 1.f / float((i1 - i0) * (j1 - j0) * (k1 - k0));
                for (Index layer = 0; layer < layers; ++layer) {
                    float *shares = out.at(i, j, k) + layer * count;
                    const std::int64_t *code = codes.at(layer);
                    for (Index a = i0; a < i1; ++a)
                        for (Index b = j0; b < j1; ++b) {
                            const std::uint8_t *row = labels.at(layer, a, b);
                            for (Index c = k0; c < k1; ++c) shares[code[row[c]]] += share;
                        }
                }
            }
        }
    }
}

// Averages over the 2 * reach + 1 neighbours along the middle axis of (A, N, M), fewer at the ends.
void average_lines(Index begin, Index end, Array<const float, 3> volume, Index reach, Array<float, 3> out) {
    const Index length = volume.shape[1], count = volume.shape[2];
    for (Index a = begin; a < end; ++a)
        for (Index x = 0; x < length; ++x) {
            const Index low = std::max<Index>(x - reach, 0), high = std::min(x + reach + 1, length);
            const float share = 1.f / float(high - low);
            float *__restrict mean = out.at(a, x);
            std::fill_n(mean, count, 0.f);
            for (Index y = low; y < high; ++y) {
                const float *__restrict from = volume.at(a, y);
                for (Index m = 0; m < count; ++m) mean[m] += share * from[m];
            }
        }
}

}  // namespace

void define_layer_codes(nb::module_ &module) {
    define(module, "count_codes", count_codes);
    define(module, "average_lines", average_lines);
}
