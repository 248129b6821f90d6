// Differing bits of codes at every displacement; the readable twin is in anamorph/discrete/hamming_cost.py.
//
// Rows along the last axis are regrouped by their place within a cell, so that neighbouring cells lie side by side and are
// compared at once, whatever the size of a cell, the step of the labels or the stride of the samples.
#include <algorithm>
#include <vector>

#include "array.h"

namespace {

using Word = std::uint64_t;
using Words = std::vector<Word>;
constexpr Index Lanes = 8;
// Words that are added bit by bit before the bits of their sums are counted.
constexpr Index Seven = 7;
// So many words have at most 255 bits in the bytes of one place.
constexpr Index AtOnce = 4 * Seven;

// The bits set in each byte. (Processors before AVX-512 count the bits of one word at a time, but add many words at once.)
inline Word count_in_bytes(Word x) {
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    return (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
}

// The same for words of ones, twos and fours.
inline Word count_in_bytes(Word ones, Word twos, Word fours) {
    const auto in_fours = [](Word x) {
        x -= (x >> 1) & 0x5555555555555555u;
        return (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    };
    const Word low = in_fours(ones) + 2 * in_fours(twos), high = in_fours(fours);
    return (low & 0x0f0f0f0f0f0f0f0fu) + ((low >> 4) & 0x0f0f0f0f0f0f0f0fu) + 4 * ((high + (high >> 4)) & 0x0f0f0f0f0f0f0f0fu);
}

// The sum of three bits at every place of three words: a word of ones and a word of twos.
struct Sum {
    Word ones, twos;
    Sum(Word a, Word b, Word c) : ones(a ^ b ^ c), twos((a & b) | ((a ^ b) & c)) {}
};

inline Word sum_of_bytes(Word x) {
    x = (x & 0x00ff00ff00ff00ffu) + ((x >> 8) & 0x00ff00ff00ff00ffu);
    x += x >> 16;
    return (x + (x >> 32)) & 0xffffu;
}

// out[r, q] = row[cell * q + r - border], the border repeated.
void regroup(const Word *__restrict row, Index nk, Index cell, Index border, Index length, Word *__restrict out) {
    for (Index r = 0; r < cell; ++r)
        for (Index q = 0; q < length; ++q) *out++ = row[std::clamp<Index>(cell * q + r - border, 0, nk - 1)];
}

// Add to the bytes of `sums` the bits in which n cells differ from those of the moving image in one sample, or in seven. The
// samples of the fixed image lie n apart, those of the moving image where `there` says.
void add_differing(const Word *__restrict here, const Word *__restrict counted, const Word *const *there, Index n,
                   Word *__restrict sums) {
    const Word *__restrict other = there[0];
    for (Index q = 0; q < n; ++q) sums[q] += count_in_bytes((here[q] ^ other[q]) & counted[q]);
}

void add_differing_of_seven(const Word *__restrict here, const Word *__restrict counted, const Word *const *there, Index n,
                            Word *__restrict sums) {
    const Word *t0 = there[0], *t1 = there[1], *t2 = there[2], *t3 = there[3], *t4 = there[4], *t5 = there[5], *t6 = there[6];
    for (Index q = 0; q < n; ++q) {
        const auto differing = [&](const Word *other, Index sample) {
            return (here[sample * n + q] ^ other[q]) & counted[sample * n + q];
        };
        const Sum a(differing(t0, 0), differing(t1, 1), differing(t2, 2));
        const Sum b(differing(t3, 3), differing(t4, 4), differing(t5, 5));
        const Sum ones(a.ones, b.ones, differing(t6, 6)), twos(a.twos, b.twos, ones.twos);
        sums[q] += count_in_bytes(ones.ones, twos.ones, twos.twos);
    }
}

// out[a, b, c, label] = scale[a, b, c] * differing bits, over the samples of a cell, of F(p) and M(p + label). `inside` says
// which voxels of `fixed` count.
void hamming_costs(Index begin, Index end, Array<const Word, 4> fixed, Array<const bool, 3> inside, Array<const float, 3> scale,
                   Array<const Word, 4> moving, Triple cell, Triple radius, Triple step, Triple stride, Array<float, 4> out) {
    const Index channels = fixed.shape[0], ni = fixed.shape[1], nj = fixed.shape[2], nk = fixed.shape[3];
    const Index nb = out.shape[1], nc = out.shape[2];
    const auto [gi, gj, gk] = cell;
    const auto [ri, rj, rk] = radius;
    const auto [si, sj, sk] = stride;
    const Index padded = (nc + Lanes - 1) / Lanes * Lanes;
    const Index border = gk * ((rk * step[2] + gk - 1) / gk);
    const Index length = padded + 2 * (border / gk) + 1;
    const Index width = 2 * rk + 1;
    const Index fi = (gi + si - 1) / si, fj = (gj + sj - 1) / sj, fk = (gk + sk - 1) / sk;
    const Index samples = channels * fi * fj * fk;
    // Where the samples of a cell are in the regrouped moving rows: by label of the last axis, and (below) by row.
    std::vector<Index> places(width * samples), rows(samples);
    for (Index dk = 0; dk < width; ++dk)
        for (Index n = 0; n < samples; ++n) {
            const Index k = n % fk * sk + (dk - rk) * step[2] + border;
            places[dk * samples + n] = k % gk * length + k / gk;
        }
    Words here(nb * samples * padded), counted(here.size()), regrouped(gk * padded);
    Words there(channels * fi * nj * gk * length), sums(padded), total(width * padded);
    for (Index a = begin; a < end; ++a) {
        for (Index b = 0; b < nb; ++b)
            for (Index c = 0; c < channels; ++c)
                for (Index x = 0; x < fi; ++x)
                    for (Index y = 0; y < fj; ++y) {
                        const Index i = a * gi + x * si, j = b * gj + y * sj;
                        const bool covered = i < ni && j < nj;
                        regroup(fixed.at(c, std::min(i, ni - 1), std::min(j, nj - 1)), nk, gk, 0, padded, regrouped.data());
                        const Index row = (((b * channels + c) * fi + x) * fj + y) * fk * padded;
                        for (Index z = 0; z < fk; ++z)
                            for (Index q = 0; q < padded; ++q) {
                                const Index k = gk * q + z * sk, at = row + z * padded + q;
                                here[at] = regrouped[z * sk * padded + q];
                                counted[at] = covered && k < nk && inside(i, j, k) ? ~Word(0) : 0;
                            }
                    }
        Index first = 0;
        for (Index di = -ri; di <= ri; ++di) {
            for (Index c = 0; c < channels; ++c)
                for (Index x = 0; x < fi; ++x) {
                    const Index i = std::clamp<Index>(a * gi + x * si + di * step[0], 0, ni - 1);
                    for (Index j = 0; j < nj; ++j)
                        regroup(moving.at(c, i, j), nk, gk, border, length, &there[((c * fi + x) * nj + j) * gk * length]);
                }
            for (Index dj = -rj; dj <= rj; ++dj, first += width)
                for (Index b = 0; b < nb; ++b) {
                    for (Index n = 0; n < samples; ++n) {
                        const Index j = std::clamp<Index>(b * gj + n / fk % fj * sj + dj * step[1], 0, nj - 1);
                        rows[n] = (n / (fk * fj) * nj + j) * gk * length;
                    }
                    std::fill(total.begin(), total.end(), 0);
                    // A few samples at all labels, then the next ones: what they read stays close to the processor.
                    for (Index begun = 0; begun < samples; begun += AtOnce)
                        for (Index dk = 0; dk < width; ++dk) {
                            const Index last = std::min(begun + AtOnce, samples);
                            const Word *others[AtOnce];
                            for (Index n = begun; n < last; ++n)
                                others[n - begun] = &there[rows[n] + places[dk * samples + n]];
                            std::fill(sums.begin(), sums.end(), 0);
                            for (Index n = begun; n < last;) {
                                const Index at = (b * samples + n) * padded;
                                const bool seven = n + Seven <= last;
                                (seven ? add_differing_of_seven : add_differing)(&here[at], &counted[at], &others[n - begun],
                                                                                 padded, sums.data());
                                n += seven ? Seven : 1;
                            }
                            for (Index q = 0; q < padded; ++q) total[dk * padded + q] += sum_of_bytes(sums[q]);
                        }
                    for (Index q = 0; q < nc; ++q) {
                        float *cost = out.at(a, b, q) + first;
                        for (Index dk = 0; dk < width; ++dk) cost[dk] = scale(a, b, q) * float(total[dk * padded + q]);
                    }
                }
        }
    }
}

}  // namespace

void define_hamming_cost(nb::module_ &module) { define(module, "hamming_costs", hamming_costs); }
