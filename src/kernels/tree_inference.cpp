// Belief propagation on a tree of cells; the readable twins are in anamorph/discrete/tree_inference.py.
//
// Labels lie on a grid of `size`, the last axis fastest; `weight` is the length of a step of one label.
#include <algorithm>
#include <limits>
#include <vector>

#include "array.h"

namespace {

using Vector = std::array<float, 3>;
using Places = Array<const std::int64_t, 1>;
constexpr float Infinity = std::numeric_limits<float>::infinity();

// target[m, a] = min over b of source[b, m] + (weight * (a - b) + offset)^2, the axis going from first to last.
void convolve_axis(const float *source, Index labels, Index rest, float weight, float offset, float *__restrict row,
                   float *__restrict target) {
    constexpr Index Together = 4;
    for (Index a = 0; a < labels; ++a) {
        std::fill_n(row, rest, Infinity);
        for (Index b = 0; b < labels; b += Together) {
            const float *s[Together];
            float price[Together];
            for (Index n = 0; n < Together; ++n) {
                // Beyond the last label it is compared again, which changes no minimum.
                const Index other = std::min(b + n, labels - 1);
                const float way = weight * float(a - other) + offset;
                s[n] = source + other * rest;
                price[n] = way * way;
            }
            for (Index m = 0; m < rest; ++m) {
                const float low = std::min(s[0][m] + price[0], s[1][m] + price[1]);
                const float high = std::min(s[2][m] + price[2], s[3][m] + price[3]);
                row[m] = std::min(row[m], std::min(low, high));
            }
        }
        for (Index m = 0; m < rest; ++m) target[m * labels + a] = row[m];
    }
}

// out[a] = min over b of costs[b] + ||weight * (a - b) + offset||^2.
class MinConvolution {
  public:
    MinConvolution(Triple size, Vector weight) : size(size), weight(weight), scratch(labels()), row(labels()) {}

    Index labels() const { return size[0] * size[1] * size[2]; }

    // Each pass turns the axes by one, so that all three run over long contiguous rows.
    void operator()(const float *costs, Vector offset, float *out) {
        const auto [ni, nj, nk] = size;
        convolve_axis(costs, ni, nj * nk, weight[0], offset[0], row.data(), out);
        convolve_axis(out, nj, nk * ni, weight[1], offset[1], row.data(), scratch.data());
        convolve_axis(scratch.data(), nk, ni * nj, weight[2], offset[2], row.data(), out);
    }

  private:
    Triple size;
    Vector weight;
    std::vector<float> scratch, row;
};

// For every row of costs (N, labels) with offsets (N, 3).
void min_convolve(Index begin, Index end, Array<const float, 2> costs, Triple size, Vector weight,
                  Array<const float, 2> offset, Array<float, 2> out) {
    MinConvolution convolve(size, weight);
    for (Index n = begin; n < end; ++n) convolve(costs.at(n), {offset(n, 0), offset(n, 1), offset(n, 2)}, out.at(n));
}

// Add to the costs of the parents of one depth, whose places begin at `depth`, what their children will pay. In place; a
// child's costs, in which its own children are by then, are multiplied by its similarity.
void collect(Index begin, Index end, Index depth, Array<float, 2> costs, Places cells, Places first_child,
             Array<const float, 1> similarity, Triple size, Vector weight, Array<const float, 2> start) {
    MinConvolution convolve(size, weight);
    const Index labels = convolve.labels();
    std::vector<float> message(labels);
    // Parents are worked on at once: each gathers its own children, so nothing is added from two sides.
    for (Index p = depth + begin; p < depth + end; ++p) {
        float *__restrict parent = costs.at(cells(p));
        for (Index q = first_child(p); q < first_child(p + 1); ++q) {
            float *__restrict child = costs.at(cells(q));
            for (Index n = 0; n < labels; ++n) child[n] *= similarity(q);
            Vector offset;
            for (int axis = 0; axis < 3; ++axis) offset[axis] = start(axis, cells(p)) - start(axis, cells(q));
            convolve(child, offset, message.data());
            const float *__restrict paid = message.data();
            float least = Infinity;
            for (Index n = 0; n < labels; ++n) least = std::min(least, paid[n]);
            for (Index n = 0; n < labels; ++n) parent[n] += paid[n] - least;
        }
    }
}

// Give the cells of one depth, whose places begin at `depth`, the label that is best for that of their parent.
void distribute(Index begin, Index end, Index depth, Array<const float, 2> costs, Places cells, Places parents, Triple size,
                Vector weight, Array<const float, 2> start, Array<float, 2> out) {
    const auto [ni, nj, nk] = size;
    for (Index q = depth + begin; q < depth + end; ++q) {
        const Index here = cells(q), above = cells(parents(q));
        Vector wanted;
        for (int axis = 0; axis < 3; ++axis)
            wanted[axis] = start(axis, above) - start(axis, here) + weight[axis] * out(axis, above);
        const float *cost = costs.at(here);
        float best = Infinity;
        Triple label{};
        for (Index i = -(ni / 2); i < ni - ni / 2; ++i) {
            const float di = wanted[0] - weight[0] * float(i);
            for (Index j = -(nj / 2); j < nj - nj / 2; ++j) {
                const float dj = wanted[1] - weight[1] * float(j);
                for (Index k = -(nk / 2); k < nk - nk / 2; ++k) {
                    const float dk = wanted[2] - weight[2] * float(k);
                    const float value = *cost++ + (di * di + dj * dj + dk * dk);
                    if (value < best) {
                        best = value;
                        label = {i, j, k};
                    }
                }
            }
        }
        for (int axis = 0; axis < 3; ++axis) out(axis, here) = float(label[axis]);
    }
}

}  // namespace

void define_tree_inference(nb::module_ &module) {
    define(module, "min_convolve", min_convolve);
    define(module, "collect", collect);
    define(module, "distribute", distribute);
}
