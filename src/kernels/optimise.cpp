// The optimisers, their data terms and diffusion; the readable twins are in anamorph/optimise.
#include <cmath>
#include <vector>

#include "interpolation.h"
#include "lanes.h"

namespace {

// One step of Adam (Kingma and Ba 2015, default decay) in place, on flat arrays.
void adam_step(Index begin, Index end, Array<float, 1> parameters, Array<const float, 1> gradient, Array<float, 1> first,
               Array<float, 1> second, int step, float rate) {
    const float first_scale = float(1 / (1 - std::pow(0.9, step))), second_scale = float(1 / (1 - std::pow(0.999, step)));
    float *__restrict moved = parameters.data, *__restrict mean = first.data, *__restrict square = second.data;
    const float *__restrict slope = gradient.data;
    for (Index n = begin; n < end; ++n) {
        const float g = slope[n];
        mean[n] = 0.9f * mean[n] + (1 - 0.9f) * g;
        square[n] = 0.999f * square[n] + (1 - 0.999f) * g * g;
        moved[n] -= rate * (mean[n] * first_scale) / (std::sqrt(square[n] * second_scale) + 1e-12f);
    }
}

// How a channels-last volume differs from what is wanted at a place between its voxels, and the slopes along i, j and k;
// several channels side by side (Lanes), or one (float).
template <typename Values>
struct Mismatch {
    Values cost{}, along_i{}, along_j{}, along_k{};

    static Values take(const float *from) {
        Values values;
        std::memcpy(&values, from, sizeof values);
        return values;
    }

    // The lower corner's channels, where they are in the next voxels along i, j and k, and the weights of those.
    void add(const float *corner, Index si, Index sj, Index sk, float wi, float wj, float wk, const float *wanted) {
        const Values a00 = take(corner), a01 = take(corner + sj), a10 = take(corner + si), a11 = take(corner + si + sj);
        const Values k00 = take(corner + sk) - a00, k01 = take(corner + sj + sk) - a01;
        const Values k10 = take(corner + si + sk) - a10, k11 = take(corner + si + sj + sk) - a11;
        const Values b00 = a00 + wk * k00, b01 = a01 + wk * k01, b10 = a10 + wk * k10, b11 = a11 + wk * k11;
        const Values j0 = b01 - b00, j1 = b11 - b10;
        const Values c0 = b00 + wj * j0, c1 = b10 + wj * j1;
        const Values i = c1 - c0;
        const Values difference = c0 + wi * i - take(wanted);
        const Values k0 = k00 + wj * (k01 - k00), k1 = k10 + wj * (k11 - k10);
        cost += difference * difference;
        along_i += difference * i;
        along_j += difference * (j0 + wi * (j1 - j0));
        along_k += difference * (k0 + wi * (k1 - k0));
    }
};

constexpr Index AHEAD = 8;

// Sum of weight * ||F(p) - M(p + u)||^2 over planes, and its gradient with respect to u, in one pass over channels, of
// which there is a multiple of 16: so many, if that is known when this is compiled, which saves the loop, or any (0). The border
// of M is repeated, without a gradient there.
template <Index CHANNELS>
double data_term_of(Index begin, Index end, Array<const float, 4> fixed, Array<const float, 3> weight,
                    Array<const float, 4> moving, Array<const float, 4> disp, Array<float, 4> gradient) {
    const Index ni = fixed.shape[0], nj = fixed.shape[1], nk = fixed.shape[2], channels = CHANNELS ? CHANNELS : fixed.shape[3];
    const Index si = ni > 1 ? nj * nk * channels : 0, sj = nj > 1 ? nk * channels : 0, sk = nk > 1 ? channels : 0;
    std::vector<int> low(3 * nk);
    std::vector<float> upper(3 * nk);
    double total = 0;
    for (Index i = begin; i < end; ++i)
        for (Index j = 0; j < nj; ++j) {
            const float *w = weight.at(i, j);
            float *slope[3];
            for (int axis = 0; axis < 3; ++axis) {
                const float first = axis == 0 ? float(i) : axis == 1 ? float(j) : 0.f;
                slope[axis] = gradient.at(axis, i, j);
                float *__restrict factor = slope[axis];
                // Twice the voxel's weight where the coordinate is inside, as only there the slope counts.
                corners(nk, first, axis == 2 ? 1.f : 0.f, int(fixed.shape[axis]), disp.at(axis, i, j), &low[axis * nk],
                        &upper[axis * nk], [&](int k, bool inside) { factor[k] = inside ? 2 * w[k] : 0.f; });
            }
            Lanes cost{};
            for (Index k = 0; k < nk; ++k) {
                if (w[k] == 0) {
                    for (float *out : slope) out[k] = 0;
                    continue;
                }
                // The channels of a voxel further on are on their way while those of this one are compared.
                const Index next = std::min(k + AHEAD, nk - 1);
                const float *later = moving.at(low[next], low[nk + next], low[2 * nk + next]) + sk;
                for (const Index corner : {Index(0), sj, si, si + sj}) prefetch(later + corner);
                const float *from = moving.at(low[k], low[nk + k], low[2 * nk + k]), *wanted = fixed.at(i, j, k);
                Mismatch<Lanes> here;
                for (Index n = 0; n < channels; n += LANES)
                    here.add(from + n, si, sj, sk, upper[k], upper[nk + k], upper[2 * nk + k], wanted + n);
                cost += w[k] * here.cost;
                slope[0][k] *= sum(here.along_i);
                slope[1][k] *= sum(here.along_j);
                slope[2][k] *= sum(here.along_k);
            }
            total += sum(cost);
        }
    return total;
}

double data_term(Index begin, Index end, Array<const float, 4> fixed, Array<const float, 3> weight,
                 Array<const float, 4> moving, Array<const float, 4> disp, Array<float, 4> gradient) {
    return (fixed.shape[3] == 16 ? data_term_of<16> : data_term_of<0>)(begin, end, fixed, weight, moving, disp, gradient);
}

// Squared differences of V(p) and what is wanted, summed over channels, and their gradient; outside nothing changes.
void point_data_term(Index begin, Index end, Array<const float, 2> wanted, Array<const float, 4> volume,
                     Array<const float, 2> positions, Array<float, 1> losses, Array<float, 2> gradient) {
    const Index ni = volume.shape[0], nj = volume.shape[1], nk = volume.shape[2], channels = volume.shape[3];
    const Index si = ni > 1 ? nj * nk * channels : 0, sj = nj > 1 ? nk * channels : 0, sk = nk > 1 ? channels : 0;
    for (Index p = begin; p < end; ++p) {
        const float x = positions(p, 0), y = positions(p, 1), z = positions(p, 2);
        const Cell at(x, y, z, ni, nj, nk);
        const float *from = volume.at(at.i.low, at.j.low, at.k.low);
        Mismatch<Lanes> several;
        Mismatch<float> one;
        Index n = 0;
        for (; n + LANES <= channels; n += LANES)
            several.add(from + n, si, sj, sk, at.i.weight, at.j.weight, at.k.weight, wanted.at(p) + n);
        for (; n < channels; ++n) one.add(from + n, si, sj, sk, at.i.weight, at.j.weight, at.k.weight, wanted.at(p) + n);
        losses(p) = sum(several.cost) + one.cost;
        gradient(p, 0) = 0 <= x && x <= float(ni - 1) ? 2 * (sum(several.along_i) + one.along_i) : 0.f;
        gradient(p, 1) = 0 <= y && y <= float(nj - 1) ? 2 * (sum(several.along_j) + one.along_j) : 0.f;
        gradient(p, 2) = 0 <= z && z <= float(nk - 1) ? 2 * (sum(several.along_k) + one.along_k) : 0.f;
    }
}

// Sum over planes of strength[c, a] * (forward difference of u_c along axis a)^2; its gradient is added. The factor of a
// difference is that of both voxels, from rows of factors like those of the field; 1 where nothing varies.
template <bool Varies>
double diffusion(Index begin, Index end, Array<const float, 4> disp, Array<const float, 2> strength, Array<float, 4> gradient,
                 const float *factors) {
    const Index ni = disp.shape[1], nj = disp.shape[2], nk = disp.shape[3];
    const auto row = [&](Index i, Index j) { return Varies ? factors + (i * nj + j) * nk : nullptr; };
    double total = 0;
    for (Index i = begin; i < end; ++i)
        for (Index c = 0; c < 3; ++c) {
            const float si = strength(c, 0), sj = strength(c, 1), sk = strength(c, 2);
            for (Index j = 0; j < nj; ++j) {
                // A border that repeats itself has no differences.
                const Index i0 = i > 0 ? i - 1 : i, i1 = i < ni - 1 ? i + 1 : i, j0 = j > 0 ? j - 1 : j, j1 = j < nj - 1 ? j + 1 : j;
                const float *here = disp.at(c, i, j), *above = disp.at(c, i0, j), *below = disp.at(c, i1, j);
                const float *left = disp.at(c, i, j0), *right = disp.at(c, i, j1);
                const float *own = row(i, j), *fa = row(i0, j), *fb = row(i1, j), *fl = row(i, j0), *fr = row(i, j1);
                float *__restrict slope = gradient.at(c, i, j);
                const auto add = [&](Index k, Index before, Index after) {
                    const float v = here[k], di = v - below[k], dj = v - right[k], dk = v - here[after];
                    const float ei = v - above[k], ej = v - left[k], ek = v - here[before];
                    if constexpr (Varies) {
                        const float f = own[k], wi = si * (f + fb[k]), wj = sj * (f + fr[k]), wk = sk * (f + own[after]);
                        slope[k] += wi * di + si * (f + fa[k]) * ei + wj * dj + sj * (f + fl[k]) * ej + wk * dk +
                                    sk * (f + own[before]) * ek;
                        return (wi * di * di + wj * dj * dj + wk * dk * dk) / 2;
                    }
                    slope[k] += 2 * (si * (di + ei) + sj * (dj + ej) + sk * (dk + ek));
                    return si * di * di + sj * dj * dj + sk * dk * dk;
                };
                float energy = add(0, 0, std::min<Index>(1, nk - 1));
                for (Index k = 1; k < nk - 1; ++k) energy += add(k, k - 1, k + 1);
                if (nk > 1) energy += add(nk - 1, nk - 2, nk - 1);
                total += energy;
            }
        }
    return total;
}

double add_diffusion(Index begin, Index end, Array<const float, 4> disp, Array<const float, 2> strength,
                     Array<float, 4> gradient) {
    return diffusion<false>(begin, end, disp, strength, gradient, nullptr);
}

double add_varying_diffusion(Index begin, Index end, Array<const float, 4> disp, Array<const float, 2> strength,
                             Array<float, 4> gradient, Array<const float, 3> stiffness) {
    return diffusion<true>(begin, end, disp, strength, gradient, stiffness.data);
}

}  // namespace

void define_optimise(nb::module_ &module) {
    define(module, "adam_step", adam_step);
    define(module, "data_term", data_term);
    define(module, "point_data_term", point_data_term);
    define(module, "add_diffusion", add_diffusion);
    define(module, "add_varying_diffusion", add_varying_diffusion);
}
