"""The layers, drop-in for `keras.layers.SimpleRNN`, `LSTM` and `GRU`."""

from __future__ import annotations

from typing import Any

import keras

from rnn_tf.cells import GRUCell, LSTMCell, SimpleRNNCell
from rnn_tf.cells.base import arguments
from rnn_tf.layer import Layer, delegated


@keras.saving.register_keras_serializable("rnn_tf")
class SimpleRNN(Layer):
    """A simple RNN over a sequence: drop-in for `keras.layers.SimpleRNN`.

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)  (document, "Simple RNN")

    Args:
        units: width of h_t.
        activation: stands in for tanh. Default `"tanh"`.
        use_bias: default True.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"`, `"zeros"`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: default None.
        kernel_constraint, recurrent_constraint, bias_constraint: default None.
        dropout, recurrent_dropout: of x_t and of h_{t−1} in training, in [0, 1]; one mask a sequence. Default 0.
        seed: of the dropout. Default None.
        return_sequences: return the output of every step, not of the last. Default False.
        return_state: return the final state besides. Default False.
        go_backwards: run from the last step to the first, and return the outputs in that order. Default False.
        stateful: start each batch from the final states of the one before. Default False.
        unroll: write the loop out in the graph. Default False.
        return_all_states: return the final states and, after them, every state at every step, each
            `(batch, time, units)`, in the order of the input. Default False.
        engine: how the cell is run over time, a name in `rnn_tf.ENGINES` or `"auto"` (default).
        zero_output_for_mask: outputs of skipped steps are zeros, not the output before. Default False.

    Call arguments: `sequences (batch, time, features)`; `initial_state`, `[h (batch, units)]`; `mask (batch, time)`;
        `training`.

    Raises:
        ValueError: an argument out of range, or inputs of the wrong shape.

    Example:
        >>> layer = SimpleRNN(20, return_sequences=True, return_state=True)
        >>> output, h_n = layer(keras.ops.ones((3, 5, 10)))
        >>> tuple(output.shape), tuple(h_n.shape)
        ((3, 5, 20), (3, 20))
    """

    cell_class = SimpleRNNCell
    cell_name = "simple_rnn_cell"

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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, arguments(locals()), kwargs)


@keras.saving.register_keras_serializable("rnn_tf")
class LSTM(Layer):
    """An LSTM over a sequence: drop-in for `keras.layers.LSTM`.

    i_t, f_t, o_t = σ(W_i· x_t + W_h· h_{t−1} + b_·);  c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t;  h_t = o_t ⊙ tanh(c_t)  (document, "LSTM")

    Args:
        units: width of h_t and c_t.
        activation: stands in for tanh. Default `"tanh"`.
        recurrent_activation: stands in for σ. Default `"sigmoid"`.
        use_bias: default True.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"`, `"zeros"`.
        unit_forget_bias: start with ones in b_f (Jozefowicz et al. 2015). Default True.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: default None.
        kernel_constraint, recurrent_constraint, bias_constraint: default None.
        dropout, recurrent_dropout: of x_t and of h_{t−1} in training, in [0, 1]; one mask a sequence, with recurrent
            dropout one a gate and sequence. Default 0.
        seed: of the dropout. Default None.
        return_sequences: return the output of every step, not of the last. Default False.
        return_state: return the final states h and c besides. Default False.
        go_backwards: run from the last step to the first, and return the outputs in that order. Default False.
        stateful: start each batch from the final states of the one before. Default False.
        unroll: write the loop out in the graph. Default False.
        use_cudnn: True for cuDNN, the engine `vendor`, or an error where it cannot run the call; False for any other engine.
            Default `"auto"`.
        return_all_states: return the final states and, after them, every state at every step, each
            `(batch, time, units)`, in the order of the input. Default False.
        engine: how the cell is run over time, a name in `rnn_tf.ENGINES` or `"auto"` (default).
        zero_output_for_mask: outputs of skipped steps are zeros, not the output before. Default False.

    Call arguments: `sequences (batch, time, features)`; `initial_state`, `[h, c]`, each `(batch, units)`;
        `mask (batch, time)`; `training`.

    Raises:
        ValueError: an argument out of range, or inputs of the wrong shape.

    Example:
        >>> layer = LSTM(20, return_sequences=True, return_state=True)
        >>> output, h_n, c_n = layer(keras.ops.ones((3, 5, 10)))
        >>> tuple(output.shape), tuple(c_n.shape)
        ((3, 5, 20), (3, 20))
    """

    cell_class = LSTMCell
    cell_name = "lstm_cell"
    recurrent_activation = delegated("recurrent_activation")
    unit_forget_bias = delegated("unit_forget_bias")

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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: str | bool = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, arguments(locals()), kwargs)


@keras.saving.register_keras_serializable("rnn_tf")
class GRU(Layer):
    """A GRU over a sequence: drop-in for `keras.layers.GRU`.

    r_t, z_t = σ(W_i· x_t + W_h· h_{t−1} + b_·)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn)), or
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1})) without `reset_after`
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}  (Cho et al. 2014, arXiv 1406.1078)

    Args:
        units: width of h_t.
        activation: stands in for tanh. Default `"tanh"`.
        recurrent_activation: stands in for σ. Default `"sigmoid"`.
        use_bias: default True.
        kernel_initializer, recurrent_initializer, bias_initializer: default `"glorot_uniform"`, `"orthogonal"`, `"zeros"`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: default None.
        kernel_constraint, recurrent_constraint, bias_constraint: default None.
        dropout, recurrent_dropout: of x_t and of h_{t−1} in training, in [0, 1]; one mask a sequence, with recurrent
            dropout one a gate and sequence. Default 0.
        seed: of the dropout. Default None.
        return_sequences: return the output of every step, not of the last. Default False.
        return_state: return the final state besides. Default False.
        go_backwards: run from the last step to the first, and return the outputs in that order. Default False.
        stateful: start each batch from the final states of the one before. Default False.
        unroll: write the loop out in the graph. Default False.
        reset_after: whether the reset gate acts after the recurrent product (default) or before it.
        use_cudnn: True for cuDNN, the engine `vendor`, or an error where it cannot run the call; False for any other engine.
            Default `"auto"`.
        return_all_states: return the final states and, after them, every state at every step, each
            `(batch, time, units)`, in the order of the input. Default False.
        engine: how the cell is run over time, a name in `rnn_tf.ENGINES` or `"auto"` (default).
        zero_output_for_mask: outputs of skipped steps are zeros, not the output before. Default False.

    Call arguments: `sequences (batch, time, features)`; `initial_state`, `[h (batch, units)]`; `mask (batch, time)`;
        `training`.

    Raises:
        ValueError: an argument out of range, or inputs of the wrong shape.

    Example:
        >>> layer = GRU(20, return_sequences=True, return_state=True)
        >>> output, h_n = layer(keras.ops.ones((3, 5, 10)))
        >>> tuple(output.shape), tuple(h_n.shape)
        ((3, 5, 20), (3, 20))
    """

    cell_class = GRUCell
    cell_name = "gru_cell"
    recurrent_activation = delegated("recurrent_activation")
    reset_after = delegated("reset_after")

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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: str | bool = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, arguments(locals()), kwargs)
