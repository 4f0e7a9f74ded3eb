// Sums of products, Σ_k a_k b_k with numbers a_k and vectors b_k: what all matrix products here are made of.
//
// The vectors of a panel stand in the order in which they are used: for each k, N of them. A tile of M rows keeps its M · N sums
// in registers. Each sum is one chain of fused multiply-adds in the order of k, whatever the tile or the thread that has it.
#pragma once

#include <algorithm>

#include "vector.hpp"

// Loops over the sums of a tile, which are to be in registers.
#define UNROLLED _Pragma("GCC unroll 16")

namespace RNN_LEVEL {

// The most rows whose sums, N vectors each, leave registers for what is multiplied: the N vectors of the panel and a number, or a
// number of each row and a vector.
constexpr int most_rows(int N) {
    const int by_vectors = (RNN_REGISTERS - 1 - N) / N, by_numbers = (RNN_REGISTERS - 1) / (N + 1);
    return by_vectors > by_numbers ? by_vectors : by_numbers;
}
template <int N> constexpr int rows_of_tile = most_rows(N) < 14 ? most_rows(N) : 14;

// Where the numbers of a row stand: `segments` times `length` of them, `stride` apart; each segment is `jump` behind the last.
struct Walk {
    int64_t segments, length, jump, stride;
};

// to[m] = from[m] + Σ_k rows[m][k] panel[k], of which there are the first `count` numbers.
template <int M, int N, class T>
__attribute__((noinline)) void add_products(const T* const* rows, const Walk walk, const T* panel, const T* const* from, T* const* to,
                                            int64_t count) {
    Vector<T> sums[M][N] = {};
    const T* a[M];
    UNROLLED for (int m = 0; m < M; ++m) a[m] = rows[m];
    for (int64_t segment = 0; segment < walk.segments; ++segment) {
        for (int64_t k = 0; k < walk.length * walk.stride; k += walk.stride, panel += N * V<T>) {
            if constexpr (M < N) {
                Vector<T> numbers[M];
                UNROLLED for (int m = 0; m < M; ++m) numbers[m] = fill(a[m][k]);
                UNROLLED for (int n = 0; n < N; ++n) {
                    const Vector<T> b = load(panel + n * V<T>);
                    UNROLLED for (int m = 0; m < M; ++m) sums[m][n] = multiply_add(numbers[m], b, sums[m][n]);
                }
            } else {
                Vector<T> b[N];
                UNROLLED for (int n = 0; n < N; ++n) b[n] = load(panel + n * V<T>);
                UNROLLED for (int m = 0; m < M; ++m)
                    UNROLLED for (int n = 0; n < N; ++n) sums[m][n] = multiply_add(fill(a[m][k]), b[n], sums[m][n]);
            }
        }
        UNROLLED for (int m = 0; m < M; ++m) a[m] += walk.jump;
    }
    UNROLLED for (int m = 0; m < M; ++m)
        UNROLLED for (int n = 0; n < N; ++n)
            if (const int64_t there = count - n * V<T>; there > 0)
                store(to[m] + n * V<T>, load(from[m] + n * V<T>, there) + sums[m][n], there);
}

// The numbers of rows that a tile may have: all up to 6, above that every second.
constexpr int fewer_rows(int M) { return M <= 6 ? M - 1 : M - 2 + M % 2; }

// A tile of at least so many rows as are wanted, of those that there are; how many it had.
template <int N, int M, class T, class Row, class From, class To>
inline int64_t add_tile(int64_t rows, int64_t wanted, int64_t first, const Walk& walk, const T* panel, Row row, From from, To to,
                        int64_t count) {
    if constexpr (M > 1)
        if (wanted <= fewer_rows(M) || rows < M)
            return add_tile<N, fewer_rows(M)>(rows, wanted, first, walk, panel, row, from, to, count);
    const T *rows_at[M], *froms[M];
    T* tos[M];
    for (int m = 0; m < M; ++m) rows_at[m] = row(first + m), froms[m] = from(first + m), tos[m] = to(first + m);
    add_products<M, N>(rows_at, walk, panel, froms, tos, count);
    return M;
}

// The same for the rows from `first` to `stop`, in tiles of at most M: `row(i)`, `from(i)` and `to(i)` say where those of each stand.
// The tiles are as equal as can be, for one of a few rows takes as long as one of many.
template <int N, int M, class T, class Row, class From, class To>
inline void add_products(int64_t first, int64_t stop, const Walk& walk, const T* panel, Row row, From from, To to,
                         int64_t count = N * V<T>) {
    while (first < stop) {
        const int64_t rows = stop - first, tiles = (rows + M - 1) / M;
        first += add_tile<N, M>(rows, (rows + tiles - 1) / tiles, first, walk, panel, row, from, to, count);
    }
}

// How many of the N vectors of a block a tile has. Sixteen registers have room for all four of only three rows, for which a panel
// would be read twice as often as in two panels of two.
constexpr int vectors_of_tile(int N) { return N == 4 && RNN_REGISTERS == 16 ? 2 : N; }
template <int N> constexpr int rows_of_block = rows_of_tile<vectors_of_tile(N)>;

// The same for all N vectors of a block, whose panels stand one after the other.
template <int N, class T, class Row, class From, class To>
inline void add_products_of_block(int64_t first, int64_t stop, int64_t inputs, const T* panels, Row row, From from, To to) {
    constexpr int n = vectors_of_tile(N);
    for (int v = 0; v < N; v += n)
        add_products<n, rows_of_block<N>>(
            first, stop, Walk{1, inputs, 0, 1}, panels + v * inputs * V<T>, row, [&](int64_t i) -> const T* { return from(i) + v * V<T>; },
            [&](int64_t i) { return to(i) + v * V<T>; });
}

// How many blocks of N vectors a single row is multiplied by at once: the sums of one would wait for each other.
template <int N> constexpr int blocks_at_once = 8 / N;

// to(p) = from(p) + Σ_k row[k] panel_p[k] for so many panels, `apart` numbers from one to the next.
template <int P, int N, class T, class To>
__attribute__((noinline)) void add_products_of_one(const T* row, const Walk walk, const T* panel, int64_t apart, To to) {
    Vector<T> sums[P][N] = {};
    for (int64_t segment = 0; segment < walk.segments; ++segment, row += walk.jump)
        for (int64_t k = 0; k < walk.length * walk.stride; k += walk.stride, panel += N * V<T>) {
            const Vector<T> a = fill(row[k]);
            UNROLLED for (int p = 0; p < P; ++p)
                UNROLLED for (int n = 0; n < N; ++n) sums[p][n] = multiply_add(a, load(panel + p * apart + n * V<T>), sums[p][n]);
        }
    for (int p = 0; p < P; ++p)
        for (int n = 0; n < N; ++n) store(to(p) + n * V<T>, load(to(p) + n * V<T>) + sums[p][n]);
}

// What follows multiplies by weights as they are, for few rows, beside which to bring them into order takes long.

// to[m][u] += Σ_k rows[m][k] W[u * unit + k] for at most V units: as many numbers k at a time, which are added up at the end.
template <int M, class T>
__attribute__((noinline)) void add_dots(const T* const* rows, int64_t length, const T* W, int64_t unit, int64_t units, T* const* to) {
    constexpr int most = M == 1 ? 8 : 4, together = V<T> < most ? V<T> : most;
    Vector<T> sums[M][V<T>];
    UNROLLED for (int m = 0; m < M; ++m)
        UNROLLED for (int u = 0; u < V<T>; ++u) sums[m][u] = Vector<T>{};
    for (int64_t u = 0; u < units; u += together) {
        const T* w[together];
        UNROLLED for (int j = 0; j < together; ++j) w[j] = W + (u + j < units ? u + j : units - 1) * unit;
        Vector<T> s[M][together];
        UNROLLED for (int m = 0; m < M; ++m)
            UNROLLED for (int j = 0; j < together; ++j) s[m][j] = Vector<T>{};
        const auto add = [&](int64_t k, int64_t count) __attribute__((always_inline)) {
            Vector<T> a[M];
            UNROLLED for (int m = 0; m < M; ++m) a[m] = load(rows[m] + k, count);
            UNROLLED for (int j = 0; j < together; ++j) {
                const Vector<T> b = load(w[j] + k, count);
                UNROLLED for (int m = 0; m < M; ++m) s[m][j] = multiply_add(a[m], b, s[m][j]);
            }
        };
        int64_t k = 0;
        for (; k + V<T> <= length; k += V<T>) add(k, V<T>);
        if (k < length) add(k, length - k);
        for (int m = 0; m < M; ++m)
            for (int j = 0; j < together && u + j < units; ++j) sums[m][u + j] = s[m][j];
    }
    for (int m = 0; m < M; ++m) {
        transpose<T>(sums[m]);
        Vector<T> sum = sums[m][0];
        for (int64_t i = 1; i < V<T>; ++i) sum += sums[m][i];
        store(to[m], load(to[m]) + sum);
    }
}

// So many rows at once leave registers for the weights of four units.
constexpr int rows_of_dots = RNN_REGISTERS == 32 ? 4 : 3;

// The same for the rows from `first` to `stop`.
template <int M, class T, class Row, class To>
inline void add_dots(int64_t first, int64_t stop, int64_t length, const T* W, int64_t unit, int64_t units, Row row, To to) {
    for (; first + M <= stop; first += M) {
        const T* rows[M];
        T* tos[M];
        for (int m = 0; m < M; ++m) rows[m] = row(first + m), tos[m] = to(first + m);
        add_dots<M>(rows, length, W, unit, units, tos);
    }
    if constexpr (M > 1)
        if (first < stop) add_dots<M - 1>(first, stop, length, W, unit, units, row, to);
}

// to[k] += Σ_u row[u] W[u * unit + k] for `columns` columns k: some u at a time, whose weights are read in the order in which they
// stand. `to` has room for whole vectors.
template <class T>
inline void add_scaled(const T* row, int64_t units, const T* W, int64_t unit, T* to, int64_t columns) {
    constexpr int some = 8;
    int64_t u = 0;
    for (; u + some <= units; u += some, W += some * unit) {
        Vector<T> a[some];
        UNROLLED for (int m = 0; m < some; ++m) a[m] = fill(row[u + m]);
        const auto add = [&](int64_t k, auto load_some) __attribute__((always_inline)) {
            Vector<T> sum = load(to + k);
            UNROLLED for (int m = 0; m < some; ++m) sum = multiply_add(a[m], load_some(W + m * unit + k), sum);
            store(to + k, sum);
        };
        int64_t k = 0;
        for (; k + V<T> <= columns; k += V<T>) add(k, [](const T* from) { return load(from); });
        if (k < columns) add(k, [&](const T* from) { return load(from, columns - k); });
    }
    for (; u < units; ++u, W += unit)
        for (int64_t k = 0; k < columns; k += V<T>) store(to + k, multiply_add(fill(row[u]), load(W + k, columns - k), load(to + k)));
}

// to[u / width][k][u % width] = from[u * unit + k * input] for `units` units and all inputs, where a row of `to` has `row` numbers
// and the next block of units, `width` of them in whole vectors, is `apart` numbers behind.
template <class T>
inline void pack(const T* from, int64_t unit, int64_t input, int64_t units, int64_t inputs, T* to, int64_t row, int64_t width,
                 int64_t apart) {
    if (unit == 1) {
        for (int64_t k = 0; k < inputs; ++k, from += input) {
            T* block = to + k * row;
            int64_t first = 0;
            for (; first + width <= units; first += width, block += apart)
                for (int64_t u = 0; u < width; u += V<T>) store(block + u, load(from + first + u));
            for (int64_t u = 0; first + u < units; u += V<T>) store(block + u, load(from + first + u, units - first - u), units - first - u);
        }
        return;
    }
    for (int64_t u = 0; u < units; u += V<T>) {
        T* at = to + u / width * apart + u % width;
        int64_t k = 0;
        if (input == 1 && u + V<T> <= units)
            for (; k + V<T> <= inputs; k += V<T>) {
                Vector<T> square[V<T>];
                for (int64_t i = 0; i < V<T>; ++i) square[i] = load(from + (u + i) * unit + k);
                transpose<T>(square);
                for (int64_t i = 0; i < V<T>; ++i) store(at + (k + i) * row, square[i]);
            }
        for (; k < inputs; ++k)
            for (int64_t i = 0; i < V<T> && u + i < units; ++i) at[k * row + i] = from[(u + i) * unit + k * input];
    }
}

}  // namespace RNN_LEVEL
