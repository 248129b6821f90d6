// Reading volumes between their voxels, and moving positions; the readable twins are in anamorph/geometry/sampling.py.
//
// Positions are (3, N) float32 voxel coordinates. `clamp` repeats the border; otherwise a position more than half a voxel
// outside takes the fill value.
#include <vector>

#include "interpolation.h"

namespace {

using Affine = Array<const float, 2>;

template <typename T>
void sample_linear(Index begin, Index end, Array<const T, 4> volume, Array<const float, 2> positions, bool clamp,
                   float fill, Array<float, 2> out) {
    const Index channels = volume.shape[0], ni = volume.shape[1], nj = volume.shape[2], nk = volume.shape[3];
    Cells cells(ni, nj, nk);
    for (Index start = begin; start < end; start += AT_ONCE) {
        const int count = int(std::min<Index>(AT_ONCE, end - start));
        const float *x = positions.at(0, start), *y = positions.at(1, start), *z = positions.at(2, start);
        cells.find(x, y, z, count);
        for (Index c = 0; c < channels; ++c) {
            float *to = out.at(c, start);
            cells.read(volume.at(c), count, to);
            if (clamp) continue;
            for (int p = 0; p < count; ++p)
                if (is_outside(x[p], y[p], z[p], ni, nj, nk)) to[p] = fill;
        }
    }
}

template <typename T>
void sample_nearest(Index begin, Index end, Array<const T, 4> volume, Array<const float, 2> positions, bool clamp,
                    T fill, Array<T, 2> out) {
    const Index channels = volume.shape[0], ni = volume.shape[1], nj = volume.shape[2], nk = volume.shape[3];
    const auto nearest = [](float x, Index n) {
        // Not a number ends at 0, as in Corner.
        return x > 0.f ? Index(std::floor(std::min(x, float(n - 1)) + 0.5f)) : Index(0);
    };
    for (Index p = begin; p < end; ++p) {
        const float x = positions(0, p), y = positions(1, p), z = positions(2, p);
        const bool outside = !clamp && is_outside(x, y, z, ni, nj, nk);
        for (Index c = 0; c < channels; ++c)
            out(c, p) = outside ? fill : volume(c, nearest(x, ni), nearest(y, nj), nearest(z, nk));
    }
}

// The label with the largest sum of trilinear weights: linear interpolation of one-hot maps without making them.
template <typename T>
void sample_labels(Index begin, Index end, Array<const T, 3> labels, Array<const float, 2> positions, T fill,
                   Array<T, 1> out) {
    const Index ni = labels.shape[0], nj = labels.shape[1], nk = labels.shape[2];
    for (Index p = begin; p < end; ++p) {
        const float x = positions(0, p), y = positions(1, p), z = positions(2, p);
        if (is_outside(x, y, z, ni, nj, nk)) {
            out(p) = fill;
            continue;
        }
        const Cell at(x, y, z, ni, nj, nk);
        T around[8];
        bool one = true;
        for (int n = 0; n < 8; ++n) {
            around[n] = labels(n & 4 ? at.i.high : at.i.low, n & 2 ? at.j.high : at.j.low, n & 1 ? at.k.high : at.k.low);
            one = one && around[n] == around[0];
        }
        if (one) {
            out(p) = around[0];
            continue;
        }
        T names[8];
        float weights[8];
        int found = 0;
        for (int n = 0; n < 8; ++n) {
            const float w = (n & 4 ? at.i.weight : 1 - at.i.weight) * (n & 2 ? at.j.weight : 1 - at.j.weight) *
                            (n & 1 ? at.k.weight : 1 - at.k.weight);
            int slot = 0;
            while (slot < found && names[slot] != around[n]) ++slot;
            if (slot == found) {
                names[found] = around[n];
                weights[found++] = 0;
            }
            weights[slot] += w;
        }
        int best = 0;
        for (int slot = 1; slot < found; ++slot)
            if (weights[slot] > weights[best] || (weights[slot] == weights[best] && names[slot] < names[best])) best = slot;
        out(p) = names[best];
    }
}

// One row of a matrix (3 or 4, 4) applied to a point.
float apply(const Affine &matrix, int row, float x, float y, float z) {
    const float *m = matrix.at(row);
    return m[0] * x + m[1] * y + m[2] * z + m[3];
}

void advance_affine(Index begin, Index end, Array<float, 2> positions, Affine matrix) {
    for (Index p = begin; p < end; ++p) {
        const float x = positions(0, p), y = positions(1, p), z = positions(2, p);
        for (int a = 0; a < 3; ++a) positions(a, p) = apply(matrix, a, x, y, z);
    }
}

// p <- p + L u(T p), u read trilinearly with its border repeated; L turns field voxels into position voxels.
void advance_displacement(Index begin, Index end, Array<float, 2> positions, Array<const float, 4> disp_vox,
                          Affine to_field, Affine linear) {
    Cells cells(disp_vox.shape[1], disp_vox.shape[2], disp_vox.shape[3]);
    float at[3][AT_ONCE], u[3][AT_ONCE];
    for (Index start = begin; start < end; start += AT_ONCE) {
        const int count = int(std::min<Index>(AT_ONCE, end - start));
        float *x = positions.at(0, start), *y = positions.at(1, start), *z = positions.at(2, start);
        for (int a = 0; a < 3; ++a)
            for (int p = 0; p < count; ++p) at[a][p] = apply(to_field, a, x[p], y[p], z[p]);
        cells.find(at[0], at[1], at[2], count);
        for (int c = 0; c < 3; ++c) cells.read(disp_vox.at(c), count, u[c]);
        for (int a = 0; a < 3; ++a) {
            const float *m = linear.at(a);
            float *__restrict to = positions.at(a, start);
            for (int p = 0; p < count; ++p) to[p] += m[0] * u[0][p] + m[1] * u[1][p] + m[2] * u[2][p];
        }
    }
}

// out = M (p + u(T p) / scale) for every voxel p of planes of a grid, u as above and T p = scale * p + offset along each axis:
// the four rows of u around a row of voxels become one, which all of them share.
void aligned_positions(Index begin, Index end, Array<const float, 4> disp_vox, Array<const double, 1> scale,
                       Array<const double, 1> offset, Affine matrix, Array<float, 4> out) {
    const Index nj = out.shape[2], nk = out.shape[3], length = disp_vox.shape[3];
    const auto at = [&](int axis, Index n) {
        return Corner(float(scale(axis) * double(n) + offset(axis)), disp_vox.shape[1 + axis]);
    };
    std::vector<int> low(nk), high(nk);
    std::vector<float> weight(nk), blended(length), places(3 * nk);
    for (Index k = 0; k < nk; ++k) {
        const Corner corner = at(2, k);
        low[k] = int(corner.low), high[k] = int(corner.high), weight[k] = corner.weight;
    }
    for (Index i = begin; i < end; ++i) {
        const Corner at_i = at(0, i);
        for (Index j = 0; j < nj; ++j) {
            const Corner at_j = at(1, j);
            for (int c = 0; c < 3; ++c) {
                const float *a = disp_vox.at(c, at_i.low, at_j.low), *b = disp_vox.at(c, at_i.low, at_j.high);
                const float *d = disp_vox.at(c, at_i.high, at_j.low), *e = disp_vox.at(c, at_i.high, at_j.high);
                const float back = float(1 / scale(c));
                float *__restrict row = blended.data();
                for (Index k = 0; k < length; ++k)
                    row[k] = back * between(between(a[k], b[k], at_j.weight), between(d[k], e[k], at_j.weight), at_i.weight);
                float *__restrict place = &places[c * nk];
                const float first = c == 0 ? float(i) : c == 1 ? float(j) : 0.f, step = c == 2 ? 1.f : 0.f;
                for (Index k = 0; k < nk; ++k)
                    place[k] = first + step * float(int(k)) + between(row[low[k]], row[high[k]], weight[k]);
            }
            const float *__restrict x = places.data(), *__restrict y = x + nk, *__restrict z = y + nk;
            for (int a = 0; a < 3; ++a) {
                const float *m = matrix.at(a);
                float *__restrict to = out.at(a, i, j);
                for (Index k = 0; k < nk; ++k) to[k] = m[0] * x[k] + m[1] * y[k] + m[2] * z[k] + m[3];
            }
        }
    }
}

// How far, after a matrix (3 or 4, 4), the positions (3, I, J, K) of the voxels of a grid lie from those voxels; `axes` (3, 3)
// are the steps of the grid.
void distances(Index begin, Index end, Array<const float, 4> positions, Affine matrix, Affine axes, Array<float, 3> out) {
    const Index nj = out.shape[1], nk = out.shape[2];
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j) {
            const float *x = positions.at(0, i, j), *y = positions.at(1, i, j), *z = positions.at(2, i, j);
            const float *a = axes.data;
            float *__restrict to = out.at(i, j);
            for (Index k = 0; k < nk; ++k) {
                const float u = apply(matrix, 0, x[k], y[k], z[k]) - float(i), v = apply(matrix, 1, x[k], y[k], z[k]) - float(j);
                const float w = apply(matrix, 2, x[k], y[k], z[k]) - float(int(k));
                const float p = a[0] * u + a[1] * v + a[2] * w, q = a[3] * u + a[4] * v + a[5] * w;
                const float r = a[6] * u + a[7] * v + a[8] * w;
                to[k] = std::sqrt(p * p + q * q + r * r);
            }
        }
}

void identity_positions(Index begin, Index end, Triple shape, Array<float, 2> out) {
    Index p = begin * shape[1] * shape[2];
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < shape[1]; ++j)
            for (Index k = 0; k < shape[2]; ++k, ++p) {
                out(0, p) = float(i);
                out(1, p) = float(j);
                out(2, p) = float(k);
            }
}

// det(I + du/dx) by central differences, one-sided at the border; an axis of one voxel counts as unchanged.
void jacobian_determinant(Index begin, Index end, Array<const float, 4> u, Array<float, 3> out) {
    const Index ni = u.shape[1], nj = u.shape[2], nk = u.shape[3];
    for (Index i = begin; i < end; ++i) {
        const Index a0 = std::max<Index>(i - 1, 0), a1 = std::min(i + 1, ni - 1);
        const float da = 1.f / float(std::max<Index>(a1 - a0, 1));
        for (Index j = 0; j < nj; ++j) {
            const Index b0 = std::max<Index>(j - 1, 0), b1 = std::min(j + 1, nj - 1);
            const float db = 1.f / float(std::max<Index>(b1 - b0, 1));
            const float *before[3][2], *after[3][2], *here[3];
            for (int c = 0; c < 3; ++c) {
                before[c][0] = u.at(c, a0, j), after[c][0] = u.at(c, a1, j);
                before[c][1] = u.at(c, i, b0), after[c][1] = u.at(c, i, b1);
                here[c] = u.at(c, i, j);
            }
            float *__restrict to = out.at(i, j);
            const auto determinant = [&](Index k, Index c0, Index c1, float dc) {
                float m[3][3];
                for (int c = 0; c < 3; ++c) {
                    m[c][0] = (after[c][0][k] - before[c][0][k]) * da;
                    m[c][1] = (after[c][1][k] - before[c][1][k]) * db;
                    m[c][2] = (here[c][c1] - here[c][c0]) * dc;
                    m[c][c] += 1.f;
                }
                to[k] = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
                        m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
                        m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
            };
            determinant(0, 0, std::min<Index>(1, nk - 1), 1.f);
            for (Index k = 1; k + 1 < nk; ++k) determinant(k, k - 1, k + 1, 0.5f);  // without a border: becomes vectors
            if (nk > 1) determinant(nk - 1, nk - 2, nk - 1, 1.f);
        }
    }
}

}  // namespace

void define_sampling(nb::module_ &module) {
    for_each_scalar([&](auto scalar) { define(module, "sample_linear", sample_linear<decltype(scalar)>); });
    for_each_label([&](auto label) { define(module, "sample_labels", sample_labels<decltype(label)>); });
    // Nearest voxels are copied whatever they hold: one kernel per size.
    define(module, "sample_nearest", sample_nearest<std::uint8_t>);
    define(module, "sample_nearest", sample_nearest<std::uint16_t>);
    define(module, "sample_nearest", sample_nearest<std::uint32_t>);
    define(module, "sample_nearest", sample_nearest<std::uint64_t>);
    define(module, "advance_affine", advance_affine);
    define(module, "advance_displacement", advance_displacement);
    define(module, "aligned_positions", aligned_positions);
    define(module, "distances", distances);
    define(module, "identity_positions", identity_positions);
    define(module, "jacobian_determinant", jacobian_determinant);
}
