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
