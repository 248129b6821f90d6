// Where the labels of a map are; the readable twin is `_planes_numpy` in anamorph/evaluation/label_regions.py.
#include <algorithm>

#include "array.h"

namespace {

// Of labels (I, J, K) between 0 and N - 1, for each plane of the first axis, how often every one occurs, `counts` (I, N), and
// the first and last row and column of each, `ends` (I, N, 4); where it does not occur, the last are -1.
template <typename T>
void label_planes(Index begin, Index end, Array<const T, 3> labels, Array<std::int64_t, 2> counts, Array<std::int64_t, 3> ends) {
    const Index nj = labels.shape[1], nk = labels.shape[2], names = counts.shape[1];
    for (Index i = begin; i < end; ++i) {
        std::fill_n(counts.at(i), names, 0);
        for (Index name = 0; name < names; ++name) {
            std::int64_t *box = ends.at(i, name);
            box[0] = nj, box[1] = -1, box[2] = nk, box[3] = -1;
        }
        for (Index j = 0; j < nj; ++j) {
            const T *row = labels.at(i, j);
            for (Index first = 0, k = 0; first < nk; first = k) {  // runs of one label
                const T label = row[first];
                while (k < nk && row[k] == label) ++k;
                std::int64_t *box = ends.at(i, Index(label));
                counts(i, Index(label)) += k - first;
                box[0] = std::min<std::int64_t>(box[0], j), box[1] = j;
                box[2] = std::min<std::int64_t>(box[2], first), box[3] = std::max<std::int64_t>(box[3], k - 1);
            }
        }
    }
}

}  // namespace

void define_labels(nb::module_ &module) {
    for_each_label([&](auto label) { define(module, "label_planes", label_planes<decltype(label)>); });
}
