// Vectors of the widest kind that the instruction set has, and σ and tanh of them, within 3 units in the last place.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Bytes and number of the vector registers.
#if defined(__AVX512F__)
#define RNN_BYTES 64
#define RNN_REGISTERS 32
#elif defined(__AVX__)
#define RNN_BYTES 32
#define RNN_REGISTERS 16
#else
#define RNN_BYTES 16
#if defined(__aarch64__)
#define RNN_REGISTERS 32
#else
#define RNN_REGISTERS 16
#endif
#endif

namespace RNN_LEVEL {

template <class T> struct Types;
template <> struct Types<float> { using Integer = int32_t; };
template <> struct Types<double> { using Integer = int64_t; };
template <class T> using Integer = typename Types<T>::Integer;

template <class T> struct Lanes {
    typedef T Vector __attribute__((vector_size(RNN_BYTES)));
    typedef T Unaligned __attribute__((vector_size(RNN_BYTES), aligned(sizeof(T)), may_alias));
    typedef Integer<T> Integers __attribute__((vector_size(RNN_BYTES)));
};
template <class T> using Vector = typename Lanes<T>::Vector;
template <class T> using Integers = typename Lanes<T>::Integers;

// How many numbers a vector has.
template <class T> constexpr int64_t V = RNN_BYTES / sizeof(T);

template <class T> inline Vector<T> load(const T* from) {
    return *reinterpret_cast<const typename Lanes<T>::Unaligned*>(from);
}
template <class T> inline void store(T* to, Vector<T> x) { *reinterpret_cast<typename Lanes<T>::Unaligned*>(to) = x; }

// The first `count` numbers; the others are 0, and are not read or written.
template <class T> inline Vector<T> load(const T* from, int64_t count) {
    if (count >= V<T>) return load(from);
    Vector<T> x = {};
    std::memcpy(&x, from, count * sizeof(T));
    return x;
}
template <class T> inline void store(T* to, Vector<T> x, int64_t count) {
    if (count >= V<T>) return store(to, x);
    std::memcpy(to, &x, count * sizeof(T));
}

template <class T> inline Vector<T> fill(T x) { return x - Vector<T>{}; }

// a b + c, rounded once where the instruction set can. Said outright, for a compiler fuses some sums of products and others not, and a
// sum is to have the same bits in a tile of any size.
inline Vector<float> multiply_add(Vector<float> a, Vector<float> b, Vector<float> c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}
inline Vector<double> multiply_add(Vector<double> a, Vector<double> b, Vector<double> c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__)
    return _mm256_fmadd_pd(a, b, c);
#elif defined(__aarch64__)
    return vfmaq_f64(c, a, b);
#else
    return a * b + c;
#endif
}

// Where they are 0 whatever they are: also of NaN.
template <class T> inline Vector<T> first(Vector<T> x, int64_t count) {
    if (count >= V<T>) return x;
    for (int64_t i = count; i < V<T>; ++i) x[i] = 0;
    return x;
}

// A square of numbers, a row a vector, as its transpose: halves of rows change places, then quarters, down to single numbers.
template <class T> inline void transpose(Vector<T> (&rows)[V<T>]) {
#pragma GCC unroll 4
    for (int64_t part = V<T> / 2; part > 0; part /= 2) {
        Integers<T> upper, lower;
        for (int64_t i = 0; i < V<T>; ++i) {
            upper[i] = i & part ? V<T> + i - part : i;
            lower[i] = i & part ? V<T> + i : i + part;
        }
#pragma GCC unroll 16
        for (int64_t i = 0; i < V<T>; ++i)
            if (!(i & part)) {
                const Vector<T> a = rows[i], b = rows[i + part];
                rows[i] = __builtin_shuffle(a, b, upper);
                rows[i + part] = __builtin_shuffle(a, b, lower);
            }
    }
}

template <class T> inline Vector<T> absolute(Vector<T> x) {
    constexpr Integer<T> sign = Integer<T>(1) << (8 * sizeof(T) - 1);
    return (Vector<T>)((Integers<T>)x & ~sign);
}
template <class T> inline Vector<T> with_sign_of(Vector<T> x, Vector<T> y) {
    constexpr Integer<T> sign = Integer<T>(1) << (8 * sizeof(T) - 1);
    return (Vector<T>)((Integers<T>)x | ((Integers<T>)y & sign));
}

// e^x = 2^n (1 + p) with p = e^r − 1, r = x − n ln 2 and |r| ≤ ln 2 / 2: by the series Σ r^k / k!, to below half a unit.
template <class T> struct Exponential {
    Vector<T> p;
    Integers<T> n;
};

template <class T> struct Constants;
template <> struct Constants<float> {
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, round = 12582912.0f;
    static constexpr int terms = 8, mantissa = 23, bias = 127;
    static constexpr float nothing = 105.0f;   // e^−x is 0 from here on
    static constexpr float saturated = 40.0f;  // and 1 − e^−x is 1 from here on
};
template <> struct Constants<double> {
    static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10,
                            round = 6755399441055744.0;
    static constexpr int terms = 13, mantissa = 52, bias = 1023;
    static constexpr double nothing = 746.0, saturated = 80.0;
};

template <class T> __attribute__((always_inline)) inline Exponential<T> exponential(Vector<T> x) {
    using C = Constants<T>;
    // Adding 1.5 · 2^mantissa rounds to an integer, which then stands in the low bits.
    const Vector<T> shifted = x * T(1.4426950408889634) + C::round;
    const Vector<T> n = shifted - C::round;
    const Vector<T> r = (x - n * C::ln2_high) - n * C::ln2_low;
    static constexpr double factorial[] = {1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800, 479001600, 6227020800};
    Vector<T> q = fill(T(1 / factorial[C::terms]));
#pragma GCC unroll 16
    for (int k = C::terms - 1; k >= 2; --k) q = q * r + T(1 / factorial[k]);
    return {r + r * r * q, (Integers<T>)shifted - (Integers<T>)fill(C::round)};
}

// 2^n, of an n for which it is a normal number.
template <class T> inline Vector<T> power_of_two(Integers<T> n) {
    return (Vector<T>)((n + Constants<T>::bias) << Constants<T>::mantissa);
}

// σ(x) = 1 / (1 + e^−|x|), or of a negative x e^−|x| / (1 + e^−|x|).
template <class T> __attribute__((always_inline)) inline Vector<T> sigmoid(Vector<T> x) {
    Vector<T> a = absolute<T>(x);
    a = a > Constants<T>::nothing ? fill(Constants<T>::nothing) : a;  // and NaN stays
    const Exponential<T> e = exponential<T>(-a);
    const Integers<T> half = e.n >> 1;  // in two steps, since e^−a may be a denormal number
    const Vector<T> power = (1 + e.p) * power_of_two<T>(half) * power_of_two<T>(e.n - half);
    return (x < 0 ? power : fill(T(1))) / (1 + power);
}

// tanh(x) = ±(1 − e^−2|x|) / (1 + e^−2|x|), with e^−2|x| − 1 = 2^n p + (2^n − 1), which is right to rounding near 0 too.
template <class T> __attribute__((always_inline)) inline Vector<T> tanh(Vector<T> x) {
    Vector<T> a = 2 * absolute<T>(x);
    a = a > Constants<T>::saturated ? fill(Constants<T>::saturated) : a;
    const Exponential<T> e = exponential<T>(-a);
    const Vector<T> power = power_of_two<T>(e.n);
    const Vector<T> less_one = power * e.p + (power - 1);
    return with_sign_of<T>(absolute<T>(less_one / (2 + less_one)), x);
}

}  // namespace RNN_LEVEL
