// Displacement fields in voxels of their grid; the readable twins are in anamorph/transforms/fields.py.
#include <vector>

#include "interpolation.h"

namespace {

// out = first + sign * second(x + first), the border of `second` repeated.
void compose(Index begin, Index end, Array<const float, 4> first, Array<const float, 4> second, float sign,
             Array<float, 4> out) {
    const Index nj = first.shape[2], nk = first.shape[3];
    const Index mi = second.shape[1], mj = second.shape[2], mk = second.shape[3];
    const float *from[3] = {second.at(0), second.at(1), second.at(2)};
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j) {
            const float *u0 = first.at(0, i, j), *u1 = first.at(1, i, j), *u2 = first.at(2, i, j);
            float *__restrict out0 = out.at(0, i, j), *__restrict out1 = out.at(1, i, j), *__restrict out2 = out.at(2, i, j);
            for (Index k = 0; k < nk; ++k) {
                const Cell cell(float(i) + u0[k], float(j) + u1[k], float(k) + u2[k], mi, mj, mk);
                out0[k] = u0[k] + sign * cell.read(from[0], mj, mk);
                out1[k] = u1[k] + sign * cell.read(from[1], mj, mk);
                out2[k] = u2[k] + sign * cell.read(from[2], mj, mk);
            }
        }
}

// Where the voxels of one axis lie between the centres of the cells.
std::vector<Corner> between_cells(Index voxels, Index cell, Index cells) {
    std::vector<Corner> corners;
    for (Index n = 0; n < voxels; ++n) corners.emplace_back((float(n) + 0.5f) / float(cell) - 0.5f, cells);
    return corners;
}

// A field on cells read at the voxels of the cells, trilinear between cell centres, in voxels of the fine grid.
void upsample(Index begin, Index end, Array<const float, 4> field, Triple cell, Array<float, 4> out) {
    const Index nj = out.shape[2], nk = out.shape[3], ck = field.shape[3];
    const auto along_i = between_cells(out.shape[1], cell[0], field.shape[1]);
    const auto along_j = between_cells(nj, cell[1], field.shape[2]);
    const auto along_k = between_cells(nk, cell[2], ck);
    // Four rows of cells become one, which all voxels of a row share.
    std::vector<float> blended(ck);
    float *__restrict row = blended.data();
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j)
            for (int c = 0; c < 3; ++c) {
                const Corner at_i = along_i[i], at_j = along_j[j];
                const float *a = field.at(c, at_i.low, at_j.low), *b = field.at(c, at_i.low, at_j.high);
                const float *d = field.at(c, at_i.high, at_j.low), *e = field.at(c, at_i.high, at_j.high);
                const float wi = at_i.weight, wj = at_j.weight, scale = float(cell[c]);
                for (Index k = 0; k < ck; ++k)
                    row[k] = ((a[k] * (1 - wj) + b[k] * wj) * (1 - wi) + (d[k] * (1 - wj) + e[k] * wj) * wi) * scale;
                float *__restrict fine = out.at(c, i, j);
                for (Index k = 0; k < nk; ++k) {
                    const Corner &at = along_k[k];
                    fine[k] = row[at.low] * (1 - at.weight) + row[at.high] * at.weight;
                }
            }
}

// out(x) = D(x + u(x)) for channels-last descriptors, the border repeated.
void warp_descriptor(Index begin, Index end, Array<const float, 4> descriptor, Array<const float, 4> disp,
                     Array<float, 4> out) {
    const Index ni = descriptor.shape[0], nj = descriptor.shape[1], nk = descriptor.shape[2];
    const Index channels = descriptor.shape[3];
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j) {
            const float *u[3] = {disp.at(0, i, j), disp.at(1, i, j), disp.at(2, i, j)};
            for (Index k = 0; k < nk; ++k) {
                const Cell cell(float(i) + u[0][k], float(j) + u[1][k], float(k) + u[2][k], ni, nj, nk);
                cell.read_channels(descriptor, out.at(i, j, k));
            }
        }
}

}  // namespace

void define_fields(nb::module_ &module) {
    define(module, "compose", compose);
    define(module, "upsample", upsample);
    define(module, "warp_descriptor", warp_descriptor);
}
