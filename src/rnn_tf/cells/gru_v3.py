"""The GRU in its third form, whose reset gate acts before the recurrent product (Cho et al. 2014, arXiv 1406.1078v3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rnn_common.cells import GRUv3Weights
from rnn_tf.cells import kernel
from rnn_tf.cells.base import Activation, State, Tensor, apply


def step(
    w: GRUv3Weights,
    x_t: Tensor,
    state: State,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
) -> State:
    """One step of the third form of the GRU (Cho et al. 2014, arXiv 1406.1078v3).

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1}))
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    r_t = recurrent_activation(apply(w.W_ir, x_t) + apply(w.W_hr, h) + w.b_r)
    z_t = recurrent_activation(apply(w.W_iz, x_t) + apply(w.W_hz, h) + w.b_z)
    n_tilde = activation(apply(w.W_in, x_t) + w.b_n + apply(w.W_hn, r_t * h))
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,)


class Kernel(kernel.Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1})); h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Gates: z r ñ, as Keras packs them.
    """

    blocks = 3
    recurrent = (0, 1, 2)

    def inputs(self, w: Any) -> list[tuple[Tensor, Tensor]]:
        return [(w.W_iz, w.b_z), (w.W_ir, w.b_r), (w.W_in, w.b_n)]

    def operands(self, gates: State, h: Tensor) -> list[Tensor]:
        return [h, h, gates[1] * h]

    def advance(self, w: Any, state: State, a: State) -> tuple[State, State]:
        σ, tanh = self.recurrent_activation, self.activation
        (h,), (a_z, a_r, a_n) = state, a
        z_t = σ(a_z + tf.matmul(h, w.W_hz))
        r_t = σ(a_r + tf.matmul(h, w.W_hr))
        n_tilde = tanh(a_n + tf.matmul(r_t * h, w.W_hn))
        h_t = (1 - z_t) * n_tilde + z_t * h
        return (h_t,), (z_t, r_t, n_tilde)

    def derivatives(self, gates: State, before: State, history: State) -> list[Tensor]:
        z, r, n_tilde = gates
        h_by_n = self.activation_backward(1 - z, n_tilde)  # ∂h_t/∂a_n
        h_by_z = self.recurrent_backward(before[0] - n_tilde, z)  # ∂h_t/∂a_z
        reset_h_by_r = self.recurrent_backward(before[0], r)  # ∂(r_t ⊙ h_{t−1})/∂a_r
        return [h_by_z, h_by_n, reset_h_by_r, z, r]

    def retreat(self, R: Sequence[Tensor], d_state: State, given: State) -> tuple[State, State]:
        scaled, (W_hz, W_hr, W_hn) = self.scaled, R
        (d_h,), (h_by_z, h_by_n, reset_h_by_r, z_t, r_t, d_h_t) = d_state, given
        d_h = d_h + d_h_t
        d_a_z, d_a_n = scaled(d_h, h_by_z), scaled(d_h, h_by_n)
        d_reset_h = tf.matmul(d_a_n, W_hn)
        d_a_r = scaled(d_reset_h, reset_h_by_r)
        d_h_before = tf.add_n([d_h * z_t, d_reset_h * r_t, tf.matmul(d_a_z, W_hz), tf.matmul(d_a_r, W_hr)])
        return (d_h_before,), (d_a_z, d_a_r, d_a_n)
