"""The LSTM (document, "LSTM")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rnn_common.cells import CELLS, LSTMWeights
from rnn_tf.cells import kernel
from rnn_tf.cells.base import Activation, RNNCell, State, Tensor, apply, arguments


def step(
    w: LSTMWeights,
    x_t: Tensor,
    state: State,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
) -> State:
    """One step of the LSTM (document, "LSTM"); `activation` stands in for tanh, `recurrent_activation` for σ.

    i_t = σ(W_ii x_t + W_hi h_{t−1} + b_i)
    f_t = σ(W_if x_t + W_hf h_{t−1} + b_f)
    o_t = σ(W_io x_t + W_ho h_{t−1} + b_o)
    c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t
    h_t = o_t ⊙ tanh(c_t)
    """
    h, c = state
    i_t = recurrent_activation(apply(w.W_ii, x_t) + apply(w.W_hi, h) + w.b_i)
    f_t = recurrent_activation(apply(w.W_if, x_t) + apply(w.W_hf, h) + w.b_f)
    o_t = recurrent_activation(apply(w.W_io, x_t) + apply(w.W_ho, h) + w.b_o)
    c_tilde = activation(apply(w.W_ic, x_t) + apply(w.W_hc, h) + w.b_c)
    c_t = f_t * c + i_t * c_tilde
    h_t = o_t * activation(c_t)
    return h_t, c_t


class Kernel(kernel.Kernel):
    """i_t, f_t, o_t = σ(a_·), c̃_t = tanh(a_c); c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t; h_t = o_t ⊙ tanh(c_t).

    Gates: i f c̃ o, as Keras packs them.
    """

    blocks = 4
    recurrent = (0, 1, 2, 3)

    def inputs(self, w: Any) -> list[tuple[Tensor, Tensor]]:
        return [(w.W_ii, w.b_i), (w.W_if, w.b_f), (w.W_ic, w.b_c), (w.W_io, w.b_o)]

    def advance(self, w: Any, state: State, a: State) -> tuple[State, State]:
        σ, tanh = self.recurrent_activation, self.activation
        (h, c), (a_i, a_f, a_c, a_o) = state, a
        i_t = σ(a_i + tf.matmul(h, w.W_hi))
        f_t = σ(a_f + tf.matmul(h, w.W_hf))
        c_tilde = tanh(a_c + tf.matmul(h, w.W_hc))
        o_t = σ(a_o + tf.matmul(h, w.W_ho))
        c_t = f_t * c + i_t * c_tilde
        h_t = o_t * tanh(c_t)
        return (h_t, c_t), (i_t, f_t, c_tilde, o_t)

    def derivatives(self, gates: State, before: State, history: State) -> list[Tensor]:
        i, f, c_tilde, o = gates
        c_by_i = self.recurrent_backward(c_tilde, i)  # ∂c_t/∂a_i
        c_by_f = self.recurrent_backward(before[1], f)  # ∂c_t/∂a_f
        c_by_c = self.activation_backward(i, c_tilde)  # ∂c_t/∂a_c
        tanh_c = self.activation(history[1])
        h_by_o = self.recurrent_backward(tanh_c, o)  # ∂h_t/∂a_o
        h_by_c = self.activation_backward(o, tanh_c)  # ∂h_t/∂c_t
        return [c_by_i, c_by_f, c_by_c, h_by_o, h_by_c, f]

    def retreat(self, R: Sequence[Tensor], d_state: State, given: State) -> tuple[State, State]:
        scaled, (W_hi, W_hf, W_hc, W_ho) = self.scaled, R
        (d_h, d_c), (c_by_i, c_by_f, c_by_c, h_by_o, h_by_c, f_t, d_h_t, *d_c_t) = d_state, given
        d_h = d_h + d_h_t
        d_c = tf.add_n([d_c, scaled(d_h, h_by_c), *d_c_t])
        d_a_i, d_a_f, d_a_c = scaled(d_c, c_by_i), scaled(d_c, c_by_f), scaled(d_c, c_by_c)
        d_a_o = scaled(d_h, h_by_o)
        d_h_before = tf.add_n(
            [tf.matmul(d_a_i, W_hi), tf.matmul(d_a_f, W_hf), tf.matmul(d_a_c, W_hc), tf.matmul(d_a_o, W_ho)]
        )
        return (d_h_before, d_c * f_t), (d_a_i, d_a_f, d_a_c, d_a_o)


@keras.saving.register_keras_serializable("rnn_tf")
class LSTMCell(RNNCell):
    """One step of an LSTM: drop-in for `keras.layers.LSTMCell`.

    i, f, o = σ(W_i· x + W_h· h + b_·);  c̃ = tanh(W_ic x + W_hc h + b_c)
    c' = f ⊙ c + i ⊙ c̃;  h' = o ⊙ tanh(c')  (document, "LSTM")

    Args:
        units: width of h and c.
        activation: stands in for tanh. Default `"tanh"`.
        recurrent_activation: stands in for σ. Default `"sigmoid"`.
        use_bias: default True.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"`, `"zeros"`.
        unit_forget_bias: start with ones in b_f (Jozefowicz et al. 2015). Default True.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: default None.
        kernel_constraint, recurrent_constraint, bias_constraint: default None.
        dropout, recurrent_dropout: of x and of h in training, in [0, 1]; one mask a sequence, with recurrent dropout
            one a gate and sequence. Default 0.
        seed: of the dropout. Default None.

    Call arguments: `inputs (batch, features)`; `states = [h, c]`, each `(batch, units)`; `training`.

    Returns: `(h', [h', c'])`.

    Raises:
        ValueError: units below 1.
    """

    cell = CELLS["LSTM"]
    own_options = ("unit_forget_bias",)

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
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

    def _bias_initializer(self) -> Any:
        if not self.unit_forget_bias:
            return self.bias_initializer

        def with_unit_forget_bias(_: Any, *args: Any, **kwargs: Any) -> Tensor:
            b_i, b_c_and_b_o = (self.bias_initializer((n * self.units,), *args, **kwargs) for n in (1, 2))
            b_f = keras.initializers.Ones()((self.units,), *args, **kwargs)
            return keras.ops.concatenate([b_i, b_f, b_c_and_b_o])

        return with_unit_forget_bias
