// MIND-SSC, whole and quantised; the readable twins are in anamorph/features/mind_ssc.py and quantised_mind_ssc.py.
//
// Planes of the first axis stream through two rings, one of box sums over a plane and one over all three axes, so that every
// box is summed once and only averages over cells, or codes, are written.
#include <algorithm>
#include <vector>

#include "array.h"
#include "averaging.h"
#include "lanes.h"

namespace {

using Table = Array<const std::int64_t, 2>;
constexpr int ENTRIES = 12;

// exp(-x) for x >= 0 to an absolute error of 1e-5: the eighth power of a polynomial fitted to exp(-x / 8).
Lanes exp_minus(const Lanes &x) {
    const Lanes y = lesser(0.125f * x, Lanes{} + 1.5f);
    const Lanes t = 1.f + y * (-0.9999973f + y * (0.49992335f + y * (-0.16604723f + y * (0.039698645f + y * -0.0056834097f))));
    const Lanes square = t * t, fourth = square * square;
    return fourth * fourth;
}

// A few planes of (rows, width) floats, of which the last ones asked for are kept.
struct Ring {
    Index planes, rows, width;
    std::vector<float> values;

    Ring(Index planes, Index rows, Index width) : planes(planes), rows(rows), width(width), values(planes * rows * width) {}
    float *row(Index plane, Index row) { return &values[(plane % planes * rows + row) * width]; }
};

// The sum of N rows.
template <std::size_t N>
void add_rows_of(const float *const *rows, Index count, float *__restrict out) {
    const float *row[N];
    std::copy_n(rows, N, row);
    for (Index k = 0; k < count; ++k) {
        float total = row[0][k];
        for (std::size_t n = 1; n < N; ++n) total += row[n][k];
        out[k] = total;
    }
}

// The sum of some rows, all at once if there are as many as is usual.
void add_rows(const std::vector<const float *> &rows, Index count, float *__restrict out) {
    if (rows.size() == 3) return add_rows_of<3>(rows.data(), count, out);
    if (rows.size() == 5) return add_rows_of<5>(rows.data(), count, out);
    std::copy_n(rows[0], count, out);
    for (std::size_t n = 1; n < rows.size(); ++n)
        for (Index k = 0; k < count; ++k) out[k] += rows[n][k];
}

// The squared differences of an image to itself, shifted; box sums over planes and over all axes. What lies outside repeats
// the border, or is 0.
class Boxes {
  public:
    Boxes(Array<const float, 3> image, const std::int64_t *shift, Triple radius, Index reach, Index margin,
          const std::vector<char> &needed, bool repeated)
        : image(image), shift(shift), radius(radius), margin(margin), needed(needed), repeated(repeated),
          flat(2 * radius[0] + 1, image.shape[1], image.shape[2]),
          boxes(2 * reach + 1, image.shape[1], image.shape[2] + 2 * margin + LANES),
          squared(image.shape[1] * image.shape[2]), columns(image.shape[2] + 2 * radius[2]) {}

    // Begin with a plane; those after it follow one by one.
    void start(Index plane) {
        next = plane;
        next_flat = std::max<Index>(plane - radius[0], 0);
    }

    // Make the sums of all planes up to this one.
    void advance(Index last) {
        for (; next <= last; ++next) {
            const Index end = std::min(next + radius[0], image.shape[0] - 1);
            for (; next_flat <= end; ++next_flat) sum_plane(next_flat);
            sum_planes(next);
        }
    }

    // A row of sums, of which `margin` more may be read to each side.
    const float *row(Index plane, Index j) { return boxes.row(plane, j) + margin; }

  private:
    void sum_plane(Index i) {
        const Index ni = image.shape[0], nj = image.shape[1], nk = image.shape[2], rj = radius[1], rk = radius[2], s = shift[2];
        const Index inner = std::clamp<Index>(-s, 0, nk), outer = std::max(inner, std::min(nk, nk - s));
        for (Index j = 0; j < nj; ++j) {
            const Index ii = std::clamp<Index>(i + shift[0], 0, ni - 1), jj = std::clamp<Index>(j + shift[1], 0, nj - 1);
            const float *__restrict here = image.at(i, j), *__restrict there = image.at(ii, jj);
            float *__restrict out = &squared[j * nk];
            if (!repeated && (ii != i + shift[0] || jj != j + shift[1])) {
                std::fill_n(out, nk, 0.f);
                continue;
            }
            const auto square = [&](Index k, Index other) {
                const float difference = here[k] - there[other];
                out[k] = difference * difference;
            };
            for (Index k = inner; k < outer; ++k) square(k, k + s);
            for (Index k = 0; k < inner; ++k) repeated ? square(k, 0) : void(out[k] = 0);
            for (Index k = outer; k < nk; ++k) repeated ? square(k, nk - 1) : void(out[k] = 0);
        }
        for (Index j = 0; j < nj; ++j) {
            if (!needed[j]) continue;
            float *column = &columns[rk];
            rows.clear();
            for (Index b = -rj; b <= rj; ++b)
                if (repeated || (j + b >= 0 && j + b < nj)) rows.push_back(&squared[std::clamp<Index>(j + b, 0, nj - 1) * nk]);
            add_rows(rows, nk, column);
            for (Index b = 0; b < rk; ++b) columns[b] = repeated ? column[0] : 0, column[nk + b] = repeated ? column[nk - 1] : 0;
            rows.clear();
            for (Index b = 0; b <= 2 * rk; ++b) rows.push_back(&columns[b]);
            add_rows(rows, nk, flat.row(i, j));
        }
    }

    void sum_planes(Index i) {
        const Index nk = image.shape[2];
        for (Index j = 0; j < image.shape[1]; ++j) {
            if (!needed[j]) continue;
            float *out = boxes.row(i, j) + margin;
            rows.clear();
            for (Index b = -radius[0]; b <= radius[0]; ++b)
                if (repeated || (i + b >= 0 && i + b < image.shape[0]))
                    rows.push_back(flat.row(std::clamp<Index>(i + b, 0, image.shape[0] - 1), j));
            add_rows(rows, nk, out);
            for (Index b = 0; b < margin; ++b) out[b - margin] = out[0], out[nk + b] = out[nk - 1];
        }
    }

    Array<const float, 3> image;
    const std::int64_t *shift;
    Triple radius;
    Index margin;
    const std::vector<char> &needed;
    bool repeated;
    Ring flat, boxes;
    std::vector<float> squared, columns;
    std::vector<const float *> rows;
    Index next = 0, next_flat = 0;
};

// Distances of LANES voxels in all entries, less the least of them; returns their mean.
Lanes compare(const float *const *rows, Index k, Lanes *entries) {
    for (int t = 0; t < ENTRIES; ++t) entries[t] = load(rows[t] + k);
    Lanes least = entries[0];
    for (int t = 1; t < ENTRIES; ++t) least = lesser(entries[t], least);
    Lanes total{};
    for (int t = 0; t < ENTRIES; ++t) total += entries[t] = entries[t] - least;
    return (1.f / ENTRIES) * total;
}

// Descriptor of an image averaged over cells, for rows of cells. `shifts` are those of the six differences; each entry reads
// one of them (`which`) at an offset. Without room in `out` only `variance` is computed: for each plane the sum of the
// variance estimates of every fourth row.
void mind_ssc(Index begin, Index end, Array<const float, 3> image, Table shifts, Triple radius,
              Array<const std::int64_t, 1> which, Table offsets, Triple pool, float floor, float ceiling,
              Array<float, 4> out, Array<double, 1> variance) {
    const Index ni = image.shape[0], nj = image.shape[1], nk = image.shape[2];
    const bool described = out.shape[0] > 0;
    Index reach = 0, margin = 0;
    // Every fourth row stands for all when the variance is estimated; it needs those around it at the entries' offsets.
    std::vector<char> needed(nj, described);
    for (int t = 0; t < ENTRIES; ++t) {
        reach = std::max<Index>(reach, std::abs(offsets(t, 0)));
        margin = std::max<Index>(margin, std::abs(offsets(t, 2)));
        for (Index j = 0; j < nj; j += 4) needed[std::clamp<Index>(j + offsets(t, 1), 0, nj - 1)] = true;
    }
    const Index low = begin * pool[0], high = std::min(end * pool[0], ni);
    std::vector<Boxes> boxes;
    for (Index n = 0; n < shifts.shape[0]; ++n) {
        boxes.emplace_back(image, shifts.at(n), radius, reach, margin, needed, true);
        boxes.back().start(std::max<Index>(low - reach, 0));
    }
    const Index width = (nk + LANES - 1) / LANES * LANES;
    Ring cells(1, described ? out.shape[1] * ENTRIES : 1, width);  // sums over the cells' first two axes
    std::vector<float> means(out.shape[2] * out.shape[3]);  // of a row of cells; those of channels beyond the entries stay 0
    for (Index i = low; i < high; ++i) {
        for (Boxes &one : boxes) one.advance(std::min(i + reach, ni - 1));
        double total = 0;
        for (Index j = 0; j < nj; j += described ? 1 : 4) {
            const float *rows[ENTRIES];
            for (int t = 0; t < ENTRIES; ++t)
                rows[t] = boxes[which(t)].row(std::clamp<Index>(i + offsets(t, 0), 0, ni - 1),
                                              std::clamp<Index>(j + offsets(t, 1), 0, nj - 1)) + offsets(t, 2);
            float *sums = cells.row(0, described ? j / pool[1] * ENTRIES : 0);
            for (Index k = 0; k < nk; k += LANES) {
                Lanes entries[ENTRIES];
                const Lanes mean = compare(rows, k, entries);
                if (!described) {
                    store(sums + k, mean);
                    continue;
                }
                const Lanes scale = 1.f / lesser(greater(mean, Lanes{} + floor), Lanes{} + ceiling);
                for (int t = 0; t < ENTRIES; ++t) {
                    float *sum = sums + t * width + k;
                    store(sum, load(sum) + exp_minus(entries[t] * scale));
                }
            }
            if (!described) {
                float in_row = 0;
                for (Index k = 0; k < nk; ++k) in_row += sums[k];
                total += in_row;
            }
        }
        if (!described) variance(i) = total;
        if (!described || ((i + 1) % pool[0] != 0 && i != ni - 1)) continue;
        const Index a = i / pool[0];
        for (Index b = 0; b < out.shape[1]; ++b) {
            const Index rows = (i - a * pool[0] + 1) * (std::min((b + 1) * pool[1], nj) - b * pool[1]);
            for (int t = 0; t < ENTRIES; ++t)
                average_cells(cells.row(0, b * ENTRIES + t), nk, pool[2], rows, &means[t * out.shape[2]], 1);
            transpose(means.data(), out.shape[2], out.shape[2], out.shape[3], out.at(a, b), out.shape[3]);
        }
        std::fill(cells.values.begin(), cells.values.end(), 0.f);
    }
}

// The 60-bit code of every voxel of some planes: which of twelve distances are below which multiples of their mean. What lies
// outside is 0; an entry that would start there is read at the voxel itself.
void quantised_mind_ssc(Index begin, Index end, Array<const float, 3> image, Triple step, Table shifts,
                        Array<const std::int64_t, 1> which, Table offsets, Array<const float, 1> thresholds,
                        Array<std::uint64_t, 3> out) {
    constexpr int LEVELS = 5;
    const Index ni = image.shape[0], nj = image.shape[1], nk = image.shape[2];
    const std::vector<char> needed(nj, true);
    std::vector<Boxes> boxes;
    for (Index n = 0; n < shifts.shape[0]; ++n) {
        boxes.emplace_back(image, shifts.at(n), step, step[0], 0, needed, false);
        boxes.back().start(std::max<Index>(begin - step[0], 0));
    }
    std::vector<float> entries(ENTRIES * nk), least(nk), bounds(LEVELS * nk);
    std::vector<std::uint32_t> codes(2 * nk);
    for (Index i = begin; i < end; ++i) {
        for (Boxes &one : boxes) one.advance(std::min(i + step[0], ni - 1));
        for (Index j = 0; j < nj; ++j) {
            for (int t = 0; t < ENTRIES; ++t) {
                const Index ii = i + offsets(t, 0), jj = j + offsets(t, 1), s = offsets(t, 2);
                const float *from = boxes[which(t)].row(ii < 0 || ii >= ni ? i : ii, jj < 0 || jj >= nj ? j : jj);
                const Index inner = std::clamp<Index>(-s, 0, nk), outer = std::max(inner, std::min(nk, nk - s));
                float *entry = &entries[t * nk];
                std::copy(from, from + inner, entry);
                std::copy(from + inner + s, from + outer + s, entry + inner);
                std::copy(from + outer, from + nk, entry + outer);
            }
            float *__restrict lowest = least.data(), *__restrict bound = bounds.data(), *__restrict all = entries.data();
            for (Index k = 0; k < nk; ++k) lowest[k] = all[k];
            for (int t = 1; t < ENTRIES; ++t)
                for (Index k = 0; k < nk; ++k) lowest[k] = all[t * nk + k] < lowest[k] ? all[t * nk + k] : lowest[k];
            for (Index k = 0; k < nk; ++k) bound[k] = 0;
            for (int t = 0; t < ENTRIES; ++t)
                for (Index k = 0; k < nk; ++k) bound[k] += all[t * nk + k] -= lowest[k];
            for (Index k = 0; k < nk; ++k) {
                const float mean = bound[k] / float(ENTRIES), used = mean > 1e-6f ? mean : 1e-6f;
                for (int level = 0; level < LEVELS; ++level) bound[level * nk + k] = used * thresholds(level);
            }
            std::fill(codes.begin(), codes.end(), 0);
            for (int t = 0; t < ENTRIES; ++t) {
                const float *__restrict entry = &entries[t * nk];
                std::uint32_t *__restrict code = &codes[t / 6 * nk];
                const std::uint32_t bit = 1u << (5 * (t % 6));
                for (Index k = 0; k < nk; ++k)
                    code[k] |= (entry[k] < bound[k] ? bit : 0) | (entry[k] < bound[nk + k] ? bit << 1 : 0) |
                               (entry[k] < bound[2 * nk + k] ? bit << 2 : 0) | (entry[k] < bound[3 * nk + k] ? bit << 3 : 0) |
                               (entry[k] < bound[4 * nk + k] ? bit << 4 : 0);
            }
            std::uint64_t *__restrict to = out.at(i, j);
            for (Index k = 0; k < nk; ++k) to[k] = std::uint64_t(codes[k]) | std::uint64_t(codes[nk + k]) << 30;
        }
    }
}

}  // namespace

void define_mind_ssc(nb::module_ &module) {
    define(module, "mind_ssc", mind_ssc);
    define(module, "quantised_mind_ssc", quantised_mind_ssc);
}
