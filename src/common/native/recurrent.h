/* Recurrent layers over time and back: what a framework calls. Plain C; no framework, no Python, no OpenMP.
 *
 * Data are rows of numbers that stand side by side. Row b of step t of a tensor begins `t * step + b * row` numbers behind `data`.
 * A weight's number for unit u of gate g and input k stands `(place of g * hidden + u) * unit + k * input` numbers behind `data`,
 * so that PyTorch's and Keras's packings are both read and written as they are.
 */
#ifndef RNN_RECURRENT_H
#define RNN_RECURRENT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum rnn_cell { RNN_SIMPLE_TANH, RNN_SIMPLE_RELU, RNN_LSTM, RNN_GRU, RNN_GRU_V3 };

/* How a host starts threads; the functions are those of GNU's OpenMP, GOMP_parallel, omp_get_thread_num and omp_get_num_threads. */
typedef struct {
    void (*parallel)(void (*body)(void*), void* context, unsigned threads, unsigned flags);
    int (*id)(void);
    int (*count)(void);
} rnn_host;

typedef struct {
    void* data; /* NULL: there is none */
    int64_t step, row;
} rnn_rows;

typedef struct {
    void* data;
    int64_t unit, input;
} rnn_matrix;

/* Everything about a call. All sizes and strides are in numbers, and every pointer is to numbers of `bytes` bytes. */
typedef struct {
    int32_t cell;  /* rnn_cell */
    int32_t bytes; /* 4: float, 8: double */
    int64_t steps, batch, input, hidden;
    const int64_t* sizes; /* (steps,): how many sequences have each step, none more than the one before; NULL: all */
    const int64_t* order; /* (batch,): which row is the i-th longest sequence; NULL: the i-th */
    int32_t packed;       /* of x, history, d_history and d_x: a step's rows stand behind those of the step before; `step` is not read */
    int32_t places[4];    /* where the packed weights have each gate; the gates' order is that of the equations: i f c o, r z n */
    int32_t threads;      /* at the most */
    const rnn_host* host; /* NULL: one thread */

    rnn_rows x;           /* (steps, batch, input) */
    rnn_rows state[2];    /* h_0 and, of an LSTM, c_0: (1, batch, hidden); NULL: zeros */
    rnn_matrix W, R;      /* input and recurrent weights */
    const void* bias[2];  /* (gates * hidden,): they are added, but for the GRU's last gate; NULL: zeros */

    rnn_rows history[2];  /* every h_t and every c_t; the latter may be NULL in a forward pass whose gates are not kept */
    rnn_rows final[2];    /* the state after each sequence's last step */
    void* gates;          /* as rnn_units and rnn_gates say, which the backward pass needs; NULL: they are not kept */

    /* Of the backward pass, NULL where it is zero or not wanted. */
    rnn_rows d_history[2];
    rnn_rows d_final[2];
    rnn_rows d_x;
    rnn_rows d_state[2];
    rnn_matrix d_W, d_R;
    void* d_bias[2];
    void* d_gates; /* the gradients of the pre-activations of all steps, laid out as the gates; they may stand in the gates' place
                      but for a cell that resets before */
} rnn_call;

/* Gates are kept as [block][row][gate][unit of the block]: how many units a block has, and how many gates. A row is that of a
 * sequence at a step; where the number of rows is even there is room for one more. Those of a cell that `rnn_keeps` not are its
 * states, and only their gradients have this form. */
int32_t rnn_units(int32_t cell, int32_t bytes);
int32_t rnn_gates(int32_t cell);
int32_t rnn_keeps(int32_t cell);

/* Fills `history`, `final` and, if it is there, `gates`. Returns 0, or 1 if memory is short. */
int rnn_forward(const rnn_call* call);

/* Fills what is wanted of d_x, d_state, d_W, d_R, d_bias and d_gates. Returns 0, or 1 if memory is short. */
int rnn_backward(const rnn_call* call);

/* Fills d_x from W and d_gates. Returns 0, or 1 if memory is short. */
int rnn_input_gradient(const rnn_call* call);

/* The instruction set that is used: "avx512", "avx2" or "baseline". */
const char* rnn_level(void);

/* Uses another. Returns 0, or 1 if this machine has it not. For tests, while no call runs. */
int rnn_use(const char* level);

/* sigma (1) or tanh (0) of `count` numbers in place. For tests. */
void rnn_activate(int32_t bytes, int32_t sigmoid, int64_t count, void* numbers);

#ifdef __cplusplus
}
#endif

#endif
