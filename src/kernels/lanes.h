// A few floats side by side, as many as one instruction works on: for loops that compilers do not turn into vectors by themselves.
#pragma once

#include <cstring>

#include "array.h"

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

#if defined(__GNUC__)
using Lanes [[gnu::vector_size(LANES * sizeof(float))]] = float;
using Four [[gnu::vector_size(4 * sizeof(float))]] = float;

// What is not a number is never the lesser or greater one, if it comes first.
inline Lanes lesser(const Lanes &a, const Lanes &b) { return a < b ? a : b; }
inline Lanes greater(const Lanes &a, const Lanes &b) { return a > b ? a : b; }
#else
// The same for compilers without such a type, as far as the kernels need it.
template <int N>
struct Several {
    float lane[N];

    float &operator[](int n) { return lane[n]; }
    float operator[](int n) const { return lane[n]; }

    template <typename Operation>
    static Several each(Operation operation) {
        Several out;
        for (int n = 0; n < N; ++n) out[n] = operation(n);
        return out;
    }
    friend Several operator+(const Several &a, const Several &b) { return each([&](int n) { return a[n] + b[n]; }); }
    friend Several operator-(const Several &a, const Several &b) { return each([&](int n) { return a[n] - b[n]; }); }
    friend Several operator*(const Several &a, const Several &b) { return each([&](int n) { return a[n] * b[n]; }); }
    friend Several operator*(float a, const Several &b) { return each([&](int n) { return a * b[n]; }); }
    friend Several operator+(float a, const Several &b) { return each([&](int n) { return a + b[n]; }); }
    friend Several operator+(const Several &a, float b) { return b + a; }
    friend Several operator*(const Several &a, float b) { return b * a; }
    friend Several operator/(float a, const Several &b) { return each([&](int n) { return a / b[n]; }); }
    friend Several greater(const Several &a, const Several &b) { return each([&](int n) { return a[n] > b[n] ? a[n] : b[n]; }); }
    friend Several lesser(const Several &a, const Several &b) { return each([&](int n) { return a[n] < b[n] ? a[n] : b[n]; }); }
    Several &operator+=(const Several &other) { return *this = *this + other; }
};
using Lanes = Several<LANES>;
using Four = Several<4>;
#endif

inline Lanes load(const float *from) {
    Lanes out;
    std::memcpy(&out, from, sizeof out);
    return out;
}

inline Four load_four(const float *from) {
    Four out;
    std::memcpy(&out, from, sizeof out);
    return out;
}

inline void store(float *to, const Lanes &values) { std::memcpy(to, &values, sizeof values); }
inline void store_four(float *to, const Four &values) { std::memcpy(to, &values, sizeof values); }

// Rows of numbers, `width` apart, as columns: out[k * stride + n] = rows[n * width + k] for `lines` rows, a multiple of 4.
inline void transpose(const float *rows, Index count, Index width, Index lines, float *out, Index stride) {
    Index k = 0;
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
    for (; k + 4 <= count; k += 4)
        for (Index n = 0; n < lines; n += 4) {
            const float *from = rows + n * width + k;
            const Four a = load_four(from), b = load_four(from + width), c = load_four(from + 2 * width);
            const Four d = load_four(from + 3 * width);
            const Four low_ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), high_ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const Four low_cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), high_cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            float *to = out + k * stride + n;
            store_four(to, __builtin_shufflevector(low_ab, low_cd, 0, 1, 4, 5));
            store_four(to + stride, __builtin_shufflevector(low_ab, low_cd, 2, 3, 6, 7));
            store_four(to + 2 * stride, __builtin_shufflevector(high_ab, high_cd, 0, 1, 4, 5));
            store_four(to + 3 * stride, __builtin_shufflevector(high_ab, high_cd, 2, 3, 6, 7));
        }
#endif
    for (; k < count; ++k)
        for (Index n = 0; n < lines; ++n) out[k * stride + n] = rows[n * width + k];
}

inline void prefetch([[maybe_unused]] const float *at) {
#if defined(__GNUC__)
    __builtin_prefetch(at);
#endif
}

inline float sum(const Lanes &values) {
    float total = 0;
    for (int n = 0; n < LANES; ++n) total += values[n];
    return total;
}
