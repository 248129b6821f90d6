// A few floats side by side, as many as one instruction works on: for loops that compilers do not turn into vectors by themselves.
#pragma once

#include <cstring>

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
