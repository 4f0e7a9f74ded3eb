// The kernels for one instruction set: compiled once for each, with RNN_LEVEL naming it.
#include "backward.hpp"
#include "forward.hpp"

#define NAME_(function, level) function##_##level
#define NAME(function, level) NAME_(function, level)

namespace RNN_LEVEL {

template <class T, class Work> auto of_cell(int32_t cell, Work work) {
    switch (cell) {
        case RNN_LSTM: return work.template operator()<LSTM>();
        case RNN_GRU: return work.template operator()<GRU>();
        case RNN_GRU_V3: return work.template operator()<GRUv3>();
        case RNN_SIMPLE_RELU: return work.template operator()<SimpleRNNOfReLU>();
        default: return work.template operator()<SimpleRNN>();
    }
}

template <class Work> auto of_type(const rnn_call& call, Work work) {
    if (call.bytes == 8) return of_cell<double>(call.cell, [&]<template <class> class Cell>() { return work.template operator()<double, Cell>(); });
    return of_cell<float>(call.cell, [&]<template <class> class Cell>() { return work.template operator()<float, Cell>(); });
}

template <template <class, template <class> class> class Pass> int run(const rnn_call& call) {
    try {
        of_type(call, [&]<class T, template <class> class Cell>() { Pass<T, Cell>(call).run(); });
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace RNN_LEVEL

extern "C" {

int32_t NAME(rnn_units, RNN_LEVEL)(int32_t cell, int32_t bytes) {
    const int32_t of_vector = RNN_BYTES / bytes;
    return RNN_LEVEL::of_cell<float>(cell, [&]<template <class> class Cell>() { return Cell<float>::vectors * of_vector; });
}
int32_t NAME(rnn_gates, RNN_LEVEL)(int32_t cell) {
    return RNN_LEVEL::of_cell<float>(cell, []<template <class> class Cell>() { return Cell<float>::gates; });
}
int32_t NAME(rnn_keeps, RNN_LEVEL)(int32_t cell) {
    return RNN_LEVEL::of_cell<float>(cell, []<template <class> class Cell>() { return Cell<float>::keeps_gates; });
}
int NAME(rnn_forward, RNN_LEVEL)(const rnn_call* call) { return RNN_LEVEL::run<RNN_LEVEL::Forward>(*call); }
int NAME(rnn_backward, RNN_LEVEL)(const rnn_call* call) { return RNN_LEVEL::run<RNN_LEVEL::Backward>(*call); }
int NAME(rnn_input_gradient, RNN_LEVEL)(const rnn_call* call) { return RNN_LEVEL::run<RNN_LEVEL::InputGradient>(*call); }

void NAME(rnn_activate, RNN_LEVEL)(int32_t bytes, int32_t sigmoid, int64_t count, void* numbers) {
    const auto activate = [&]<class T>(T* x) {
        for (int64_t i = 0; i < count; i += RNN_LEVEL::V<T>) {
            const auto each = RNN_LEVEL::load(x + i, count - i);
            RNN_LEVEL::store(x + i, sigmoid ? RNN_LEVEL::sigmoid<T>(each) : RNN_LEVEL::tanh<T>(each), count - i);
        }
    };
    if (bytes == 8) activate(static_cast<double*>(numbers));
    else activate(static_cast<float*>(numbers));
}

}
