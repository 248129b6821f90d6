// Where a position lies between voxels.
#pragma once

#include <algorithm>
#include <cmath>

#include "array.h"

// The voxels around a coordinate clamped to [0, n - 1], and the weight of the upper one. Not a number ends at 0: it must
// never become an index.
struct Corner {
    Index low, high;
    float weight;

    Corner(float x, Index n) {
        x = x > 0.f ? std::min(x, float(n - 1)) : 0.f;
        low = std::min(Index(x), std::max<Index>(n - 2, 0));
        high = std::min(low + 1, n - 1);
        weight = x - float(low);
    }
};

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
};

// The same eight voxels in a volume (I, J, K, C), whose channels lie side by side.
struct ChannelsLastCell {
    Index voxel[8];
    float weight[8];

    ChannelsLastCell(const Cell &at, Index nj, Index nk, Index channels) {
        for (int n = 0; n < 8; ++n) {
            const Index i = n & 4 ? at.i.high : at.i.low, j = n & 2 ? at.j.high : at.j.low, k = n & 1 ? at.k.high : at.k.low;
            voxel[n] = ((i * nj + j) * nk + k) * channels;
            weight[n] = (n & 4 ? at.i.weight : 1 - at.i.weight) * (n & 2 ? at.j.weight : 1 - at.j.weight) *
                        (n & 1 ? at.k.weight : 1 - at.k.weight);
        }
    }

    // Trilinear interpolation in one channel.
    float read(const float *__restrict volume, Index channel) const {
        float total = 0;
        for (int n = 0; n < 8; ++n) total += weight[n] * volume[voxel[n] + channel];
        return total;
    }

    // The adjoint of `read` for the values of all channels.
    void add(float *__restrict volume, const float *__restrict values, Index channels) const {
        for (int n = 0; n < 8; ++n)
            for (Index c = 0; c < channels; ++c) volume[voxel[n] + c] += weight[n] * values[c];
    }
};
