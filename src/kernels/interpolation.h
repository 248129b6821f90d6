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

// The same as vectors, for coordinates `first + step * k + shift[k]` of the voxels of a row; `also` is told which are inside.
template <typename Also>
inline void corners(Index count, float first, float step, int n, const float *__restrict shift, int *__restrict low,
                    float *__restrict upper, Also also) {
    const float last = float(n - 1);
    const int lowest = std::max(n - 2, 0);
    for (int k = 0; k < int(count); ++k) {
        const float x = first + step * float(k) + shift[k];
        const float positive = x > 0.f ? x : 0.f, inside = positive < last ? positive : last;
        const int floor = int(inside);
        low[k] = floor < lowest ? floor : lowest;
        upper[k] = inside - float(low[k]);
        also(k, inside == x);
    }
}

// Between two values, and exactly one of them where the weight is 0 or 1, which low + weight * (high - low) is not: Clang would
// otherwise turn the one into the other.
template <typename Values>
inline Values between(const Values &low, const Values &high, float weight) {
#ifdef __clang__
#pragma clang fp reassociate(off)
#endif
    return low * (1 - weight) + high * weight;
}

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
            return between(float(line[k.low]), float(line[k.high]), k.weight);
        };
        return between(between(along_k(low, j.low), along_k(low, j.high), j.weight),
                       between(along_k(high, j.low), along_k(high, j.high), j.weight), i.weight);
    }
};

// Cells of some positions in a volume (I, J, K), found and read together: all but fetching the voxels becomes vectors.
constexpr int AT_ONCE = 64;
class Cells {
  public:
    Cells(Index ni, Index nj, Index nk) : size{ni, nj, nk}, stride{nj * nk, nk, 1} {
        const Index i = ni > 1 ? nj * nk : 0, j = nj > 1 ? nk : 0, k = nk > 1;
        for (int n = 0; n < 8; ++n) corner[n] = (n & 4 ? i : 0) + (n & 2 ? j : 0) + (n & 1 ? k : 0);
    }

    void find(const float *x, const float *y, const float *z, int count) {
        std::fill_n(first, count, 0);
        find_along(0, x, count);
        find_along(1, y, count);
        find_along(2, z, count);
    }

    // Trilinear interpolation in one channel.
    template <typename T>
    void read(const T *volume, int count, float *__restrict out) const {
        float at[8][AT_ONCE];
        for (int p = 0; p < count; ++p)
            for (int n = 0; n < 8; ++n) at[n][p] = float(volume[first[p] + corner[n]]);
        const float *__restrict wi = weight[0], *__restrict wj = weight[1], *__restrict wk = weight[2];
        for (int p = 0; p < count; ++p) {
            const float low = between(between(at[0][p], at[1][p], wk[p]), between(at[2][p], at[3][p], wk[p]), wj[p]);
            const float high = between(between(at[4][p], at[5][p], wk[p]), between(at[6][p], at[7][p], wk[p]), wj[p]);
            out[p] = between(low, high, wi[p]);
        }
    }

  private:
    // As `Corner`.
    void find_along(int axis, const float *__restrict x, int count) {
        const int n = int(size[axis]), lowest = std::max(n - 2, 0);
        const float last = float(n - 1);
        int low[AT_ONCE];
        for (int p = 0; p < count; ++p) {
            const float positive = x[p] > 0.f ? x[p] : 0.f, inside = positive < last ? positive : last;
            const int floor = int(inside);
            low[p] = floor < lowest ? floor : lowest;
            weight[axis][p] = inside - float(low[p]);
        }
        for (int p = 0; p < count; ++p) first[p] += low[p] * stride[axis];
    }

    Index size[3], stride[3], corner[8], first[AT_ONCE];
    float weight[3][AT_ONCE];
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
