// Convolutional networks, channels last: convolutions, their transposes, instance norm and activation, softmax. The readable twin is
// the network itself, anamorph/networks/symmetric_network.py, that anamorph/networks/segmentation.py follows.
//
// Volumes (I + 2, J + 2, K + 2, C) have a frame of one voxel, zero wherever a convolution reads it, so that no border needs care. Weights
// are (taps along i, j, k, inputs, outputs), the outputs filled up with zeros to a multiple of 16. Several volumes may share an array,
// each in channels of its own: where the first of them lies is given beside the array.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "array.h"
#include "lanes.h"

namespace {

// Sums that registers hold: two vectors of outputs at six positions, or one at twelve.
constexpr int SUMS = LANES == 16 ? 24 : 12, MOST_POSITIONS = 12;
constexpr int BLOCK = 2 * LANES;

// Where a row of outputs reads: one pointer for each row of taps, to the first position's first tap.
struct Rows {
    std::array<const float *, 9> at;
    int count;
    Index taps, tap_stride, stride, inputs;  // stride: between positions
};

struct Weights {
    const float *data;  // at the first output of the block
    Index outputs;      // between one input's weights and the next
};

// Where a row of outputs goes: `channels` of each position, of which every `voxel` floats belong to the next voxel along k.
struct Target {
    float *out;
    Index stride, channels, voxel, voxel_stride;  // stride: between positions

    // Write what `vecs` vectors of channels hold of each of some positions.
    void write(const float *found, int vecs, Index first, Index count) const {
        for (Index t = first; t < first + count; ++t, found += vecs * LANES) {
            float *to = out + t * stride;
            const Index all = std::min<Index>(channels, vecs * LANES);
            if (voxel == channels)
                std::copy_n(found, all, to);
            else
                for (Index n = 0; n < all; n += voxel, to += voxel_stride) std::copy_n(found + n, voxel, to);
        }
    }
};

// POSITIONS outputs along k of VECS vectors of channels: bias[n] + the sum over taps and inputs.
template <int VECS, int POSITIONS>
void tile(const Rows &rows, Index first, Weights weights, const float *bias, const Target &target) {
    Lanes sums[POSITIONS][VECS];
    for (int v = 0; v < VECS; ++v) {
        const Lanes start = load(bias + v * LANES);
#pragma GCC unroll 16
        for (int t = 0; t < POSITIONS; ++t) sums[t][v] = start;
    }
    const float *weight = weights.data;
    const Index stride = rows.stride;
    for (int row = 0; row < rows.count; ++row)
        for (Index tap = 0; tap < rows.taps; ++tap) {
            const float *__restrict in = rows.at[row] + first * stride + tap * rows.tap_stride;
            for (Index c = 0; c < rows.inputs; ++c, weight += weights.outputs) {
                Lanes here[VECS];
                for (int v = 0; v < VECS; ++v) here[v] = load(weight + v * LANES);
#pragma GCC unroll 16
                for (int t = 0; t < POSITIONS; ++t)
                    for (int v = 0; v < VECS; ++v) sums[t][v] += in[c + t * stride] * here[v];
            }
        }
    float found[POSITIONS * VECS * LANES];
#pragma GCC unroll 16
    for (int t = 0; t < POSITIONS; ++t)
        for (int v = 0; v < VECS; ++v) store(found + (t * VECS + v) * LANES, sums[t][v]);
    target.write(found, VECS, first, POSITIONS);
}

using Tile = void (*)(const Rows &, Index, Weights, const float *, const Target &);

template <int VECS, int... Less>
constexpr std::array<Tile, sizeof...(Less)> tiles_of(std::integer_sequence<int, Less...>) {
    return {tile<VECS, Less + 1>...};
}

template <int VECS>
constexpr int POSITIONS = std::min(SUMS / VECS, MOST_POSITIONS);

// A row of outputs along k in tiles of about equal length, as short ones leave the processor waiting.
template <int VECS>
void row_of(const Rows &rows, Weights weights, const float *bias, const Target &target, Index count) {
    static constexpr auto tiles = tiles_of<VECS>(std::make_integer_sequence<int, POSITIONS<VECS>>());
    const Index parts = (count + POSITIONS<VECS> - 1) / POSITIONS<VECS>;
    for (Index part = 0; part < parts; ++part) {
        const Index first = part * count / parts, end = (part + 1) * count / parts;
        tiles[end - first - 1](rows, first, weights, bias, target);
    }
}

// A row of at most BLOCK outputs of each position, from channel `begin` on.
void block_of(const Rows &rows, const Array<const float, 5> &weights, const float *bias, Index begin, const Target &all, Index count,
              Index tap = 0) {
    const Weights block{weights.data + tap * weights.shape[3] * weights.shape[4] + begin, weights.shape[4]};
    const Index channels = all.channels - begin, voxel = all.voxel == all.channels ? channels : all.voxel;
    const Target target{all.out + begin, all.stride, channels, voxel, all.voxel_stride};
    (channels > LANES ? row_of<2> : row_of<1>)(rows, block, bias + begin, target, count);
}

inline float activated(float value, float slope) { return value > 0 ? value : slope * value; }

// Add the sums and sums of squares of each channel of a row to the moments (I, 2, C) of a plane, if there are any planes.
void add_moments(const float *row, Index stride, Index count, const Array<double, 3> &moments, Index plane, Index begin) {
    if (!moments.shape[0]) return;
    const Index channels = std::min<Index>(moments.shape[2] - begin, BLOCK);
    double *sums = moments.at(plane, 0) + begin, *squares = moments.at(plane, 1) + begin;
    float here[BLOCK] = {}, squared[BLOCK] = {};
    for (Index k = 0; k < count; ++k)
        for (Index c = 0; c < channels; ++c) {
            const float value = row[k * stride + c];
            here[c] += value;
            squared[c] += value * value;
        }
    for (Index c = 0; c < channels; ++c) sums[c] += here[c], squares[c] += squared[c];
}

using Framed = Array<const float, 4>;

// Planes begin..end - 1 of a convolution of 3 x 3 x 3, or of 2 x 2 x 2 to half the resolution, and sums and sums of squares of each
// plane's channels, `moments` (I, 2, C), of which there may be none. Weights of 3 x 3 x (2 + n) taps make n voxels side by side at
// once, so that few channels fill a vector.
void convolve(Index begin, Index end, Framed in, Index first_in, Array<const float, 5> weights, Array<const float, 1> bias,
              Array<float, 4> out, Index first_out, Array<double, 3> moments) {
    const int size = int(weights.shape[0]);
    const Index step = size == 2 ? 2 : 1, origin = size == 2 ? 1 : 0, channels = moments.shape[2];
    const Index taps = weights.shape[2], together = size == 2 ? 1 : taps - 2;
    const Index nj = out.shape[1] - 2, nk = out.shape[2] - 2, width = in.shape[3], out_width = out.shape[3];
    Rows rows{{}, size * size, taps, width, together * step * width, weights.shape[3]};
    for (Index i = begin; i < end; ++i) {
        if (moments.shape[0]) std::fill_n(moments.at(i), 2 * channels, 0.);
        for (Index block = 0; block < channels; block += BLOCK)
            for (Index j = 0; j < nj; ++j) {
                for (int row = 0; row < rows.count; ++row)
                    rows.at[row] = in.at(origin + step * i + row / size, origin + step * j + row % size, origin) + first_in;
                float *to = out.at(i + 1, j + 1, 1) + first_out;
                const Target target{to, together * out_width, together * channels, channels, out_width};
                block_of(rows, weights, bias.data, block, target, nk / together);
                add_moments(to + block, out_width, nk, moments, i, block);
            }
    }
}

// Planes of a transposed convolution whose weights and steps are equally large: every voxel becomes a cell of voxels. `out` has a
// frame of `frame` voxels.
void convolve_transposed(Index begin, Index end, Framed in, Index first_in, Array<const float, 5> weights, Array<const float, 1> bias,
                         Array<float, 4> out, Index first_out, Index frame, Array<double, 3> moments) {
    const Index cell = weights.shape[0], channels = moments.shape[2], width = in.shape[3], out_width = out.shape[3];
    const Index nj = out.shape[1] - 2 * frame, nk = in.shape[2] - 2;
    Rows rows{{}, 1, 1, width, width, weights.shape[3]};
    for (Index i = begin; i < end; ++i) {
        if (moments.shape[0]) std::fill_n(moments.at(i), 2 * channels, 0.);
        for (Index j = 0; j < nj; ++j) {
            rows.at[0] = in.at(i / cell + 1, j / cell + 1, 1) + first_in;
            float *row = out.at(i + frame, j + frame, frame) + first_out;
            for (Index block = 0; block < channels; block += BLOCK) {
                for (Index k = 0; k < cell; ++k)
                    block_of(rows, weights, bias.data, block, {row + k * out_width, cell * out_width, channels, channels, 0}, nk,
                             ((i % cell) * cell + j % cell) * cell + k);
                add_moments(row + block, out_width, cell * nk, moments, i, block);
            }
        }
    }
}

// Planes of act(scale x + shift) in place of x, plus those of another volume if it has any channels.
void activate(Index begin, Index end, Array<float, 4> volume, Index first, Array<const float, 1> scale, Array<const float, 1> shift,
              float slope, Framed plus, Index first_plus) {
    const Index channels = scale.shape[0], width = volume.shape[3], plus_width = plus.shape[3];
    for (Index i = begin; i < end; ++i)
        for (Index j = 1; j < volume.shape[1] - 1; ++j) {
            float *at = volume.at(i + 1, j, 1) + first;
            const float *added = plus_width ? plus.at(i + 1, j, 1) + first_plus : nullptr;
            for (Index k = 1; k < volume.shape[2] - 1; ++k, at += width) {
                for (Index c = 0; c < channels; ++c) at[c] = activated(scale.data[c] * at[c] + shift.data[c], slope);
                if (!added) continue;
                for (Index c = 0; c < channels; ++c) at[c] += added[c];
                added += plus_width;
            }
        }
}

// exp(x) for x <= 0 to a few units in the last place: a power of two, and a polynomial of what is left.
inline float exp_of(float x) {
    const float scaled = std::max(x, -87.f) * 1.44269504f;
    const std::int32_t whole = std::int32_t(scaled - 0.5f);
    const float left = (scaled - float(whole)) * 0.69314718f;
    const float series =
        1 + left * (1 + left * (0.5f + left * (1.f / 6 + left * (1.f / 24 + left * (1.f / 120 + left * (1.f / 720))))));
    const std::int32_t bits = (whole + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return power * series;
}

// Planes of probabilities (C, I, J, K) from scores (I', J', K', C) that begin at voxel `from`.
void softmax(Index begin, Index end, Framed scores, Triple from, Array<float, 4> out) {
    const Index channels = out.shape[0], nk = out.shape[3];
    std::vector<float> rows(channels * nk), highest(nk), totals(nk);
    float *__restrict row = rows.data(), *__restrict largest = highest.data(), *__restrict total = totals.data();
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < out.shape[2]; ++j) {
            const float *__restrict in = scores.at(i + from[0], j + from[1], from[2]);
            for (Index k = 0; k < nk; ++k)
                for (Index c = 0; c < channels; ++c) row[c * nk + k] = in[k * channels + c];
            std::copy_n(row, nk, largest);
            for (Index c = 1; c < channels; ++c) {
                const float *score = row + c * nk;
                for (Index k = 0; k < nk; ++k) largest[k] = std::max(largest[k], score[k]);
            }
            std::fill_n(total, nk, 0.f);
            for (Index c = 0; c < channels; ++c) {
                float *score = row + c * nk;
                for (Index k = 0; k < nk; ++k) score[k] = exp_of(score[k] - largest[k]);
                for (Index k = 0; k < nk; ++k) total[k] += score[k];
            }
            for (Index k = 0; k < nk; ++k) total[k] = 1 / total[k];
            for (Index c = 0; c < channels; ++c) {
                const float *score = row + c * nk;
                float *__restrict to = out.at(c, i, j);
                for (Index k = 0; k < nk; ++k) to[k] = score[k] * total[k];
            }
        }
}

}  // namespace

void define_convolution(nb::module_ &module) {
    define(module, "convolve", convolve);
    define(module, "convolve_transposed", convolve_transposed);
    define(module, "activate", activate);
    define(module, "softmax", softmax);
}
