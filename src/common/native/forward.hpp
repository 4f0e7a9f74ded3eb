// A cell over time: W x_t + b for a chunk of steps, then step by step what W_h h_{t−1} adds, and the gates.
#pragma once

#include "pass.hpp"

namespace RNN_LEVEL {

template <class T, template <class> class CellOf> class Forward : Pass<T, CellOf> {
    using Base = Pass<T, CellOf>;
    using typename Base::Cell;
    using typename Base::Panels;
    using Base::at, Base::before, Base::blocks, Base::call, Base::columns, Base::G, Base::H, Base::I, Base::S, Base::size, Base::start,
        Base::U, Base::width, Base::X;
    static constexpr int64_t chunk_rows = 256;

    const bool keep = call.gates != nullptr && Cell::keeps_gates;
    static constexpr int64_t together = 4;  // blocks whose weights stand side by side in a line of the cache, as Keras packs them

    const bool W_as_it_is = call.W.input == 1 && this->as_they_are(I);
    const bool R_by_units = call.R.input == 1 && this->as_they_are(H), R_by_inputs = call.R.unit == 1 && this->as_they_are(H);
    const bool R_as_it_is = R_by_units || R_by_inputs;
    // Weights that are multiplied by one chunk alone are brought into order when that is done, in a member's own memory.
    const bool one_chunk = call.steps <= this->steps_of_chunk(chunk_rows) && blocks >= 2 * call.threads;
    Buffer<T> W{W_as_it_is ? 0 : (one_chunk ? std::max(1, call.threads) * together : blocks) * I * X * width}, R{R_as_it_is ? 0 : blocks * H * S * width}, b{blocks * G * width};
    Buffer<T> R_reset{Cell::resets_before && !R_as_it_is ? blocks * H * width : 0}, reset{Cell::resets_before ? call.batch * H : 0};
    Buffer<T> scaled{R_by_inputs ? G * blocks * width : 0};  // [gate][unit]: what R h_{t−1} adds at one step
    Buffer<T> c{Cell::states > 1 ? blocks * call.batch * width : 0};
    Buffer<T> chunk{keep ? 0 : blocks * this->largest_chunk(chunk_rows) * G * width};

  public:
    using Base::Base;

    void run() {
        const int64_t work = H * S * this->blocks * width * std::max<int64_t>(1, call.batch);
        in_team(call.host, this->threads(work), [this](const Member& member) { run(member); });
    }

  private:
    void run(const Member& member) {
        member.share(blocks, [&](int64_t first, int64_t stop) {
            for (; first < stop; first += together) pack(member, first, std::min(stop, first + together));
        });
        member.wait();
        this->each_chunk(chunk_rows, false, [&](int64_t t, int64_t stop) {
            const Panels a = chunk_of(t, stop);
            const int64_t first_row = start[t];
            if (!one_chunk) {
                this->share_rows(member, blocks, start[stop] - start[t], rows_of_block<X * U>,
                                 [&](int64_t block, int64_t, int64_t first, int64_t last) {
                                     project(a, block, W + block * I * X * width, t, stop, first, last);
                                 });
                member.wait();
            }
            for (; t < stop; ++t) advance(member, a, start[t] - first_row, t);
        });
    }

    // Where the gates of a chunk of steps stand.
    Panels chunk_of(int64_t t, int64_t stop) const {
        return keep ? this->all_steps(call.gates).from(start[t]) : Panels{chunk + 0, start[stop] - start[t]};
    }

    // The weights of blocks of units: for each input, those of all gates; and the biases.
    void pack(const Member& member, int64_t block, int64_t stop) {
        T* W_of_block = W + (one_chunk ? member.id * together : block) * I * X * width;
        if (!W_as_it_is) pack(block, stop, call.W, I, Cell::of_input, W_of_block);
        if (!R_as_it_is) {
            pack(block, stop, call.R, H, Cell::of_state, R + block * H * S * width);
            if constexpr (Cell::resets_before) pack(block, stop, call.R, H, Cell::of_reset, R_reset + block * H * width);
        }
        for (; block < stop; ++block, W_of_block += I * X * width) {
            for (int gate = 0; gate < G; ++gate)
                for (int64_t u = 0; u < width; ++u) b[(block * G + gate) * width + u] = bias(gate, block * width + u);
            if (one_chunk) project(chunk_of(0, call.steps), block, W_of_block, 0, call.steps, 0, this->rows());
        }
    }

    void pack(int64_t block, int64_t stop, const rnn_matrix& from, int64_t inputs, Gates gates, T* to) const {
        const int64_t first = block * width, units = std::min((stop - block) * width, H - first);
        const int64_t those = vectors_of_tile(gates.count * U) / U, row = those * width, apart = inputs * gates.count * width;
        if (units % width) std::fill(to + (stop - block - 1) * apart, to + (stop - block) * apart, T(0));
        for (int g = 0; g < gates.count; ++g)
            RNN_LEVEL::pack(this->weights(from, gates.first + g, first), from.unit, from.input, units, inputs,
                            to + g / those * inputs * row + g % those * width, row, width, apart);
    }

    // The two biases of a gate are added, but for those of the GRU's ñ, of which the recurrent one is q's.
    T bias(int gate, int64_t unit) const {
        if (unit >= H) return 0;
        const int64_t row = this->packed_row(gate, unit);
        const T b = call.bias[0] ? static_cast<const T*>(call.bias[0])[row] : 0;
        const T b_h = call.bias[1] ? static_cast<const T*>(call.bias[1])[row] : 0;
        if constexpr (G == 4 && Cell::states == 1)
            if (gate == 0 || gate == 3) return gate == 0 ? b_h : b;
        return b + b_h;
    }

    // a = W x_t + b for a block of units and some rows of a chunk of steps.
    void project(const Panels& a, int64_t block, const T* W_of_block, int64_t t, int64_t stop, int64_t first, int64_t last) const {
        constexpr int N = X * U;
        const T* bias = b + block * G * width;
        int64_t step = t;  // of the row that was asked for last
        const auto x = [&](int64_t i) -> const T* {
            if (start[t] + i < start[step]) step = t;
            while (start[t] + i >= start[step + 1]) ++step;
            return at(call.x, step)(start[t] + i - start[step]);
        };
        const auto sums = [&](int64_t i) { return a.at(block, i, Cell::of_input.first); };
        const T* bias_of_input = bias + Cell::of_input.first * width;
        if (W_as_it_is) {
            for (int64_t i = first; i < last; ++i) std::copy_n(bias_of_input, N * V<T>, sums(i));
            add_dots(call.W, Cell::of_input, I, block, first, last, x, sums);
        } else
            add_products_of_block<N>(
                first, last, I, W_of_block, x, [&](int64_t) -> const T* { return bias_of_input; }, sums);
        if constexpr (Cell::of_input.first > 0)
            for (int64_t i = first; i < last; ++i)
                for (int n = 0; n < Cell::of_input.first * U; ++n) store(a.at(block, i) + n * V<T>, load(bias + n * V<T>));
    }

    // What a step needs: is it the first, how many sequences go on after it, and where its states stand.
    struct Step {
        bool first;
        int64_t next;
        typename Base::Rows h_before, h, c;
    };

    // From a = W x_t + b to the gates and the state after step t, whose first row is `row`.
    void advance(const Member& member, const Panels& a, int64_t row, int64_t t) {
        const Step step = {t == 0, size(t + 1), before(0, t), at(call.history[0], t), at(call.history[1], t)};
        add_recurrent<Cell::of_state.first, S>(
            member, a, row, t, R, [&](int64_t i) -> const T* { return step.h_before(i); },
            [&](int64_t block, int64_t first, int64_t last) {
                if constexpr (Cell::resets_before) reset_rows(a.from(row), block, step, first, last);
                else advance(a.from(row), block, step, first, last);
            });
        if constexpr (Cell::resets_before)
            add_recurrent<Cell::of_reset.first, 1>(
                member, a, row, t, R_reset, [&](int64_t i) -> const T* { return reset + i * H; },
                [&](int64_t block, int64_t first, int64_t last) { advance(a.from(row), block, step, first, last); });
    }

    // a += R h for all sequences, h being what `row_of` says; then whatever follows.
    template <int first_gate, int count, class Row, class Then>
    void add_recurrent(const Member& member, const Panels& a, int64_t row, int64_t t, const Buffer<T>& R, Row row_of, Then then) {
        constexpr int N = count * U, n = vectors_of_tile(N), at_once = blocks_at_once<N>;
        if (R_by_inputs) return add_scaled<first_gate, count>(member, a, row, t, row_of, then);
        this->template share_rows<at_once>(
            member, blocks, size(t), rows_of_block<N>, [&](int64_t block, int64_t several, int64_t first, int64_t last) {
                const T* panels = R + block * H * N * V<T>;
                const auto sums = [&](int64_t i) { return a.at(block, row + i, first_gate); };
                if (R_by_units)
                    for (int64_t each = block; each < block + several; ++each)
                        add_dots(call.R, Gates{first_gate, count}, H, each, first, last, row_of,
                                 [&](int64_t i) { return a.at(each, row + i, first_gate); });
                else if (several > 1)
                    add_products_of_one<at_once * N / n, n>(row_of(0), Walk{1, H, 0, 1}, panels, H * n * V<T>, [&](int p) {
                        return a.at(block + p * n / N, row, first_gate) + p * n % N * V<T>;
                    });
                else add_products_of_block<N>(first, last, H, panels, row_of, sums, sums);
                for (int64_t each = block; each < block + several; ++each) then(each, first, last);
            });
        member.wait();
    }

    // The same for a single row, by weights as they are, those of an input side by side: of all units that are a member's share.
    template <int first_gate, int count, class Row, class Then>
    void add_scaled(const Member& member, const Panels& a, int64_t row, int64_t t, Row row_of, Then then) {
        member.share(size(t) ? blocks : 0, [&](int64_t block, int64_t stop) {
            const int64_t first = block * width, units = std::min(stop * width, H) - first;
            for (int g = first_gate; g < first_gate + count; ++g) {
                T* to = scaled + g * blocks * width + first;
                std::fill(to, to + (stop - block) * width, T(0));
                RNN_LEVEL::add_scaled(row_of(0), H, this->weights(call.R, g, first), call.R.input, to, units);
            }
            for (; block < stop; ++block) {
                for (int g = first_gate; g < first_gate + count; ++g)
                    for (int64_t u = 0; u < width; u += V<T>) {
                        T* at = a.at(block, row, g) + u;
                        store(at, load(at) + load(scaled + (g * blocks + block) * width + u));
                    }
                then(block, 0, 1);
            }
        });
        member.wait();
    }

    // To the sums of some gates of a block what their weights give, as they are.
    template <class Row, class To>
    void add_dots(const rnn_matrix& W, Gates gates, int64_t inputs, int64_t block, int64_t first, int64_t last, Row row, To to) const {
        for (int g = 0; g < gates.count; ++g)
            for (int u = 0; u < U; ++u) {
                const int64_t unit = block * width + u * V<T>, units = std::min(V<T>, H - unit);
                if (units > 0)
                    RNN_LEVEL::add_dots<rows_of_dots>(first, last, inputs, this->weights(W, gates.first + g, unit), W.unit, units, row,
                                                      [&](int64_t i) { return to(i) + g * width + u * V<T>; });
            }
    }

    INLINED void load_gates(Vector<T> (&gates)[G], const T* from, int u) {
        UNROLLED for (int g = 0; g < G; ++g) gates[g] = load(from + g * width + u * V<T>);
    }

    template <Gates those> INLINED void store_gates(const Vector<T> (&gates)[G], T* to, int u) {
        UNROLLED for (int g = those.first; g < those.first + those.count; ++g) store(to + g * width + u * V<T>, gates[g]);
    }

    // The gates, and from them the states after a step, of some rows of a block.
    void advance(const Panels& a, int64_t block, const Step& step, int64_t first, int64_t last) {
        if constexpr (G > 1)
            for (int64_t i = first; i < last; ++i) each_vector(block, [&](int64_t unit, int u) { open(a.at(block, i), block, step, i, unit, u); });
        for (int64_t i = first; i < last; ++i) each_vector(block, [&](int64_t unit, int u) { advance(a.at(block, i), block, step, i, unit, u); });
    }

    // Calls `work(first unit, which vector of the block)`.
    template <class Work> void each_vector(int64_t block, Work work) const {
        for (int u = 0; u < U; ++u)
            if (const int64_t unit = block * width + u * V<T>; unit < H) work(unit, u);
    }

    void open(T* at_a, int64_t block, const Step& step, int64_t i, int64_t unit, int u) {
        Vector<T> gates[G], c_t = {};
        load_gates(gates, at_a, u);
        if constexpr (Cell::states > 1) c_t = step.first ? load(before(1, 0)(i) + unit, H - unit) : load(c_of(block, i));
        Cell::open(gates, c_t);
        store_gates<Gates{0, G}>(gates, at_a, u);
        if constexpr (Cell::states > 1) store(c_of(block, i), c_t);
    }

    void advance(T* at_a, int64_t block, const Step& step, int64_t i, int64_t unit, int u) {
        const bool last = i >= step.next;
        const int64_t count = H - unit;
        Vector<T> gates[G], c_t = {};
        load_gates(gates, at_a, u);
        if constexpr (Cell::states > 1) c_t = load(c_of(block, i));
        const Vector<T> h_t = Cell::advance(gates, load(step.h_before(i) + unit, count), c_t);
        if (keep) store_gates<Cell::late>(gates, at_a, u);
        store(step.h(i) + unit, h_t, count);
        if (last) store(at(call.final[0])(i) + unit, h_t, count);
        if constexpr (Cell::states > 1) {
            if (step.c) store(step.c(i) + unit, c_t, count);
            if (last) store(at(call.final[1])(i) + unit, c_t, count);
        }
    }

    void reset_rows(const Panels& a, int64_t block, const Step& step, int64_t first, int64_t last) {
        if constexpr (Cell::resets_before)
            for (int64_t i = first; i < last; ++i)
                each_vector(block, [&](int64_t unit, int u) {
                    T* at_a = a.at(block, i);
                    Vector<T> gates[G];
                    load_gates(gates, at_a, u);
                    store(reset + i * H + unit, Cell::reset(gates, load(step.h_before(i) + unit, H - unit)), H - unit);
                    store_gates<Gates{0, 1}>(gates, at_a, u);
                });
    }

    T* c_of(int64_t block, int64_t i) { return c + (block * call.batch + i) * width; }
};

}  // namespace RNN_LEVEL
