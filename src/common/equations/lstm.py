"""The LSTM (document, "LSTM"; Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnn_common.cells import LSTMWeights
from rnn_common.equations.arithmetic import Activation, Array, State, sigmoid


class Trace(NamedTuple):
    """What one step leaves for its backward pass; `a_*` are pre-activations, `c_t` the argument of the last tanh."""

    x_t: Array
    h: Array
    c: Array
    a_i: Array
    a_f: Array
    a_o: Array
    a_c: Array
    i_t: Array
    f_t: Array
    o_t: Array
    c_tilde: Array
    c_t: Array


def step(
    w: LSTMWeights,
    x_t: Array,
    state: State,
    activation: Activation = np.tanh,
    recurrent_activation: Activation = sigmoid,
    output_activation: Activation | None = None,
) -> tuple[State, Trace]:
    """One step of the LSTM (document, "LSTM"; Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000).

    `activation` stands in for tanh, `recurrent_activation` for σ, `output_activation` for the tanh of c_t, where it is another.

    i_t = σ(W_ii x_t + W_hi h_{t−1} + b_i)
    f_t = σ(W_if x_t + W_hf h_{t−1} + b_f)
    o_t = σ(W_io x_t + W_ho h_{t−1} + b_o)
    c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t
    h_t = o_t ⊙ tanh(c_t)
    """
    h, c = state
    a_i = x_t @ w.W_ii.T + h @ w.W_hi.T + w.b_i
    a_f = x_t @ w.W_if.T + h @ w.W_hf.T + w.b_f
    a_o = x_t @ w.W_io.T + h @ w.W_ho.T + w.b_o
    a_c = x_t @ w.W_ic.T + h @ w.W_hc.T + w.b_c
    i_t, f_t, o_t = recurrent_activation(a_i), recurrent_activation(a_f), recurrent_activation(a_o)
    c_tilde = activation(a_c)
    c_t = f_t * c + i_t * c_tilde
    h_t = o_t * (output_activation or activation)(c_t)
    return (h_t, c_t), Trace(x_t, h, c, a_i, a_f, a_o, a_c, i_t, f_t, o_t, c_tilde, c_t)


def step_backward(w: LSTMWeights, s: Trace, d_state: State) -> tuple[Array, State, LSTMWeights]:
    """The derivative of `step` with tanh and σ: from ∂L/∂h_t, ∂L/∂c_t to ∂L/∂x_t, ∂L/∂h_{t−1}, ∂L/∂c_{t−1} and ∂L/∂W."""
    d_h_t, d_c_t = d_state
    tanh_c_t = np.tanh(s.c_t)
    d_o_t = d_h_t * tanh_c_t
    d_c_t = d_c_t + d_h_t * s.o_t * (1 - tanh_c_t**2)
    d_a_i = d_c_t * s.c_tilde * s.i_t * (1 - s.i_t)
    d_a_f = d_c_t * s.c * s.f_t * (1 - s.f_t)
    d_a_o = d_o_t * s.o_t * (1 - s.o_t)
    d_a_c = d_c_t * s.i_t * (1 - s.c_tilde**2)
    d_w = LSTMWeights(
        W_ii=d_a_i.T @ s.x_t,
        W_if=d_a_f.T @ s.x_t,
        W_io=d_a_o.T @ s.x_t,
        W_ic=d_a_c.T @ s.x_t,
        W_hi=d_a_i.T @ s.h,
        W_hf=d_a_f.T @ s.h,
        W_ho=d_a_o.T @ s.h,
        W_hc=d_a_c.T @ s.h,
        b_i=d_a_i.sum(0),
        b_f=d_a_f.sum(0),
        b_o=d_a_o.sum(0),
        b_c=d_a_c.sum(0),
    )
    d_x_t = d_a_i @ w.W_ii + d_a_f @ w.W_if + d_a_o @ w.W_io + d_a_c @ w.W_ic
    d_h = d_a_i @ w.W_hi + d_a_f @ w.W_hf + d_a_o @ w.W_ho + d_a_c @ w.W_hc
    return d_x_t, (d_h, d_c_t * s.f_t), d_w
