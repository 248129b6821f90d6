// Averages of neighbours in a row, which whole volumes and descriptors share.
#pragma once

#include "array.h"

// Averages over cells along a row of what are sums of `rows` rows, written `stride` apart. The usual sizes of a cell are known
// when this is compiled; 0 stands for any.
template <int Pool>
void average_cells_of(const float *from, Index nk, Index pool, Index rows, float *out, Index stride) {
    if (Pool > 0) pool = Pool;
    const float scale = 1.f / float(rows * pool);
    Index k = 0;
    for (; k + pool <= nk; k += pool, out += stride) {
        float sum = from[k];
        for (Index n = 1; n < pool; ++n) sum += from[k + n];
        *out = sum * scale;
    }
    if (k == nk) return;
    float sum = 0;
    for (Index n = k; n < nk; ++n) sum += from[n];
    *out = sum / float(rows * (nk - k));
}

inline void average_cells(const float *from, Index nk, Index pool, Index rows, float *out, Index stride) {
    const auto average = pool == 1   ? average_cells_of<1>
                         : pool == 2 ? average_cells_of<2>
                         : pool == 3 ? average_cells_of<3>
                         : pool == 4 ? average_cells_of<4>
                                     : average_cells_of<0>;
    average(from, nk, pool, rows, out, stride);
}
