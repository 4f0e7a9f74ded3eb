"""The GRU in its first form, whose reset gate acts after the recurrent product (Cho et al. 2014, arXiv 1406.1078v1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnn_common.cells import GRUWeights
from rnn_common.equations.arithmetic import Activation, Array, State, sigmoid


class Trace(NamedTuple):
    """What one step leaves for its backward pass; `a_*` are pre-activations, `q_t` the candidate's recurrent product."""

    x_t: Array
    h: Array
    a_r: Array
    a_z: Array
    a_n: Array
    r_t: Array
    z_t: Array
    n_tilde: Array
    q_t: Array


def step(
    w: GRUWeights,
    x_t: Array,
    state: State,
    activation: Activation = np.tanh,
    recurrent_activation: Activation = sigmoid,
) -> tuple[State, Trace]:
    """One step of the GRU. `activation` stands in for tanh, `recurrent_activation` for σ.

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn))
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    a_r = x_t @ w.W_ir.T + h @ w.W_hr.T + w.b_r
    a_z = x_t @ w.W_iz.T + h @ w.W_hz.T + w.b_z
    r_t, z_t = recurrent_activation(a_r), recurrent_activation(a_z)
    q_t = h @ w.W_hn.T + w.b_hn
    a_n = x_t @ w.W_in.T + w.b_n + r_t * q_t
    n_tilde = activation(a_n)
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,), Trace(x_t, h, a_r, a_z, a_n, r_t, z_t, n_tilde, q_t)


def step_backward(w: GRUWeights, s: Trace, d_state: State) -> tuple[Array, State, GRUWeights]:
    """The derivative of `step` with tanh and σ: from ∂L/∂h_t to ∂L/∂x_t, ∂L/∂h_{t−1} and ∂L/∂W."""
    (d_h_t,) = d_state
    d_a_n = d_h_t * (1 - s.z_t) * (1 - s.n_tilde**2)
    d_a_z = d_h_t * (s.h - s.n_tilde) * s.z_t * (1 - s.z_t)
    d_q_t = d_a_n * s.r_t
    d_a_r = d_a_n * s.q_t * s.r_t * (1 - s.r_t)
    d_w = GRUWeights(
        W_ir=d_a_r.T @ s.x_t,
        W_iz=d_a_z.T @ s.x_t,
        W_in=d_a_n.T @ s.x_t,
        W_hr=d_a_r.T @ s.h,
        W_hz=d_a_z.T @ s.h,
        W_hn=d_q_t.T @ s.h,
        b_r=d_a_r.sum(0),
        b_z=d_a_z.sum(0),
        b_n=d_a_n.sum(0),
        b_hn=d_q_t.sum(0),
    )
    d_x_t = d_a_r @ w.W_ir + d_a_z @ w.W_iz + d_a_n @ w.W_in
    d_h = d_a_r @ w.W_hr + d_a_z @ w.W_hz + d_q_t @ w.W_hn + d_h_t * s.z_t
    return d_x_t, (d_h,), d_w
