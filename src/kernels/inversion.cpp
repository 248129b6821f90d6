// The inverse of a displacement field by Newton's method; `invert_by_fixed_point` in anamorph/transforms/inversion.py is the
// readable twin.
#include <limits>

#include "interpolation.h"

namespace {

using Vector = std::array<float, 3>;
using Matrix = Array<const float, 2>;
constexpr int Evaluations = 40;
constexpr float LongestStepVox = 8, SmallestDeterminant = 0.05f;

// Rows that are worked on side by side: each continues from its last voxel, so that along a row nothing can be.
constexpr int Rows = 8;
// So often are they moved together before each is solved by itself.
constexpr int Steps = 3;

// A place z, where the map takes it, and the derivative of the map.
struct Place {
    Vector z, phi;
    float jac[3][3];
};

// The same for every row of a batch.
struct Places {
    float z[3][Rows], phi[3][Rows], jac[3][3][Rows];

    Place get(int row) const {
        Place one;
        for (int a = 0; a < 3; ++a) {
            one.z[a] = z[a][row];
            one.phi[a] = phi[a][row];
            for (int b = 0; b < 3; ++b) one.jac[a][b] = jac[a][b][row];
        }
        return one;
    }

    void set(int row, const Place &one) {
        for (int a = 0; a < 3; ++a) {
            z[a][row] = one.z[a];
            phi[a][row] = one.phi[a];
            for (int b = 0; b < 3; ++b) jac[a][b][row] = one.jac[a][b];
        }
    }
};

// One row of a matrix (3 or 4, 4) applied to a point.
inline Vector apply(const float *matrix, float x, float y, float z) {
    Vector out;
    for (int a = 0; a < 3; ++a) out[a] = matrix[4 * a] * x + matrix[4 * a + 1] * y + matrix[4 * a + 2] * z + matrix[4 * a + 3];
    return out;
}

struct ValueAndSlopes {
    float value, along_i, along_j, along_k;
};

// The trilinear function of eight values; plain numbers, because loops over arrays of them do not become vectors.
inline ValueAndSlopes interpolate(float v000, float v001, float v010, float v011, float v100, float v101, float v110,
                                  float v111, float wi, float wj, float wk) {
    const float da = v001 - v000, db = v011 - v010, dd = v101 - v100, de = v111 - v110;
    const float a = v000 + da * wk, b = v010 + db * wk, d = v100 + dd * wk, e = v110 + de * wk;
    const float below = a + (b - a) * wj, above = d + (e - d) * wj;
    const float dk_below = da + (db - da) * wj, dk_above = dd + (de - dd) * wj;
    return {below + (above - below) * wi, above - below, (b - a) + ((e - d) - (b - a)) * wi,
            dk_below + (dk_above - dk_below) * wi};
}

// phi = z + u(z) and its derivative; outside the field u is constant along the axis left.
class Map {
  public:
    explicit Map(Array<const float, 4> u)
        : data(u.data), shape{std::int32_t(u.shape[1]), std::int32_t(u.shape[2]), std::int32_t(u.shape[3])} {
        const Index nj = u.shape[2], nk = u.shape[3];
        for (int n = 0; n < 8; ++n)
            around[n] = (n & 4 && shape[0] > 1 ? nj * nk : 0) + (n & 2 && shape[1] > 1 ? nk : 0) + (n & 1 && shape[2] > 1);
    }

    void read(Place &at) const {
        const CornerAt<std::int32_t> i(at.z[0], shape[0]), j(at.z[1], shape[1]), k(at.z[2], shape[2]);
        const float *component = data + first(i.low, j.low, k.low);
        for (int c = 0; c < 3; ++c, component += voxels()) {
            const float *v[8];
            for (int n = 0; n < 8; ++n) v[n] = component + around[n];
            const auto u = interpolate(*v[0], *v[1], *v[2], *v[3], *v[4], *v[5], *v[6], *v[7], i.weight, j.weight, k.weight);
            at.phi[c] = at.z[c] + u.value;
            at.jac[c][0] = u.along_i * inside(at.z[0], 0);
            at.jac[c][1] = u.along_j * inside(at.z[1], 1);
            at.jac[c][2] = u.along_k * inside(at.z[2], 2);
            at.jac[c][c] += 1;
        }
    }

    // The same in loops over all rows, which become vectors.
    void read(Places &rows) const {
        std::int32_t low[3][Rows];
        float weight[3][Rows], kept[3][Rows];
        for (int a = 0; a < 3; ++a)
            for (int n = 0; n < Rows; ++n) {
                const CornerAt<std::int32_t> corner(rows.z[a][n], shape[a]);
                low[a][n] = corner.low;
                weight[a][n] = corner.weight;
                kept[a][n] = inside(rows.z[a][n], a);
            }
        float v[3][8][Rows];
        for (int row = 0; row < Rows; ++row) {
            const float *component = data + first(low[0][row], low[1][row], low[2][row]);
            for (int c = 0; c < 3; ++c, component += voxels())
                for (int n = 0; n < 8; ++n) v[c][n][row] = component[around[n]];
        }
        for (int c = 0; c < 3; ++c) {
            for (int n = 0; n < Rows; ++n) {
                const auto u = interpolate(v[c][0][n], v[c][1][n], v[c][2][n], v[c][3][n], v[c][4][n], v[c][5][n], v[c][6][n],
                                           v[c][7][n], weight[0][n], weight[1][n], weight[2][n]);
                rows.phi[c][n] = rows.z[c][n] + u.value;
                rows.jac[c][0][n] = u.along_i * kept[0][n];
                rows.jac[c][1][n] = u.along_j * kept[1][n];
                rows.jac[c][2][n] = u.along_k * kept[2][n];
            }
            for (float &slope : rows.jac[c][c]) slope += 1;
        }
    }

  private:
    Index voxels() const { return Index(shape[0]) * shape[1] * shape[2]; }
    Index first(Index i, Index j, Index k) const { return (i * shape[1] + j) * shape[2] + k; }
    float inside(float x, int axis) const { return (x >= 0) & (x <= float(shape[axis] - 1)) ? 1.f : 0.f; }

    const float *data;
    std::int32_t shape[3];
    Index around[8];
};

// Solve jac step = r, cut to a sane length; near a fold step along r instead.
inline Vector newton_step(const float (&m)[3][3], const Vector &r) {
    const float c00 = m[1][1] * m[2][2] - m[1][2] * m[2][1];
    const float c01 = m[1][2] * m[2][0] - m[1][0] * m[2][2];
    const float c02 = m[1][0] * m[2][1] - m[1][1] * m[2][0];
    const float c10 = m[0][2] * m[2][1] - m[0][1] * m[2][2];
    const float c11 = m[0][0] * m[2][2] - m[0][2] * m[2][0];
    const float c12 = m[0][1] * m[2][0] - m[0][0] * m[2][1];
    const float c20 = m[0][1] * m[1][2] - m[0][2] * m[1][1];
    const float c21 = m[0][2] * m[1][0] - m[0][0] * m[1][2];
    const float c22 = m[0][0] * m[1][1] - m[0][1] * m[1][0];
    const float det = m[0][0] * c00 + m[0][1] * c01 + m[0][2] * c02;
    const bool folds = det < SmallestDeterminant;
    const float scale = 1 / (folds ? 1.f : det);
    const Vector newton = {(c00 * r[0] + c10 * r[1] + c20 * r[2]) * scale, (c01 * r[0] + c11 * r[1] + c21 * r[2]) * scale,
                           (c02 * r[0] + c12 * r[1] + c22 * r[2]) * scale};
    const float longest = std::max(std::max(std::abs(newton[0]), std::abs(newton[1])), std::abs(newton[2]));
    const float kept = longest > LongestStepVox ? LongestStepVox / longest : 1.f;
    Vector step;
    for (int a = 0; a < 3; ++a) step[a] = folds ? 0.5f * r[a] : newton[a] * kept;
    return step;
}

inline Vector minus(const Vector &a, const Vector &b) { return {a[0] - b[0], a[1] - b[1], a[2] - b[2]}; }

// The length of a mismatch in mm, squared.
inline float square_mm(const float *to_mm, const Vector &r) {
    float total = 0;
    for (int a = 0; a < 3; ++a) {
        const float one = to_mm[3 * a] * r[0] + to_mm[3 * a + 1] * r[1] + to_mm[3 * a + 2] * r[2];
        total += one * one;
    }
    return total;
}

class Solver {
  public:
    Solver(const Map &map, const float *start, const float *to_mm, float limit)
        : map(map), start(start), to_mm(to_mm), limit(limit) {}

    // One step of the rows that are not at w yet; then their squared errors.
    void step_together(const float (&w)[3][Rows], Places &rows, float (&errors)[Rows]) const {
        for (int n = 0; n < Rows; ++n) {
            const Vector r = {w[0][n] - rows.phi[0][n], w[1][n] - rows.phi[1][n], w[2][n] - rows.phi[2][n]};
            const float jac[3][3] = {{rows.jac[0][0][n], rows.jac[0][1][n], rows.jac[0][2][n]},
                                     {rows.jac[1][0][n], rows.jac[1][1][n], rows.jac[1][2][n]},
                                     {rows.jac[2][0][n], rows.jac[2][1][n], rows.jac[2][2][n]}};
            const Vector step = newton_step(jac, r);
            const float needed = square_mm(to_mm, r) > limit ? 1.f : 0.f;
            for (int a = 0; a < 3; ++a) rows.z[a][n] += needed * step[a];
        }
        map.read(rows);
        for (int n = 0; n < Rows; ++n)
            errors[n] = square_mm(to_mm, {w[0][n] - rows.phi[0][n], w[1][n] - rows.phi[1][n], w[2][n] - rows.phi[2][n]});
    }

    // Solve for one voxel `at` (i, j, k) from where its row is, if that is a solution; if that fails or there is none, from
    // the first guess. Returns the squared error of the best place found.
    float solve(const Vector &at, const Vector &w, bool continues, Place &here, Vector &solution) const {
        float lowest = std::numeric_limits<float>::infinity();
        solution = apply(start, at[0], at[1], at[2]);
        if (!continues || !descend(w, here, lowest, solution)) {
            guess(at, here);
            if (!descend(w, here, lowest, solution)) climb(at, w, here, lowest, solution);
        }
        return lowest;
    }

  private:
    void guess(const Vector &at, Place &here) const {
        here.z = apply(start, at[0], at[1], at[2]);
        map.read(here);
    }

    // Newton's method with backtracking; whether it ended at a solution.
    bool descend(const Vector &w, Place &here, float &lowest, Vector &solution) const {
        Vector r = minus(w, here.phi), best = here.z, step{};
        float error = square_mm(to_mm, r);
        bool better = true;
        for (int n = 0; n < Evaluations && !(error <= limit); ++n) {
            if (better)
                step = newton_step(here.jac, r);
            else
                for (float &one : step) one *= 0.5f;
            for (int a = 0; a < 3; ++a) here.z[a] = best[a] + step[a];
            map.read(here);
            r = minus(w, here.phi);
            const float trial = square_mm(to_mm, r);
            better = trial < error;
            if (better) {
                error = trial;
                best = here.z;
            }
        }
        if (error < lowest) {
            lowest = error;
            solution = best;
        }
        return error <= limit;
    }

    // Near a fold Newton stalls in a local minimum; steps along the mismatch may climb out of it.
    void climb(const Vector &at, const Vector &w, Place &here, float &lowest, Vector &solution) const {
        guess(at, here);
        for (int n = 0; n < Evaluations; ++n) {
            const Vector r = minus(w, here.phi);
            const float error = square_mm(to_mm, r);
            if (error < lowest) {
                lowest = error;
                solution = here.z;
            }
            for (int a = 0; a < 3; ++a) here.z[a] += 0.5f * r[a];
            map.read(here);
        }
    }

    const Map &map;
    const float *start, *to_mm;
    float limit;
};

// Solve z + u(z) = to_target y for every voxel y of the output by Newton's method with backtracking.
//
// Along a row each voxel continues from its neighbour's solution and derivative, so that one or two evaluations do.
// `start` (4, 4) gives the first guess from y, `from_solution` (4, 4) takes z to the output's voxels.
void invert_displacement(Index begin, Index end, Array<const float, 4> disp_vox, Matrix to_target, Matrix start,
                         Matrix from_solution, Matrix to_mm, float tolerance_mm, Array<float, 4> out,
                         Array<float, 3> residual_mm) {
    const Index nj = out.shape[2], nk = out.shape[3];
    const Map map(disp_vox);
    const float limit = tolerance_mm * tolerance_mm;
    const Solver solver(map, start.data, to_mm.data, limit);
    for (Index first = begin; first < end; first += Rows) {
        Places rows{};
        bool solved[Rows] = {};
        for (Index k = 0; k < nk; ++k) {
            float w[3][Rows], errors[Rows];
            // Where fewer rows are left, the last one is worked on several times.
            const auto row_of = [&](int n) { return std::min(first + n, end - 1); };
            for (int n = 0; n < Rows; ++n) {
                const Vector to = apply(to_target.data, float(row_of(n) / nj), float(row_of(n) % nj), float(k));
                for (int a = 0; a < 3; ++a) w[a][n] = to[a];
            }
            const Places before = rows;
            for (int step = 0; step < Steps; ++step) {
                solver.step_together(w, rows, errors);
                if (std::all_of(errors, errors + Rows, [&](float error) { return error <= limit; })) break;
            }
            for (int n = 0; n < Rows; ++n) {
                const Index i = row_of(n) / nj, j = row_of(n) % nj;
                Vector solution = {rows.z[0][n], rows.z[1][n], rows.z[2][n]};
                float error = errors[n];
                if (!solved[n] || !(error <= limit)) {
                    Place here = before.get(n);
                    error = solver.solve({float(i), float(j), float(k)}, {w[0][n], w[1][n], w[2][n]}, solved[n], here, solution);
                    solved[n] = error <= limit;
                    rows.set(n, here);
                }
                residual_mm(i, j, k) = std::sqrt(error);
                const Vector to = apply(from_solution.data, solution[0], solution[1], solution[2]);
                for (int a = 0; a < 3; ++a) out(a, i, j, k) = to[a];
            }
        }
    }
}

}  // namespace

void define_inversion(nb::module_ &module) { define(module, "invert_displacement", invert_displacement); }
