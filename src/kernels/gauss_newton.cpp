// What a Gauss-Newton step of a linear map is made of; the readable twin is `_sums_numpy` in
// anamorph/methods/start/matching.py.
#include <algorithm>
#include <vector>

#include "array.h"

namespace {

using Volume = Array<const float, 4>;
using Weight = Array<const float, 3>;
constexpr int SUMS = 12 + 144;

// One scan: its descriptor where it has weight, else its mean.
struct Scan {
    const float *values, *weight, *mean;
    Index channels;

    const float *at(Index voxel) const { return weight[voxel] > 0 ? values + voxel * channels : mean; }
};

// Sums over the chosen voxels (N) of t pull_d h_a (3, 4) and t metric_de h_a h_b (3, 3, 4, 4): t the trust, pull and metric
// the products of gradients along the axes with the difference and with each other, h the place by `to_unit` (3, 4) and 1.
std::array<double, SUMS> gauss_newton(Index begin, Index end, Volume fixed, Weight fixed_weight, Array<const float, 1> fixed_mean,
                                      Volume moving, Weight moving_weight, Array<const float, 1> moving_mean,
                                      Array<const std::int64_t, 1> chosen, float chance, Array<const double, 2> to_unit) {
    const Index nj = fixed.shape[1], nk = fixed.shape[2], channels = fixed.shape[3];
    const Index strides[3] = {nj * nk, nk, 1};
    const Scan here{fixed.data, fixed_weight.data, fixed_mean.data, channels};
    const Scan there{moving.data, moving_weight.data, moving_mean.data, channels};
    std::vector<float> slopes(4 * channels);
    std::array<double, SUMS> sums{};
    for (Index n = begin; n < end; ++n) {
        const Index voxel = chosen(n);
        float *__restrict difference = slopes.data();
        const float *one = here.at(voxel), *other = there.at(voxel);
        float mismatch = 0;
        for (Index c = 0; c < channels; ++c) {
            difference[c] = one[c] - other[c];
            mismatch += difference[c] * difference[c];
        }
        const float agreement = std::max(1 - mismatch / chance, 0.f);
        const double trust = double(here.weight[voxel] * there.weight[voxel]) * agreement * agreement;
        if (trust == 0) continue;
        double pull[3] = {}, metric[3][3] = {};
        for (int a = 0; a < 3; ++a) {
            float *__restrict slope = &slopes[(1 + a) * channels];
            if (fixed.shape[a] <= 2) {
                std::fill_n(slope, channels, 0.f);
                continue;
            }
            const float *up = here.at(voxel + strides[a]), *too = there.at(voxel + strides[a]);
            const float *down = here.at(voxel - strides[a]), *again = there.at(voxel - strides[a]);
            for (Index c = 0; c < channels; ++c) slope[c] = (up[c] + too[c] - down[c] - again[c]) * 0.25f;
            float product = 0;
            for (Index c = 0; c < channels; ++c) product += slope[c] * difference[c];
            pull[a] = product;
        }
        for (int a = 0; a < 3; ++a)
            for (int b = 0; b <= a; ++b) {
                const float *__restrict left = &slopes[(1 + a) * channels], *__restrict right = &slopes[(1 + b) * channels];
                float product = 0;
                for (Index c = 0; c < channels; ++c) product += left[c] * right[c];
                metric[a][b] = metric[b][a] = product;
            }
        const double at[3] = {double(voxel / strides[0]), double(voxel / nk % nj), double(voxel % nk)};
        double place[4] = {0, 0, 0, 1};
        for (int a = 0; a < 3; ++a) {
            const double *m = to_unit.at(a);
            place[a] = m[0] * at[0] + m[1] * at[1] + m[2] * at[2] + m[3];
        }
        double *to = sums.data();
        for (int d = 0; d < 3; ++d)
            for (int a = 0; a < 4; ++a) *to++ += trust * pull[d] * place[a];
        double outer[16];
        for (int a = 0; a < 4; ++a)
            for (int b = 0; b < 4; ++b) outer[4 * a + b] = trust * place[a] * place[b];
        for (int d = 0; d < 3; ++d)
            for (int e = 0; e < 3; ++e)
                for (int ab = 0; ab < 16; ++ab) *to++ += metric[d][e] * outer[ab];
    }
    return sums;
}

}  // namespace

void define_gauss_newton(nb::module_ &module) { define(module, "gauss_newton", gauss_newton); }
