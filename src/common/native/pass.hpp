// A cell over time, and back-propagation through time.
//
// - Forward, a chunk of steps at a time: W x_t + b for all of them, then step by step what W_h h_{t−1} adds, and the gates.
// - Backward, the chunks in reverse: step by step ∂L/∂a_t, and from it by the recurrent weights ∂L/∂h_{t−1}; then, for all steps
//   of the chunk, the gradients of the weights and of x.
//
// Units are worked on in blocks, of `width` units each, with all gates of a unit together: gates and pre-activations stand as
// [block][row][gate][unit of the block], where the rows are those of the sequences that have each step, one step after the other.
// A block that is not full is filled up with units of zero weights. The members of a team share the blocks of each step and wait
// for each other after it; who has which number changes nothing about how it is computed.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "cells.hpp"
#include "memory.hpp"
#include "product.hpp"
#include "team.hpp"

namespace RNN_LEVEL {

// Numbers at the alignment of vectors, not set to anything.
template <class T> class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(int64_t count) {
        const size_t bytes = (std::max<int64_t>(count, 1) * sizeof(T) + 63) / 64 * 64;
        data_ = {static_cast<T*>(rnn::take(bytes)), Give{bytes}};
        if (!data_) throw std::bad_alloc();
    }
    T* operator+(int64_t i) const { return data_.get() + i; }
    T& operator[](int64_t i) const { return data_.get()[i]; }

  private:
    struct Give {
        size_t bytes;
        void operator()(T* data) const { rnn::give(data, bytes); }
    };
    std::unique_ptr<T[], Give> data_;
};

inline int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

// What both passes share: sizes, and where everything stands.
template <class T, template <class> class CellOf> class Pass {
  public:
    explicit Pass(const rnn_call& given) : call(given) {
        start[0] = 0;
        for (int64_t t = 0; t < call.steps; ++t) start[t + 1] = start[t] + size(t);
        std::fill(zeros + 0, zeros + std::max(H, columns), T(0));
    }

  protected:
    using Cell = CellOf<T>;
    static constexpr int G = Cell::gates, U = Cell::vectors, X = Cell::of_input.count, S = Cell::of_state.count;
    static constexpr int64_t width = U * V<T>;
    static constexpr int64_t columns = 2 * V<T>;  // of what a product gives that is not gates
    static constexpr int tile = rows_of_tile<2>;  // rows of such a product

    const rnn_call& call;
    const int64_t H = call.hidden, I = call.input, blocks = parts(H, width), of_x = parts(I, columns);
    Buffer<int64_t> start{call.steps + 1};  // the first row of each step
    Buffer<T> zeros{std::max(H, columns)};

    int64_t rows() const { return start[call.steps]; }

    // How many sequences have step t.
    int64_t size(int64_t t) const { return t >= call.steps ? 0 : call.sizes ? call.sizes[t] : call.batch; }

    // The rows of a step, or of a state, by the sequences' places; none of what there is not.
    struct Rows {
        T* data;
        int64_t row;
        const int64_t* order;
        T* operator()(int64_t i) const { return data + (order ? order[i] : i) * row; }
        explicit operator bool() const { return data != nullptr; }
    };
    Rows at(const rnn_rows& given, int64_t t) const {
        if (!given.data) return {};
        return {static_cast<T*>(given.data) + (call.packed ? start[t] * given.row : t * given.step), given.row, call.order};
    }
    Rows at(const rnn_rows& state) const { return {static_cast<T*>(state.data), state.row, call.order}; }

    // State before step t: h or c.
    Rows before(int state, int64_t t) const {
        if (t > 0) return at(call.history[state], t - 1);
        return call.state[state].data ? at(call.state[state]) : Rows{zeros + 0, 0, nullptr};
    }

    // Where gate `gate` of a block has its weights, and those of its units; less than `width` in the last block.
    int64_t packed_row(int gate, int64_t unit) const { return call.places[gate_of(gate)] * H + unit; }

    // Which of the equations' gates one is: of the GRU in the order q r z n, q is n's.
    static int gate_of(int gate) {
        if constexpr (G == 4 && Cell::states == 1) return gate == 0 ? 2 : gate - 1;
        return gate;
    }

    // [block][row][gate][unit]
    struct Panels {
        T* data;
        int64_t rows;
        int64_t apart() const { return rows * G * width; }  // from one block to the next
        T* at(int64_t block, int64_t row, int gate = 0) const { return data + block * apart() + (row * G + gate) * width; }
        Panels from(int64_t row) const { return {at(0, row), rows}; }
    };

    // A block has room for an odd number of rows, lest the blocks of a row share their places in the cache.
    static int64_t spread(int64_t rows) { return rows | 1; }
    Panels all_steps(void* data) const { return {static_cast<T*>(data), spread(rows())}; }

    // The weights of a panel of columns: for each unit and gate, those that are there.
    void pack_columns(int64_t panel, const rnn_matrix& from, int64_t inputs, Gates those, T* to) const {
        const int64_t first = panel * columns, given = std::min(columns, inputs - first);
        for (int g = those.first; g < those.first + those.count; ++g)
            for (int64_t block = 0; block < blocks; ++block) {
                T* at = to + (block * those.count + g - those.first) * width * columns;
                const int64_t unit = block * width, there = std::min(width, H - unit);
                const T* W = weights(from, g, unit) + first * from.input;
                if (given < columns || there < width) std::fill(at, at + width * columns, T(0));
                RNN_LEVEL::pack(W, from.input, from.unit, given, there, at, columns, columns, 0);
            }
    }

    // Calls `work(block, how many of them, first row, last row + 1)` for a member's share of blocks and rows. It is several blocks, as
    // many as a single row is to be multiplied by at once, where there is a single row.
    template <int at_once = 1, class Work>
    static void share_rows(const Member& member, int64_t blocks, int64_t rows, int64_t tile, Work work) {
        const int64_t groups = parts(rows, tile);
        member.share(blocks * groups, [&](int64_t task, int64_t stop) {
            for (; rows == 1 && task + at_once <= stop; task += at_once) work(task, at_once, 0, 1);
            while (task < stop) {
                const int64_t block = task / groups, group = task % groups;
                const int64_t next = std::min(groups, group + stop - task);
                work(block, 1, group * tile, std::min(rows, next * tile));
                task += next - group;
            }
        });
    }

    int64_t steps_of_chunk(int64_t wanted) const { return std::max<int64_t>(1, wanted / std::max<int64_t>(1, call.batch)); }

    // Chunks of whole steps with some hundred rows.
    template <class Work> void each_chunk(int64_t wanted, bool backwards, Work work) const {
        const int64_t steps = steps_of_chunk(wanted);
        const int64_t chunks = parts(call.steps, steps);
        for (int64_t n = 0; n < chunks; ++n) {
            const int64_t chunk = backwards ? chunks - 1 - n : n;
            work(chunk * steps, std::min(call.steps, (chunk + 1) * steps));
        }
    }

    int64_t largest_chunk(int64_t wanted) const {
        int64_t largest = 0;
        each_chunk(wanted, false, [&](int64_t t, int64_t stop) { largest = std::max(largest, start[stop] - start[t]); });
        return largest;
    }

    // Whether weights are multiplied as they are: there are few rows, and many inputs.
    bool as_they_are(int64_t inputs) const { return inputs >= 128 && call.batch <= 1 && rows() <= 128; }

    const T* weights(const rnn_matrix& from, int gate, int64_t unit) const {
        return static_cast<const T*>(from.data) + packed_row(gate, unit) * from.unit;
    }

    int threads(int64_t per_step) const {
        constexpr int64_t enough = 1 << 15;  // multiply-adds, beside which waiting for each other is little
        return static_cast<int>(std::clamp<int64_t>(per_step / enough, 1, std::max(1, call.threads)));
    }
};

}  // namespace RNN_LEVEL
