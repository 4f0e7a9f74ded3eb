"""The simple RNN (document, "Simple RNN")."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnn_common.cells import SimpleRNNWeights
from rnn_common.equations.arithmetic import Activation, Array, State


class Trace(NamedTuple):
    """What one step leaves for its backward pass; `a_*` are pre-activations."""

    x_t: Array
    h: Array
    a_h: Array
    h_t: Array


def step(w: SimpleRNNWeights, x_t: Array, state: State, activation: Activation = np.tanh) -> tuple[State, Trace]:
    """One step of the simple RNN (document, "Simple RNN"); `activation` stands in for tanh.

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)
    """
    (h,) = state
    a_h = h @ w.W_hh.T + x_t @ w.W_xh.T + w.b_h
    h_t = activation(a_h)
    return (h_t,), Trace(x_t, h, a_h, h_t)


def step_backward(w: SimpleRNNWeights, s: Trace, d_state: State) -> tuple[Array, State, SimpleRNNWeights]:
    """The derivative of `step` with tanh: from ∂L/∂h_t to ∂L/∂x_t, ∂L/∂h_{t−1} and ∂L/∂W."""
    (d_h_t,) = d_state
    d_a_h = d_h_t * (1 - s.h_t**2)
    d_w = SimpleRNNWeights(W_xh=d_a_h.T @ s.x_t, W_hh=d_a_h.T @ s.h, b_h=d_a_h.sum(0))
    return d_a_h @ w.W_xh, (d_a_h @ w.W_hh,), d_w
