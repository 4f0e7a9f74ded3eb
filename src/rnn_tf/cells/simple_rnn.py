"""The simple RNN (document, "Simple RNN")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rnn_common.cells import CELLS, SimpleRNNWeights
from rnn_tf.cells import kernel
from rnn_tf.cells.base import Activation, RNNCell, State, Tensor, apply, arguments


def step(w: SimpleRNNWeights, x_t: Tensor, state: State, activation: Activation = tf.tanh) -> State:
    """One step of the simple RNN (document, "Simple RNN"); `activation` stands in for tanh.

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)
    """
    (h,) = state
    h_t = activation(apply(w.W_hh, h) + apply(w.W_xh, x_t) + w.b_h)
    return (h_t,)


class Kernel(kernel.Kernel):
    """h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)."""

    blocks = 0
    recurrent = (0,)

    def inputs(self, w: Any) -> list[tuple[Tensor, Tensor]]:
        return [(w.W_xh, w.b_h)]

    def advance(self, w: Any, state: State, a: State) -> tuple[State, State]:
        (h,), (a_h,) = state, a
        h_t = self.activation(a_h + tf.matmul(h, w.W_hh))
        return (h_t,), ()

    def derivatives(self, gates: State, before: State, history: State) -> list[Tensor]:
        return list(history)

    def retreat(self, R: Sequence[Tensor], d_state: State, given: State) -> tuple[State, State]:
        (W_hh,), (d_h,), (h_t, d_h_t) = R, d_state, given
        d_a_h = self.activation_backward(d_h + d_h_t, h_t)
        return (tf.matmul(d_a_h, W_hh),), (d_a_h,)


@keras.saving.register_keras_serializable("rnn_tf")
class SimpleRNNCell(RNNCell):
    """One step of a simple RNN: drop-in for `keras.layers.SimpleRNNCell`.

    h' = tanh(W_xh x + W_hh h + b_h)  (document, "Simple RNN")

    Args:
        units: width of h.
        activation: stands in for tanh. Default `"tanh"`.
        use_bias: default True.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"`, `"zeros"`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: default None.
        kernel_constraint, recurrent_constraint, bias_constraint: default None.
        dropout, recurrent_dropout: of x and of h in training, in [0, 1]; one mask a sequence. Default 0.
        seed: of the dropout. Default None.

    Call arguments: `inputs (batch, features)`; `states`, `h (batch, units)` or `[h]`; `training`.

    Returns: `(h', states')`.

    Raises:
        ValueError: units below 1.
    """

    cell = CELLS["SimpleRNN"]
    activations = ("activation",)
    seed_before_initializers = True

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
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
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, arguments(locals()), kwargs)
