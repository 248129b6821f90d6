// Squared differences and expected values over displacements, and what OBELISK looks at. The readable twins are in
// anamorph/discrete/correlation.py and anamorph/networks/obelisk.py.
//
// A volume (I, J, K, C) is read between its voxels, its border repeated; points and displacements are (N, 3) voxels.
#include <vector>

#include "interpolation.h"

namespace {

using Volume = Array<const float, 4>;
using Points = Array<const float, 2>;

// The eight voxels around a point that is moved by a displacement.
ChannelsLastCell cell_at(const Volume &volume, const float *point, const float *displacement) {
    const Cell cell(point[0] + displacement[0], point[1] + displacement[1], point[2] + displacement[2], volume.shape[0],
                    volume.shape[1], volume.shape[2]);
    return {cell, volume.shape[1], volume.shape[2], volume.shape[3]};
}

// out[n, l] = ||here[n] - moving(centres[n] + displacements[l])||^2; `here` is (N, C).
void squared_differences(Index begin, Index end, Points here, Volume moving, Points centres, Points displacements,
                         Array<float, 2> out) {
    const Index channels = moving.shape[3];
    for (Index n = begin; n < end; ++n)
        for (Index label = 0; label < displacements.shape[0]; ++label) {
            const auto there = cell_at(moving, centres.at(n), displacements.at(label));
            const float *__restrict own = here.at(n);
            float total = 0;
            for (Index c = 0; c < channels; ++c) {
                const float difference = own[c] - there.read(moving.data, c);
                total += difference * difference;
            }
            out(n, label) = total;
        }
}

// Gradients of a sum of squared differences weighted by `gradients` (N, L): d_here (N, C) and d_moving (P, I, J, K, C), both
// zero before. The second is a sum over P parts: several points add to one voxel, so each part of the points has its own.
void squared_difference_gradients(Index begin, Index end, Points here, Volume moving, Points centres, Points displacements,
                                  Points gradients, Array<float, 2> d_here, Array<float, 5> d_moving) {
    const Index channels = moving.shape[3], points = centres.shape[0], parts = d_moving.shape[0];
    std::vector<float> slopes(channels);
    for (Index part = begin; part < end; ++part)
        for (Index n = part * points / parts; n < (part + 1) * points / parts; ++n)
            for (Index label = 0; label < displacements.shape[0]; ++label) {
                const auto there = cell_at(moving, centres.at(n), displacements.at(label));
                const float *__restrict own = here.at(n);
                float *__restrict d_own = d_here.at(n), *__restrict slope = slopes.data();
                const float twice = 2 * gradients(n, label);
                for (Index c = 0; c < channels; ++c) {
                    slope[c] = twice * (there.read(moving.data, c) - own[c]);
                    d_own[c] -= slope[c];
                }
                there.add(d_moving.at(part), slope, channels);
            }
}

// out[n] = the sum over l of probabilities[n, l] volume(points[n] + labels[l]).
void expected_values(Index begin, Index end, Volume volume, Points probabilities, Points points, Points labels,
                     Array<float, 2> out) {
    const Index channels = volume.shape[3];
    for (Index n = begin; n < end; ++n) {
        float *__restrict mean = out.at(n);
        std::fill_n(mean, channels, 0.f);
        for (Index label = 0; label < labels.shape[0]; ++label) {
            const auto there = cell_at(volume, points.at(n), labels.at(label));
            const float share = probabilities(n, label);
            for (Index c = 0; c < channels; ++c) mean[c] += share * there.read(volume.data, c);
        }
    }
}

// out[n, l] = the inner product of gradients[n] and volume(points[n] + labels[l]).
void probability_gradients(Index begin, Index end, Volume volume, Points gradients, Points points, Points labels,
                           Array<float, 2> out) {
    const Index channels = volume.shape[3];
    for (Index n = begin; n < end; ++n)
        for (Index label = 0; label < labels.shape[0]; ++label) {
            const auto there = cell_at(volume, points.at(n), labels.at(label));
            const float *__restrict gradient = gradients.at(n);
            float total = 0;
            for (Index c = 0; c < channels; ++c) total += gradient[c] * there.read(volume.data, c);
            out(n, label) = total;
        }
}

// out[:, m, p] = volume(places[p] + here[m]) - volume(places[p] + there[m]).
void far_differences(Index begin, Index end, Volume volume, Points places, Points here, Points there, Array<float, 3> out) {
    const Index channels = volume.shape[3];
    for (Index m = begin; m < end; ++m)
        for (Index p = 0; p < places.shape[0]; ++p) {
            const auto one = cell_at(volume, places.at(p), here.at(m)), other = cell_at(volume, places.at(p), there.at(m));
            for (Index c = 0; c < channels; ++c) out(c, m, p) = one.read(volume.data, c) - other.read(volume.data, c);
        }
}

}  // namespace

void define_correlation(nb::module_ &module) {
    define(module, "squared_differences", squared_differences);
    define(module, "squared_difference_gradients", squared_difference_gradients);
    define(module, "expected_values", expected_values);
    define(module, "probability_gradients", probability_gradients);
    define(module, "far_differences", far_differences);
}
