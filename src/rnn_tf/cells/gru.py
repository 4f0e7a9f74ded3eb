"""The GRU in its first form, whose reset gate acts after the recurrent product (Cho et al. 2014, arXiv 1406.1078v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rnn_common.cells import CELLS, Cell, GRUWeights
from rnn_tf.cells import kernel
from rnn_tf.cells.base import Activation, RNNCell, State, Tensor, apply, arguments


def step(
    w: GRUWeights,
    x_t: Tensor,
    state: State,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
) -> State:
    """One step of the GRU (Cho et al. 2014, arXiv 1406.1078); `activation` for tanh, `recurrent_activation` for σ.

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn))
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    r_t = recurrent_activation(apply(w.W_ir, x_t) + apply(w.W_hr, h) + w.b_r)
    z_t = recurrent_activation(apply(w.W_iz, x_t) + apply(w.W_hz, h) + w.b_z)
    q_t = apply(w.W_hn, h) + w.b_hn
    n_tilde = activation(apply(w.W_in, x_t) + w.b_n + r_t * q_t)
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,)


class Kernel(kernel.Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + r_t ⊙ q_t) with q_t = W_hn h_{t−1} + b_hn;
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Gates: z r ñ, as Keras packs them, and q.
    """

    blocks = 4
    recurrent = (0, 1, 3)

    def inputs(self, w: Any) -> list[tuple[Tensor, Tensor]]:
        return [(w.W_iz, w.b_z), (w.W_ir, w.b_r), (w.W_in, w.b_n)]

    def advance(self, w: Any, state: State, a: State) -> tuple[State, State]:
        σ, tanh = self.recurrent_activation, self.activation
        (h,), (a_z, a_r, a_n) = state, a
        z_t = σ(a_z + tf.matmul(h, w.W_hz))
        r_t = σ(a_r + tf.matmul(h, w.W_hr))
        q_t = kernel.product(h, w.W_hn, w.b_hn)
        n_tilde = tanh(a_n + r_t * q_t)
        h_t = (1 - z_t) * n_tilde + z_t * h
        return (h_t,), (z_t, r_t, n_tilde, q_t)

    def derivatives(self, gates: State, before: State, history: State) -> list[Tensor]:
        z, r, n_tilde, q = gates
        h_by_n = self.activation_backward(1 - z, n_tilde)  # ∂h_t/∂a_n
        h_by_z = self.recurrent_backward(before[0] - n_tilde, z)  # ∂h_t/∂a_z
        h_by_r = self.recurrent_backward(h_by_n * q, r)  # ∂h_t/∂a_r
        h_by_q = h_by_n * r  # ∂h_t/∂q_t
        return [h_by_z, h_by_r, h_by_n, h_by_q, z]

    def retreat(self, R: Sequence[Tensor], d_state: State, given: State) -> tuple[State, State]:
        scaled, (W_hz, W_hr, W_hn) = self.scaled, R
        (d_h,), (h_by_z, h_by_r, h_by_n, h_by_q, z_t, d_h_t) = d_state, given
        d_h = d_h + d_h_t
        d_a_z, d_a_r = scaled(d_h, h_by_z), scaled(d_h, h_by_r)
        d_a_n, d_q = scaled(d_h, h_by_n), scaled(d_h, h_by_q)
        d_h_before = tf.add_n([d_h * z_t, tf.matmul(d_a_z, W_hz), tf.matmul(d_a_r, W_hr), tf.matmul(d_q, W_hn)])
        return (d_h_before,), (d_a_z, d_a_r, d_a_n, d_q)


@keras.saving.register_keras_serializable("rnn_tf")
class GRUCell(RNNCell):
    """One step of a GRU: drop-in for `keras.layers.GRUCell`.

    r, z = σ(W_i· x + W_h· h + b_·)
    ñ = tanh(W_in x + b_n + r ⊙ (W_hn h + b_hn)), or tanh(W_in x + b_n + W_hn (r ⊙ h)) without `reset_after`
    h' = (1 − z) ⊙ ñ + z ⊙ h  (Cho et al. 2014, arXiv 1406.1078)

    Args:
        units: width of h.
        activation: stands in for tanh. Default `"tanh"`.
        recurrent_activation: stands in for σ. Default `"sigmoid"`.
        use_bias: default True.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"`, `"zeros"`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: default None.
        kernel_constraint, recurrent_constraint, bias_constraint: default None.
        dropout, recurrent_dropout: of x and of h in training, in [0, 1]; one mask a sequence, with recurrent dropout
            one a gate and sequence. Default 0.
        reset_after: whether the reset gate acts after the recurrent product (default) or before it.
        seed: of the dropout. Default None.

    Call arguments: `inputs (batch, features)`; `states`, `h (batch, units)` or `[h]`; `training`.

    Returns: `(h', states')`.

    Raises:
        ValueError: units below 1.
    """

    own_options = ("reset_after",)

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, arguments(locals()), kwargs)

    @property
    def cell(self) -> Cell:
        return CELLS["GRU" if self.reset_after else "GRU v3"]
