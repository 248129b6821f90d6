// Sums of radial functions of thin-plate splines; the readable twins are in anamorph/transforms/thin_plate.py.
//
// Sites are (N, 3). The radial function of a squared distance is -r where it is biharmonic, else r^2 log(r + 1e-6). Both are
// conditionally positive definite, so that smoothing adds to the diagonal.
#include <cmath>
#include <vector>

#include "array.h"

namespace {

using Points = Array<const double, 2>;

template <bool Biharmonic>
double radial(double square) {
    const double r = std::sqrt(square);
    return Biharmonic ? -r : square * std::log(r + 1e-6);
}

// One column of a table of points, so that many are read side by side.
std::vector<double> column(const Points &table, Index which) {
    std::vector<double> values(table.shape[0]);
    for (Index n = 0; n < table.shape[0]; ++n) values[n] = table(n, which);
    return values;
}

// The upper left (N, N) of `out`.
template <bool Biharmonic>
void fill_matrix(Index begin, Index end, Points sites, Array<double, 2> out) {
    const Index count = sites.shape[0];
    const auto xs = column(sites, 0), ys = column(sites, 1), zs = column(sites, 2);
    for (Index n = begin; n < end; ++n) {
        double *__restrict row = out.at(n);
        for (Index m = 0; m < count; ++m) {
            const double x = xs[n] - xs[m], y = ys[n] - ys[m], z = zs[n] - zs[m];
            row[m] = radial<Biharmonic>(x * x + y * y + z * z);
        }
    }
}

// out[p] = affine^T [1, x_p] + sum_n w_n U(|x_p - x_n|) for (P, 3) positions.
template <bool Biharmonic>
void evaluate(Index begin, Index end, Points positions, Points sites, Points weights, Points affine, Array<double, 2> out) {
    const Index count = sites.shape[0];
    const auto xs = column(sites, 0), ys = column(sites, 1), zs = column(sites, 2);
    const auto wa = column(weights, 0), wb = column(weights, 1), wc = column(weights, 2);
    for (Index p = begin; p < end; ++p) {
        const double px = positions(p, 0), py = positions(p, 1), pz = positions(p, 2);
        double a = 0, b = 0, c = 0;
        for (Index n = 0; n < count; ++n) {
            const double x = px - xs[n], y = py - ys[n], z = pz - zs[n];
            const double u = radial<Biharmonic>(x * x + y * y + z * z);
            a += wa[n] * u;
            b += wb[n] * u;
            c += wc[n] * u;
        }
        const double sums[3] = {a, b, c};
        for (Index n = 0; n < 3; ++n)
            out(p, n) = affine(0, n) + affine(1, n) * px + affine(2, n) * py + affine(3, n) * pz + sums[n];
    }
}

void spline_matrix(Index begin, Index end, Points sites, bool biharmonic, Array<double, 2> out) {
    (biharmonic ? fill_matrix<true> : fill_matrix<false>)(begin, end, sites, out);
}

void evaluate_spline(Index begin, Index end, Points positions, Points sites, Points weights, Points affine, bool biharmonic,
                     Array<double, 2> out) {
    (biharmonic ? evaluate<true> : evaluate<false>)(begin, end, positions, sites, weights, affine, out);
}

}  // namespace

void define_thin_plate(nb::module_ &module) {
    define(module, "spline_matrix", spline_matrix);
    define(module, "evaluate_spline", evaluate_spline);
}
