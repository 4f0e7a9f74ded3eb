// What a framework calls, by the kernels of the widest instruction set that this machine has.
#include "recurrent.h"

#include <cstring>

namespace {

struct Kernels {
    const char* level;
    bool supported;
    int32_t (*units)(int32_t, int32_t);
    int32_t (*gates)(int32_t);
    int32_t (*keeps)(int32_t);
    int (*forward)(const rnn_call*);
    int (*backward)(const rnn_call*);
    int (*input_gradient)(const rnn_call*);
    void (*activate)(int32_t, int32_t, int64_t, void*);
};

}  // namespace

#define DECLARE(level)                                        \
    int32_t rnn_units_##level(int32_t, int32_t);              \
    int32_t rnn_gates_##level(int32_t);                       \
    int32_t rnn_keeps_##level(int32_t);                       \
    int rnn_forward_##level(const rnn_call*);                 \
    int rnn_backward_##level(const rnn_call*);                \
    int rnn_input_gradient_##level(const rnn_call*);          \
    void rnn_activate_##level(int32_t, int32_t, int64_t, void*);

#define KERNELS(level, supported)                                                    \
    {#level,                                                                         \
     supported,                                                                      \
     rnn_units_##level,                                                              \
     rnn_gates_##level,                                                              \
     rnn_keeps_##level,                                                              \
     rnn_forward_##level,                                                            \
     rnn_backward_##level,                                                           \
     rnn_input_gradient_##level,                                                     \
     rnn_activate_##level}

extern "C" {
#if defined(__x86_64__)
DECLARE(avx512)
DECLARE(avx2)
#endif
DECLARE(baseline)
}

namespace {

const Kernels all[] = {
#if defined(__x86_64__)
    KERNELS(avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")),
    KERNELS(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")),
#endif
    KERNELS(baseline, true),
};

const Kernels* widest() {
    for (const Kernels& each : all)
        if (each.supported) return &each;
    return nullptr;
}

const Kernels* kernels = widest();

}  // namespace

extern "C" {

int32_t rnn_units(int32_t cell, int32_t bytes) { return kernels->units(cell, bytes); }
int32_t rnn_gates(int32_t cell) { return kernels->gates(cell); }
int32_t rnn_keeps(int32_t cell) { return kernels->keeps(cell); }
int rnn_forward(const rnn_call* call) { return kernels->forward(call); }
int rnn_backward(const rnn_call* call) { return kernels->backward(call); }
int rnn_input_gradient(const rnn_call* call) { return kernels->input_gradient(call); }
void rnn_activate(int32_t bytes, int32_t sigmoid, int64_t count, void* numbers) { kernels->activate(bytes, sigmoid, count, numbers); }
const char* rnn_level(void) { return kernels->level; }

int rnn_use(const char* level) {
    for (const Kernels& each : all)
        if (each.supported && std::strcmp(each.level, level) == 0) {
            kernels = &each;
            return 0;
        }
    return 1;
}

}
