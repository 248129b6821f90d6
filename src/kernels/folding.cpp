// The volume that a map turns inside out; the readable twin is in anamorph/evaluation/metrics/jacobian.py.
#include "array.h"

namespace {

// Six times the volume of the tetrahedra that are turned inside out, in the cells between voxels that begin in a slab. A row
// of `tetrahedra` (T, 4) names corners of a cell; corner n lies at (n >> 2, n >> 1 & 1, n & 1).
double folded_volume(Index begin, Index end, Array<const float, 4> disp, Array<const std::int64_t, 2> tetrahedra) {
    const Index nj = disp.shape[2], nk = disp.shape[3];
    double total = 0;
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j + 1 < nj; ++j)
            for (Index t = 0; t < tetrahedra.shape[0]; ++t) {
                // Rows of the displacements at the four corners, and at rest the edges from the first corner to the others.
                const float *row[4][3];
                float rest[4][3];
                for (int n = 0; n < 4; ++n) {
                    const auto corner = tetrahedra(t, n), origin = tetrahedra(t, 0);
                    for (int axis = 0; axis < 3; ++axis) {
                        row[n][axis] = disp.at(axis, i + (corner >> 2), j + (corner >> 1 & 1)) + (corner & 1);
                        rest[n][axis] = float((corner >> (2 - axis) & 1) - (origin >> (2 - axis) & 1));
                    }
                }
                float folded = 0;
                for (Index k = 0; k + 1 < nk; ++k) {
                    float edge[3][3];
                    for (int n = 0; n < 3; ++n)
                        for (int axis = 0; axis < 3; ++axis)
                            edge[n][axis] = rest[n + 1][axis] + (row[n + 1][axis][k] - row[0][axis][k]);
                    const auto &[a, b, c] = edge;
                    const float volume = a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) +
                                         a[2] * (b[0] * c[1] - b[1] * c[0]);
                    folded -= volume < 0 ? volume : 0;
                }
                total += folded;
            }
    return total;
}

}  // namespace

void define_folding(nb::module_ &module) { define(module, "folded_volume", folded_volume); }
