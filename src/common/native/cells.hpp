// The cells: a step's equations, and beside them their derivatives, of as many units at once as a vector has numbers.
//
// `a` holds the pre-activations of the gates and, after the step, the gates. A step is in two parts, lest one activation wait for
// another: `open` has all that what `advance` computes, the gates `late` and h_t, is made of. `d_q` is ∂L/∂q. In retreat `d_h` and
// `d_c` come as ∂L/∂h_t and ∂L/∂c_t and go as their shares of ∂L/∂h_{t−1}, but for the recurrent product, and ∂L/∂c_{t−1}.
#pragma once

#include "vector.hpp"

// In registers from the gates that are loaded to those that are stored.
#define INLINED __attribute__((always_inline)) static inline

namespace RNN_LEVEL {

// A run of gates side by side.
struct Gates {
    int first, count;
};

template <class T> inline Vector<T> d_sigmoid(Vector<T> y) { return y * (1 - y); }
template <class T> inline Vector<T> d_tanh(Vector<T> y) { return 1 - y * y; }

// h_t = tanh(W_xh x_t + W_hh h_{t−1} + b_h)
template <class T> struct SimpleRNN {
    static constexpr int gates = 1, states = 1, vectors = 2;
    static constexpr Gates of_input = {0, 1}, of_state = {0, 1}, late = {0, 0};
    static constexpr bool keeps_gates = false, resets_before = false;

    INLINED void open(Vector<T> (&)[1], Vector<T>&) {}

    INLINED Vector<T> advance(Vector<T> (&a)[1], Vector<T>, Vector<T>) { return tanh<T>(a[0]); }

    INLINED void retreat(const Vector<T> (&)[1], Vector<T>, Vector<T> h, Vector<T>, Vector<T>, Vector<T>& d_h, Vector<T>&,
                        Vector<T> (&d_a)[1]) {
        d_a[0] = d_h * d_tanh<T>(h);
        d_h = Vector<T>{};
    }
};

// h_t = max(0, W_xh x_t + W_hh h_{t−1} + b_h)
template <class T> struct SimpleRNNOfReLU : SimpleRNN<T> {
    INLINED Vector<T> advance(Vector<T> (&a)[1], Vector<T>, Vector<T>) { return a[0] <= 0 ? Vector<T>{} : a[0]; }  // NaN stays

    INLINED void retreat(const Vector<T> (&)[1], Vector<T>, Vector<T> h, Vector<T>, Vector<T>, Vector<T>& d_h, Vector<T>&,
                        Vector<T> (&d_a)[1]) {
        d_a[0] = h <= 0 ? Vector<T>{} : d_h;
        d_h = Vector<T>{};
    }
};

// i_t = σ(a_i)   f_t = σ(a_f)   c̃_t = tanh(a_c)   o_t = σ(a_o)   with a_q = W_iq x_t + W_hq h_{t−1} + b_q
// c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t
// h_t = o_t ⊙ tanh(c_t)
template <class T> struct LSTM {
    static constexpr int gates = 4, states = 2, vectors = 1;
    static constexpr Gates of_input = {0, 4}, of_state = {0, 4}, late = {0, 0};
    static constexpr bool keeps_gates = true, resets_before = false;

    INLINED void open(Vector<T> (&a)[4], Vector<T>& c) {
        auto& [i, f, c_tilde, o] = a;
        i = sigmoid<T>(i);
        f = sigmoid<T>(f);
        c_tilde = tanh<T>(c_tilde);
        o = sigmoid<T>(o);
        c = f * c + i * c_tilde;
    }

    INLINED Vector<T> advance(Vector<T> (&a)[4], Vector<T>, Vector<T> c) {
        const Vector<T> o = a[3];
        return o * tanh<T>(c);
    }

    INLINED void retreat(const Vector<T> (&a)[4], Vector<T>, Vector<T>, Vector<T> c_before, Vector<T> c, Vector<T>& d_h,
                        Vector<T>& d_c, Vector<T> (&d_a)[4]) {
        const auto& [i, f, c_tilde, o] = a;
        const Vector<T> tanh_c = tanh<T>(c);
        d_c += d_h * (o * d_tanh<T>(tanh_c));
        d_a[0] = d_c * (c_tilde * d_sigmoid<T>(i));
        d_a[1] = d_c * (c_before * d_sigmoid<T>(f));
        d_a[2] = d_c * (i * d_tanh<T>(c_tilde));
        d_a[3] = d_h * (tanh_c * d_sigmoid<T>(o));
        d_c *= f;
        d_h = Vector<T>{};
    }
};

// r_t = σ(a_r)   z_t = σ(a_z)   with a_q = W_iq x_t + W_hq h_{t−1} + b_q
// q_t = W_hn h_{t−1} + b_hn
// ñ_t = tanh(W_in x_t + b_n + r_t ⊙ q_t)
// h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
//
// In the order q r z n, so that those of the state and those of the input each stand side by side.
template <class T> struct GRU {
    static constexpr int gates = 4, states = 1, vectors = 1;
    static constexpr Gates of_input = {1, 3}, of_state = {0, 3}, late = {3, 1};
    static constexpr bool keeps_gates = true, resets_before = false;

    INLINED void open(Vector<T> (&a)[4], Vector<T>&) {
        auto& [q, r, z, n_tilde] = a;
        r = sigmoid<T>(r);
        z = sigmoid<T>(z);
        n_tilde += r * q;
    }

    INLINED Vector<T> advance(Vector<T> (&a)[4], Vector<T> h_before, Vector<T>) {
        auto& [q, r, z, n_tilde] = a;
        n_tilde = tanh<T>(n_tilde);
        return (1 - z) * n_tilde + z * h_before;
    }

    INLINED void retreat(const Vector<T> (&a)[4], Vector<T> h_before, Vector<T>, Vector<T>, Vector<T>, Vector<T>& d_h, Vector<T>&,
                        Vector<T> (&d_a)[4]) {
        const auto& [q, r, z, n_tilde] = a;
        const Vector<T> d_a_n = d_h * ((1 - z) * d_tanh<T>(n_tilde));
        d_a[0] = d_a_n * r;
        d_a[1] = d_a_n * (q * d_sigmoid<T>(r));
        d_a[2] = d_h * ((h_before - n_tilde) * d_sigmoid<T>(z));
        d_a[3] = d_a_n;
        d_h *= z;
    }
};

// r_t = σ(a_r)   z_t = σ(a_z)   with a_q = W_iq x_t + W_hq h_{t−1} + b_q
// ñ_t = tanh(W_in x_t + W_hn (r_t ⊙ h_{t−1}) + b_n)
// h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
//
// In two halves either way, since W_hn multiplies what r_t is needed for. `reset` is r_t ⊙ h_{t−1}.
template <class T> struct GRUv3 {
    static constexpr int gates = 3, states = 1, vectors = 1;
    static constexpr Gates of_input = {0, 3}, of_state = {0, 2}, of_reset = {2, 1}, late = {2, 1};
    static constexpr bool keeps_gates = true, resets_before = true;

    INLINED Vector<T> reset(Vector<T> (&a)[3], Vector<T> h_before) {
        a[0] = sigmoid<T>(a[0]);
        return a[0] * h_before;
    }

    INLINED void open(Vector<T> (&a)[3], Vector<T>&) { a[1] = sigmoid<T>(a[1]); }

    INLINED Vector<T> advance(Vector<T> (&a)[3], Vector<T> h_before, Vector<T>) {
        auto& [r, z, n_tilde] = a;
        n_tilde = tanh<T>(n_tilde);
        return (1 - z) * n_tilde + z * h_before;
    }

    INLINED void retreat(const Vector<T> (&a)[3], Vector<T> h_before, Vector<T>, Vector<T>, Vector<T>, Vector<T>& d_h, Vector<T>&,
                        Vector<T> (&d_a)[3]) {
        const auto& [r, z, n_tilde] = a;
        d_a[0] = Vector<T>{};  // not yet known
        d_a[1] = d_h * ((h_before - n_tilde) * d_sigmoid<T>(z));
        d_a[2] = d_h * ((1 - z) * d_tanh<T>(n_tilde));
        d_h *= z;
    }

    // ∂L/∂a_r, and what ∂L/∂h_{t−1} gains, from ∂L/∂(r_t ⊙ h_{t−1}).
    INLINED Vector<T> retreat_reset(Vector<T> r, Vector<T> h_before, Vector<T> d_reset, Vector<T>& d_h) {
        d_h += d_reset * r;
        return d_reset * (h_before * d_sigmoid<T>(r));
    }
};

}  // namespace RNN_LEVEL
