// Displacement fields in voxels of their grid; the readable twins are in anamorph/transforms/fields.py.
#include <vector>

#include "interpolation.h"
#include "lanes.h"

namespace {

// (3, I, J, K) to (I, J, K, 4): the components of a vector side by side, and a 0.
void interleave(Index begin, Index end, Array<const float, 4> field, Array<float, 4> out) {
    const Index nj = out.shape[1], nk = out.shape[2];
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j) {
            const float *u0 = field.at(0, i, j), *u1 = field.at(1, i, j), *u2 = field.at(2, i, j);
            float *__restrict to = out.at(i, j);
            for (Index k = 0; k < nk; ++k) to[4 * k] = u0[k], to[4 * k + 1] = u1[k], to[4 * k + 2] = u2[k], to[4 * k + 3] = 0;
        }
}

// How far the next voxels along i, j and k of a channels-last volume are, where there are any.
struct Neighbours {
    Index i, j, k;

    explicit Neighbours(const Array<const float, 4> &volume)
        : i(volume.shape[0] > 1 ? volume.shape[1] * volume.shape[2] * volume.shape[3] : 0),
          j(volume.shape[1] > 1 ? volume.shape[2] * volume.shape[3] : 0),
          k(volume.shape[2] > 1 ? volume.shape[3] : 0) {}
};

// Where the voxels of a row lie in a channels-last volume after a displacement.
class RowOfCells {
  public:
    explicit RowOfCells(Index count) : count(count), low(3 * count), upper(3 * count) {}

    void find(Index i, Index j, Array<const float, 4> disp, const Index *shape) {
        for (int axis = 0; axis < 3; ++axis) {
            const float start = axis == 0 ? float(i) : axis == 1 ? float(j) : 0.f;
            corners(count, start, axis == 2 ? 1.f : 0.f, int(shape[axis]), disp.at(axis, i, j), &low[axis * count],
                    &upper[axis * count], [](int, bool) {});
        }
    }

    // The channels of the lower voxel.
    const float *first(Array<const float, 4> volume, Index k) const {
        return volume.at(low[k], low[count + k], low[2 * count + k]);
    }

    // Trilinear interpolation of what `load` gives of each of the eight voxels.
    template <typename Load>
    auto read(Index k, const Neighbours &to, Load load) const {
        const auto in_row = [&](Index corner) { return between(load(corner), load(corner + to.k), upper[2 * count + k]); };
        const auto in_plane = [&](Index corner) { return between(in_row(corner), in_row(corner + to.j), upper[count + k]); };
        return between(in_plane(0), in_plane(to.i), upper[k]);
    }

  private:
    Index count;
    std::vector<int> low;
    std::vector<float> upper;
};

// out = first + sign * second(x + first), the border of `second`, whose vectors are interleaved, repeated.
void compose(Index begin, Index end, Array<const float, 4> first, Array<const float, 4> second, float sign,
             Array<float, 4> out) {
    const Index nj = first.shape[2], nk = first.shape[3];
    const Neighbours near(second);
    RowOfCells cells(nk);
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j) {
            cells.find(i, j, first, second.shape);
            const float *u0 = first.at(0, i, j), *u1 = first.at(1, i, j), *u2 = first.at(2, i, j);
            float *__restrict out0 = out.at(0, i, j), *__restrict out1 = out.at(1, i, j), *__restrict out2 = out.at(2, i, j);
            for (Index k = 0; k < nk; ++k) {
                const float *from = cells.first(second, k);
                const Four found = cells.read(k, near, [&](Index corner) { return load_four(from + corner); });
                out0[k] = u0[k] + sign * found[0];
                out1[k] = u1[k] + sign * found[1];
                out2[k] = u2[k] + sign * found[2];
            }
        }
}

// Where a voxel of one axis lies between the centres of the cells.
Corner between_cells(Index voxel, Index cell, Index cells) { return {(float(voxel) + 0.5f) / float(cell) - 0.5f, cells}; }

// A field on cells read at the voxels of the cells, trilinear between cell centres, in voxels of the fine grid.
void upsample(Index begin, Index end, Array<const float, 4> field, Triple cell, Array<float, 4> out) {
    const Index nj = out.shape[2], nk = out.shape[3], ck = field.shape[3];
    std::vector<Corner> along_k;
    for (Index k = 0; k < nk; ++k) along_k.push_back(between_cells(k, cell[2], ck));
    // Four rows of cells become one, which all voxels of a row share, its ends repeated.
    std::vector<float> blended(ck + 2);
    float *__restrict row = blended.data() + 1;
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j)
            for (int c = 0; c < 3; ++c) {
                const Corner at_i = between_cells(i, cell[0], field.shape[1]), at_j = between_cells(j, cell[1], field.shape[2]);
                const float *a = field.at(c, at_i.low, at_j.low), *b = field.at(c, at_i.low, at_j.high);
                const float *d = field.at(c, at_i.high, at_j.low), *e = field.at(c, at_i.high, at_j.high);
                const float wi = at_i.weight, wj = at_j.weight, scale = float(cell[c]);
                for (Index k = 0; k < ck; ++k)
                    row[k] = ((a[k] * (1 - wj) + b[k] * wj) * (1 - wi) + (d[k] * (1 - wj) + e[k] * wj) * wi) * scale;
                float *__restrict fine = out.at(c, i, j);
                if (cell[2] == 2) {
                    row[-1] = row[0], row[ck] = row[ck - 1];
                    for (Index k = 0; k < nk / 2; ++k) {
                        fine[2 * k] = row[k - 1] * 0.25f + row[k] * 0.75f;
                        fine[2 * k + 1] = row[k] * 0.75f + row[k + 1] * 0.25f;
                    }
                    if (nk % 2) fine[nk - 1] = row[ck - 2] * 0.25f + row[ck - 1] * 0.75f;
                    continue;
                }
                for (Index k = 0; k < nk; ++k) {
                    const Corner &at = along_k[k];
                    fine[k] = row[at.low] * (1 - at.weight) + row[at.high] * at.weight;
                }
            }
}

// out(x) = D(x + u(x)) for channels-last descriptors, of which there is a multiple of 16 channels, the border repeated.
void warp_descriptor(Index begin, Index end, Array<const float, 4> descriptor, Array<const float, 4> disp,
                     Array<float, 4> out) {
    const Index nj = descriptor.shape[1], nk = descriptor.shape[2], channels = descriptor.shape[3];
    const Neighbours near(descriptor);
    RowOfCells cells(nk);
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j) {
            cells.find(i, j, disp, descriptor.shape);
            for (Index k = 0; k < nk; ++k) {
                const float *from = cells.first(descriptor, k);
                float *to = out.at(i, j, k);
                for (Index c = 0; c < channels; c += LANES)
                    store(to + c, cells.read(k, near, [&](Index corner) { return load(from + corner + c); }));
            }
        }
}

}  // namespace

void define_fields(nb::module_ &module) {
    define(module, "interleave", interleave);
    define(module, "compose", compose);
    define(module, "upsample", upsample);
    define(module, "warp_descriptor", warp_descriptor);
}
