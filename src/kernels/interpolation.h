// Where a position lies between voxels.
#pragma once

#include <algorithm>
#include <cmath>

#include "array.h"

// The voxels around a coordinate clamped to [0, n - 1], and the weight of the upper one. Not a number ends at 0: it must
// never become an index. Loops over 32-bit places become vectors.
template <typename Place>
struct CornerAt {
    Place low, high;
    float weight;

    CornerAt(float x, Place n) {
        x = x > 0.f ? std::min(x, float(n - 1)) : 0.f;
        const Place below = Place(x), last = n > 1 ? n - 2 : 0;
        low = below < last ? below : last;
        high = low + (n > 1);
        weight = x - float(low);
    }
};
using Corner = CornerAt<Index>;

// More than half a voxel outside, which is also ITK's rule.
inline bool is_outside(float x, float y, float z, Index ni, Index nj, Index nk) {
    return !(x >= -0.5f && y >= -0.5f && z >= -0.5f && x <= float(ni) - 0.5f && y <= float(nj) - 0.5f &&
             z <= float(nk) - 0.5f);
}

// The eight voxels around a position and their weights.
struct Cell {
    Corner i, j, k;

    Cell(float x, float y, float z, Index ni, Index nj, Index nk) : i(x, ni), j(y, nj), k(z, nk) {}

    // Trilinear interpolation in one channel (I, J, K) of a volume.
    template <typename T>
    float read(const T *volume, Index nj, Index nk) const {
        const T *low = volume + i.low * nj * nk, *high = volume + i.high * nj * nk;
        const auto along_k = [&](const T *plane, Index row) {
            const T *line = plane + row * nk;
            return float(line[k.low]) * (1 - k.weight) + float(line[k.high]) * k.weight;
        };
        const float a = along_k(low, j.low), b = along_k(low, j.high);
        const float d = along_k(high, j.low), e = along_k(high, j.high);
        return (a * (1 - j.weight) + b * j.weight) * (1 - i.weight) + (d * (1 - j.weight) + e * j.weight) * i.weight;
    }

    // Trilinear interpolation in all channels of a channels-last volume (I, J, K, C), C a multiple of 16.
    void read_channels(Array<const float, 4> volume, float *__restrict out) const {
        constexpr Index Block = 16;
        const float *a0 = volume.at(i.low, j.low, k.low), *a1 = volume.at(i.low, j.low, k.high);
        const float *b0 = volume.at(i.low, j.high, k.low), *b1 = volume.at(i.low, j.high, k.high);
        const float *d0 = volume.at(i.high, j.low, k.low), *d1 = volume.at(i.high, j.low, k.high);
        const float *e0 = volume.at(i.high, j.high, k.low), *e1 = volume.at(i.high, j.high, k.high);
        const float wi = i.weight, wj = j.weight, wk = k.weight, vi = 1 - wi, vj = 1 - wj, vk = 1 - wk;
        for (Index block = 0; block < volume.shape[3]; block += Block)
            for (Index c = block; c < block + Block; ++c)
                out[c] = ((a0[c] * vk + a1[c] * wk) * vj + (b0[c] * vk + b1[c] * wk) * wj) * vi +
                         ((d0[c] * vk + d1[c] * wk) * vj + (e0[c] * vk + e1[c] * wk) * wj) * wi;
    }
};

// The same eight voxels in a volume (I, J, K, C), whose channels lie side by side.
struct ChannelsLastCell {
    Index first, next_i, next_j, next_k;
    float weight[8];

    ChannelsLastCell(const Cell &at, Index nj, Index nk, Index channels)
        : first(((at.i.low * nj + at.j.low) * nk + at.k.low) * channels),
          next_i((at.i.high - at.i.low) * nj * nk * channels),
          next_j((at.j.high - at.j.low) * nk * channels),
          next_k((at.k.high - at.k.low) * channels) {
        const float a = at.i.weight, b = at.j.weight, c = at.k.weight;
        const float plane[4] = {(1 - b) * (1 - c), (1 - b) * c, b * (1 - c), b * c};
        for (int n = 0; n < 4; ++n) weight[n] = (1 - a) * plane[n], weight[4 + n] = a * plane[n];
    }

    // Trilinear interpolation in one channel.
    float read(const float *volume, Index channel) const {
        const float *low = volume + first + channel, *high = low + next_i;
        return (weight[0] * low[0] + weight[1] * low[next_k] + weight[2] * low[next_j] + weight[3] * low[next_j + next_k]) +
               (weight[4] * high[0] + weight[5] * high[next_k] + weight[6] * high[next_j] + weight[7] * high[next_j + next_k]);
    }

    // The adjoint of `read` for the values of all channels.
    void add(float *__restrict volume, const float *__restrict values, Index channels) const {
        for (int n = 0; n < 8; ++n) {
            float *__restrict voxel = volume + first + (n & 4 ? next_i : 0) + (n & 2 ? next_j : 0) + (n & 1 ? next_k : 0);
            for (Index c = 0; c < channels; ++c) voxel[c] += weight[n] * values[c];
        }
    }
};
