// Back-propagation through time: step by step ∂L/∂a_t, and from it by the recurrent weights ∂L/∂h_{t−1}; then, for all steps of a
// chunk, the gradients of the weights and of x.
#pragma once

#include "input_gradient.hpp"

namespace RNN_LEVEL {

template <class T, template <class> class CellOf> class Backward : Pass<T, CellOf> {
    using Base = Pass<T, CellOf>;
    using typename Base::Cell;
    using typename Base::Panels;
    using Base::at, Base::before, Base::blocks, Base::call, Base::columns, Base::G, Base::H, Base::I, Base::of_x, Base::S, Base::size, Base::start,
        Base::tile, Base::U, Base::width, Base::zeros;
    static constexpr int64_t chunk_rows = 512;
    static constexpr int at_once = blocks_at_once<2>;
    // Of the weights' gradients: units in a tile, so that none are left over, and rows whose ∂L/∂a_t of a block stay in the nearest cache.
    static constexpr int group = RNN_REGISTERS == 32 ? 8 : 6;
    static constexpr int64_t near_rows = (32 << 10) / (G * width * sizeof(T));

    // Columns are those of x, of h_{t−1} and, where it is reset before, of r_t ⊙ h_{t−1}: so many blocks of them.
    const int64_t of_h = parts(H, columns), of_reset = Cell::resets_before ? of_h : 0;
    const int64_t panels = of_x + of_h + of_reset, largest = this->largest_chunk(chunk_rows);
    const Panels gates = this->all_steps(call.gates);

    const bool R_as_it_is = call.R.input == 1 && this->as_they_are(H);
    Buffer<T> R{R_as_it_is ? 0 : of_h * blocks * S * width * columns};
    Buffer<T> R_reset{R_as_it_is ? 0 : of_reset * blocks * width * columns};
    InputGradient<T, CellOf> of_input{call};
    Buffer<T> chunk{call.d_gates ? 0 : blocks * this->spread(largest) * G * width};  // ∂L/∂a_t, where not all are wanted
    Buffer<T> operands{panels * largest * columns};               // [panel][row of the chunk][column]
    // The weights' gradients are added up in place if a unit's stand side by side, as in PyTorch, else in `sums`; those of a chunk
    // of rows, a panel and a block first in a member's own memory.
    const bool in_place = call.d_W.input == 1 && call.d_R.input == 1;
    Buffer<T> sums{in_place ? 0 : panels * blocks * G * width * columns};  // [panel][block][gate][unit][column]
    Buffer<T> of_chunk{std::max(1, call.threads) * G * width * columns};   // [member][gate][unit][column]
    Buffer<T> d_b{blocks * G * width};
    Buffer<T> d_h{call.batch * of_h * columns}, d_c{Cell::states > 1 ? call.batch * of_h * columns : 0};
    Buffer<T> d_reset{Cell::resets_before ? call.batch * of_h * columns : 0};

  public:
    using Base::Base;

    void run() {
        const int64_t work = H * S * blocks * width * std::max<int64_t>(1, call.batch);
        in_team(call.host, this->threads(work), [this](const Member& member) { run(member); });
    }

  private:
    void run(const Member& member) {
        member.share(R_as_it_is ? 0 : of_h, [&](int64_t first, int64_t stop) {
            for (int64_t panel = first; panel < stop; ++panel) {
                this->pack_columns(panel, call.R, H, Cell::of_state, R + panel * blocks * S * width * columns);
                if constexpr (Cell::resets_before)
                    this->pack_columns(panel, call.R, H, Cell::of_reset, R_reset + panel * blocks * width * columns);
            }
        });
        if (call.d_x.data) of_input.pack(member);
        member.share(blocks, [&](int64_t first, int64_t stop) { std::fill(d_b + first * G * width, d_b + stop * G * width, T(0)); });
        member.share(call.batch, [&](int64_t first, int64_t stop) {
            for (int64_t i = first; i < stop; ++i) {
                begin(call.d_final[0], d_h, i);
                if constexpr (Cell::states > 1) begin(call.d_final[1], d_c, i);
            }
        });
        member.wait();
        this->each_chunk(chunk_rows, true, [&](int64_t first, int64_t stop) {
            const Panels d_a = call.d_gates ? this->all_steps(call.d_gates).from(start[first]) : Panels{chunk + 0, this->spread(largest)};
            for (int64_t t = stop - 1; t >= first - 1; --t) retreat(member, d_a, first, t, stop);
            gather(member, first, stop);
            member.wait();
            add_gradients(member, d_a, start[stop] - start[first], stop == call.steps);
            if (call.d_x.data) of_input.differentiate(member, d_a, first, stop);
            member.wait();
        });
        finish(member);
    }

    void begin(const rnn_rows& d_final, const Buffer<T>& d, int64_t i) {
        T* to = d + i * of_h * columns;
        if (d_final.data) std::copy_n(at(d_final)(i), H, to);
        else std::fill(to, to + H, T(0));
        std::fill(to + H, to + of_h * columns, T(0));
    }

    // ∂L/∂h_t, for which the recurrent product of step t + 1 is missing, then ∂L/∂a_t. Of a chunk's first step the product follows.
    void retreat(const Member& member, const Panels& d_a, int64_t first_step, int64_t t, int64_t stop) {
        const int64_t after = t + 1 < stop ? size(t + 1) : 0, now = t >= first_step ? size(t) : 0, base = start[first_step];
        const Step step = now ? step_of(t, d_a.from(start[t] - base)) : Step{};
        this->template share_rows<at_once>(
            member, of_h, std::max(after, now), tile, [&](int64_t panel, int64_t several, int64_t first, int64_t last) {
                add_recurrent<Cell::of_state.first, S>(d_a, start[t + 1] - base, panel, several, first, std::min(last, after), R, d_h);
                for (int64_t i = first; i < std::min(last, now); ++i)
                    each_vector(panel, several, [&](int64_t unit, int64_t count) { retreat(step, i, unit, count); });
            });
        member.wait();
        if constexpr (Cell::resets_before) {
            if (now == 0) return;
            this->template share_rows<at_once>(
                member, of_h, now, tile, [&](int64_t panel, int64_t several, int64_t first, int64_t last) {
                    for (int64_t i = first; i < last; ++i)
                        std::fill_n(d_reset + (i * of_h + panel) * columns, several * columns, T(0));
                    add_recurrent<Cell::of_reset.first, 1>(d_a, start[t] - base, panel, several, first, last, R_reset, d_reset);
                    for (int64_t i = first; i < last; ++i)
                        each_vector(panel, several,
                                    [&](int64_t unit, int64_t count) { retreat_reset(step, i, unit, count); });
                });
            member.wait();
        }
    }

    // d += Rᵀ ∂L/∂a for a panel of columns, or several of a single row.
    template <int first_gate, int count>
    void add_recurrent(const Panels& d_a, int64_t row, int64_t panel, int64_t several, int64_t first, int64_t last, const Buffer<T>& R,
                       const Buffer<T>& d) {
        if (first >= last) return;
        if (R_as_it_is) return add_recurrent_as_it_is(d_a, Gates{first_gate, count}, row, panel, several, d);
        const Walk walk{blocks, count * width, d_a.apart(), 1};
        T* to = d + panel * columns;
        const int64_t apart = blocks * count * width * columns;
        const auto rows = [&](int64_t i) -> const T* { return d_a.at(0, row + i, first_gate); };
        const auto sums = [&](int64_t i) { return to + i * of_h * columns; };
        if (several > 1)
            add_products_of_one<at_once, 2>(rows(0), walk, static_cast<const T*>(R + panel * apart), apart, [&](int p) { return to + p * columns; });
        else add_products<2, tile>(first, last, walk, static_cast<const T*>(R + panel * apart), rows, sums, sums);
    }

    // The same for a single row, by the weights as they are.
    void add_recurrent_as_it_is(const Panels& d_a, Gates gates, int64_t row, int64_t panel, int64_t several, const Buffer<T>& d) const {
        const int64_t first = panel * columns, count = std::min(several * columns, H - first);
        for (int64_t block = 0; block < blocks; ++block)
            for (int g = gates.first; g < gates.first + gates.count; ++g)
                add_scaled(d_a.at(block, row, g), std::min(width, H - block * width), this->weights(call.R, g, block * width) + first,
                           call.R.unit, d + first, count);
    }

    // Calls `work(first unit, how many are there)` for each vector of panels.
    template <class Work> void each_vector(int64_t panel, int64_t several, Work work) const {
        for (int64_t unit = panel * columns; unit < std::min(H, (panel + several) * columns); unit += V<T>) work(unit, H - unit);
    }

    // What a step needs: where its gates, its states and their gradients stand.
    struct Step {
        Panels gates, d_a;
        typename Base::Rows h_before, h, d_h, c_before, c, d_c;
    };
    Step step_of(int64_t t, const Panels& d_a) const {
        return {Cell::keeps_gates ? gates.from(start[t]) : Panels{}, d_a, before(0, t), at(call.history[0], t), at(call.d_history[0], t),
                Cell::states > 1 ? before(1, t) : typename Base::Rows{}, at(call.history[1], t), at(call.d_history[1], t)};
    }

    void retreat(const Step& step, int64_t i, int64_t unit, int64_t count) {
        const int64_t block = unit / width, u = unit % width;
        Vector<T> a[G] = {}, d_gates[G], d_c_t = {}, c_before = {}, c_t = {};
        if (Cell::keeps_gates)
            UNROLLED for (int g = 0; g < G; ++g) a[g] = load(step.gates.at(block, i, g) + u);
        T* at_d_h = d_h + i * of_h * columns + unit;
        Vector<T> d_h_t = load(at_d_h);
        if (step.d_h) d_h_t += load(step.d_h(i) + unit, count);
        if constexpr (Cell::states > 1) {
            d_c_t = load(d_c + i * of_h * columns + unit);
            if (step.d_c) d_c_t += load(step.d_c(i) + unit, count);
            c_before = load(step.c_before(i) + unit, count);
            c_t = load(step.c(i) + unit, count);
        }
        const Vector<T> h_before = load(step.h_before(i) + unit, count), h_t = load(step.h(i) + unit, count);
        Cell::retreat(a, h_before, h_t, c_before, c_t, d_h_t, d_c_t, d_gates);
        UNROLLED for (int g = 0; g < G; ++g) store(step.d_a.at(block, i, g) + u, first<T>(d_gates[g], count));
        for (int64_t v = u + V<T>; count <= V<T> && v < width; v += V<T>)  // units that a last block of several vectors has not
            for (int g = 0; g < G; ++g) store(step.d_a.at(block, i, g) + v, Vector<T>{});
        store(at_d_h, first<T>(d_h_t, count));
        if constexpr (Cell::states > 1) store(d_c + i * of_h * columns + unit, d_c_t);
    }

    void retreat_reset(const Step& step, int64_t i, int64_t unit, int64_t count) {
        if constexpr (Cell::resets_before) {
            const int64_t block = unit / width, u = unit % width;
            T* at_d_h = d_h + i * of_h * columns + unit;
            Vector<T> d_h_t = load(at_d_h);
            const Vector<T> d_a_r = Cell::retreat_reset(load(step.gates.at(block, i) + u), load(step.h_before(i) + unit, count),
                                                        load(d_reset + i * of_h * columns + unit), d_h_t);
            store(step.d_a.at(block, i) + u, first<T>(d_a_r, count));
            store(at_d_h, first<T>(d_h_t, count));
        }
    }

    // What the rows of ∂L/∂a_t are multiplied by, a panel of columns side by side.
    void gather(const Member& member, int64_t first_step, int64_t stop) {
        member.share(panels, [&](int64_t panel, int64_t last) {
            for (; panel < last; ++panel) {
                T* to = operands + panel * largest * columns;
                const bool input = panel < of_x;
                if (!(input ? call.d_W : call.d_R).data) continue;
                for (int64_t t = first_step; t < stop; ++t) {
                    const auto rows = input ? at(call.x, t) : before(0, t);
                    for (int64_t i = 0; i < size(t); ++i, to += columns) {
                        copy(rows(i), input ? panel : (panel - of_x) % of_h, input ? I : H, to);
                        if constexpr (Cell::resets_before)
                            if (panel >= of_x + of_h) multiply_by_reset(t, i, panel - of_x - of_h, to);
                    }
                }
            }
        });
    }

    static void copy(const T* from, int64_t panel, int64_t count, T* to) {
        for (int n = 0; n < 2; ++n) {
            const int64_t column = panel * columns + n * V<T>;
            store(to + n * V<T>, column < count ? load(from + column, count - column) : Vector<T>{});
        }
    }

    void multiply_by_reset(int64_t t, int64_t i, int64_t panel, T* to) const {
        each_vector(panel, 1, [&](int64_t unit, int64_t) {
            T* at = to + unit % columns;
            store(at, load(at) * load(gates.at(unit / width, start[t] + i) + unit % width));
        });
    }

    // The gates of which a panel's columns have weights.
    Gates gates_of(int64_t panel) const {
        if (panel < of_x) return Cell::of_input;
        if constexpr (Cell::resets_before)
            if (panel >= of_x + of_h) return Cell::of_reset;
        return Cell::of_state;
    }

    // The first column of a panel among those of its matrix, and where a unit's gradients of those columns are added up.
    int64_t first_column(int64_t panel) const { return (panel < of_x ? panel : (panel - of_x) % of_h) * columns; }

    T* sums_of(int64_t panel, int64_t block, int gate, int64_t unit) const {
        if (!in_place) return sums + (((panel * blocks + block) * G + gate) * width + unit) * columns;
        const rnn_matrix& to = panel < of_x ? call.d_W : call.d_R;
        return static_cast<T*>(to.data) + this->packed_row(gate, block * width + unit) * to.unit + first_column(panel);
    }

    // ∂L/∂W += Σ ∂L/∂a_t x_tᵀ over the rows of a chunk, ∂L/∂R += Σ ∂L/∂a_t h_{t−1}ᵀ, and ∂L/∂b += Σ ∂L/∂a_t.
    void add_gradients(const Member& member, const Panels& d_a, int64_t rows, bool first_chunk) {
        member.share(panels * blocks, [&](int64_t task, int64_t stop) {
            for (; task < stop; ++task) {
                const int64_t panel = task % panels, block = task / panels;
                if (!(panel < of_x ? call.d_W : call.d_R).data) continue;
                const Gates those = gates_of(panel);
                T* chunk = of_chunk + member.id * G * width * columns;
                const auto to = [&](int64_t unit) { return chunk + unit * columns; };
                int64_t row = 0;
                do {
                    const T* near = d_a.at(block, row, those.first);
                    add_products<2, group>(
                        0, those.count * width, Walk{1, std::min(near_rows, rows - row), 0, G * width},
                        static_cast<const T*>(operands + (panel * largest + row) * columns), [&](int64_t unit) { return near + unit; },
                        [&](int64_t unit) -> const T* { return row ? to(unit) : zeros + 0; }, to);
                    row += near_rows;
                } while (row < rows);
                add_chunk(panel, block, those, chunk, first_chunk);
            }
        });
        member.share(blocks, [&](int64_t block, int64_t stop) {
            for (; block < stop; ++block)
                for (int n = 0; n < G * U; ++n) {
                    constexpr int64_t run = 16;  // rows added up by themselves: in one long sum each would be rounded to all before it
                    Vector<T> sum = {};
                    for (int64_t first = 0; first < rows; first += run) {
                        Vector<T> part = {};
                        for (int64_t row = first; row < std::min(rows, first + run); ++row) part += load(d_a.at(block, row) + n * V<T>);
                        sum += part;
                    }
                    T* at = d_b + block * G * width + n * V<T>;
                    store(at, load(at) + sum);
                }
        });
    }

    void add_chunk(int64_t panel, int64_t block, Gates those, const T* chunk, bool first_chunk) const {
        const int64_t there = in_place ? std::min(columns, (panel < of_x ? I : H) - first_column(panel)) : columns;
        for (int g = 0; g < those.count; ++g)
            for (int64_t u = 0; u < std::min(width, H - block * width); ++u) {
                const T* from = chunk + (g * width + u) * columns;
                T* to = sums_of(panel, block, those.first + g, u);
                for (int64_t k = 0; k < there; k += V<T>)
                    store(to + k, first_chunk ? load(from + k) : load(to + k, there - k) + load(from + k), there - k);
            }
    }

    // Hands out the gradients of weights, biases and the initial state.
    void finish(const Member& member) {
        member.share(blocks, [&](int64_t block, int64_t stop) {
            for (int64_t panel = 0; panel < (in_place ? 0 : panels); ++panel)
                for (int64_t each = block; each < stop; ++each) unpack(panel, each);
            for (; block < stop; ++block) unpack_biases(block);
        });
        member.share(call.batch, [&](int64_t i, int64_t stop) {
            for (; i < stop; ++i) {
                if (call.d_state[0].data) std::copy_n(d_h + i * of_h * columns, H, at(call.d_state[0])(i));
                if constexpr (Cell::states > 1)
                    if (call.d_state[1].data) std::copy_n(d_c + i * of_h * columns, H, at(call.d_state[1])(i));
            }
        });
    }

    void unpack(int64_t panel, int64_t block) const {
        const bool input = panel < of_x;
        const rnn_matrix& to = input ? call.d_W : call.d_R;
        if (!to.data) return;
        const int64_t first = first_column(panel), given = std::min(columns, (input ? I : H) - first);
        const Gates those = gates_of(panel);
        for (int g = those.first; g < those.first + those.count; ++g) {
            T* at = static_cast<T*>(to.data) + this->packed_row(g, block * width) * to.unit + first * to.input;
            const int64_t units = std::min(width, H - block * width);
            if (to.unit == 1) RNN_LEVEL::pack<T>(sums_of(panel, block, g, 0), columns, 1, units, given, at, to.input, width, 0);
            else RNN_LEVEL::pack<T>(sums_of(panel, block, g, 0), 1, columns, given, units, at, to.unit, columns, 0);
        }
    }

    // The gradient of a sum of biases is that of each; of the GRU's ñ the recurrent one has q's.
    void unpack_biases(int64_t block) const {
        for (int input = 0; input < 2; ++input) {
            T* to = static_cast<T*>(call.d_bias[input]);
            if (!to) continue;
            const Gates those = input == 1 && !Cell::resets_before ? Cell::of_state : Cell::of_input;
            for (int g = those.first; g < those.first + those.count; ++g)
                for (int64_t u = 0; u < std::min(width, H - block * width); ++u)
                    to[this->packed_row(g, block * width + u)] = d_b[(block * G + g) * width + u];
        }
    }
};

}  // namespace RNN_LEVEL
