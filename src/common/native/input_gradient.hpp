// The gradient of the inputs, from those of the pre-activations.
#pragma once

#include "pass.hpp"

namespace RNN_LEVEL {

template <class T, template <class> class CellOf> class InputGradient : Pass<T, CellOf> {
    using Base = Pass<T, CellOf>;
    using typename Base::Cell;
    using Base::at, Base::blocks, Base::call, Base::columns, Base::H, Base::I, Base::of_x, Base::start, Base::tile, Base::width, Base::X,
        Base::zeros;

    Buffer<T> W{call.d_x.data ? of_x * blocks * X * width * columns : 0};

  public:
    using Base::Base;
    using typename Base::Panels;

    // By itself, of all steps.
    void run() {
        const int64_t work = I * X * blocks * width * this->rows();
        in_team(call.host, this->threads(work), [this](const Member& member) {
            pack(member);
            member.wait();
            differentiate(member, this->all_steps(call.d_gates), 0, call.steps);
        });
    }

    void pack(const Member& member) const {
        member.share(of_x, [&](int64_t panel, int64_t stop) {
            for (; panel < stop; ++panel) this->pack_columns(panel, call.W, I, Cell::of_input, W + panel * blocks * X * width * columns);
        });
    }

    // ∂L/∂x_t = Wᵀ ∂L/∂a_t for the steps of a chunk, whose rows are those of `d_a`.
    void differentiate(const Member& member, const Panels& d_a, int64_t first_step, int64_t stop) const {
        const Walk walk{blocks, X * width, d_a.apart(), 1};
        this->share_rows(member, of_x, start[stop] - start[first_step], tile, [&](int64_t panel, int64_t, int64_t first, int64_t last) {
            int64_t step = first_step;
            add_products<2, tile>(
                first, last, walk, static_cast<const T*>(W + panel * blocks * X * width * columns),
                [&](int64_t i) -> const T* { return d_a.at(0, i, Cell::of_input.first); },
                [&](int64_t) -> const T* { return zeros + 0; },
                [&](int64_t i) {
                    const int64_t row = start[first_step] + i;
                    while (row >= start[step + 1]) ++step;
                    return at(call.d_x, step)(row - start[step]) + panel * columns;
                },
                I - panel * columns);
        });
    }
};

}  // namespace RNN_LEVEL
