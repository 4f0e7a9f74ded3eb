"""The layers, drop-in for `keras.layers.SimpleRNN`, `LSTM` and `GRU`: their arguments, weights, shapes and errors.

A layer is a `keras.layers.RNN` around its cell, which holds the weights; Keras sees to initial states, statefulness,
masks and configuration. What runs over time, `inner_loop`, is an engine's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import keras
import tensorflow as tf

from rnn_tf import unroll
from rnn_tf.cells import GRUCell, LSTMCell, SimpleRNNCell
from rnn_tf.cells.base import (
    PLUGINS,
    State,
    Tensor,
    arguments,
    as_float,
    as_real,
    as_state,
    common_batch,
    own_equations,
)

# The arguments of a layer that are not its cell's.
LAYER_OPTIONS = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "activity_regularizer")


def as_mask(mask: Tensor, sequences: Tensor, units: int) -> Tensor:
    """What a caller gives as a mask, with the axes `(batch, time, 1)` or `(batch, time, units)`.

    Raises:
        TypeError: complex numbers.
        ValueError: a wrong shape.
    """
    mask = tf.cast(as_real("mask", mask), tf.bool)
    given, time = mask.shape, sequences.shape[1]
    mask = mask[:, :, None] if given.rank == 2 else mask
    expected = f"mask should have shape (batch, {time or 'time'}), or with a third axis of 1 or {units}"
    right = tf.TensorShape([None, time, None]).is_compatible_with(mask.shape) and mask.shape.rank == 3
    if not right or mask.shape[2] not in (1, units, None):
        raise ValueError(f"{expected}, got {tuple(given) if given.rank else given}")
    if None in (time, mask.shape[1]):
        time = tf.shape(sequences)[1]
        tf.debugging.assert_equal(tf.shape(mask)[1], time, f"{expected}, with the time of the sequences")
        # Compiled programs have no assertions, but reshape only to as many elements as there are.
        mask = tf.reshape(mask, [sizes(mask)[0], time, sizes(mask)[2]])
    return mask


def sizes(tensor: Tensor) -> list[Any]:
    """The size of each axis: a number where it is known, else a tensor."""
    return [tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(tensor.shape)]


def broadcast(tensor: Tensor, shape: Sequence[Any]) -> Tensor:
    """`tensor` with that shape; as it is if it has."""
    return tensor if tensor.shape.as_list() == list(shape) else tf.broadcast_to(tensor, shape)


class Layer(keras.layers.RNN):  # type: ignore[misc]
    """What the three layers share: everything but the equations."""

    cell_class: type
    cell_name: str

    def __init__(self, units: int, options: dict[str, Any], kwargs: dict[str, Any]) -> None:
        own = {name: options.pop(name) for name in LAYER_OPTIONS}
        self.engine = kwargs.pop("engine", "auto")
        self.return_all_states = kwargs.pop("return_all_states", False)
        own["return_state"] = own["return_state"] or self.return_all_states
        unroll.check(self.engine)
        if "use_cudnn" in options:  # Not the simple RNN's: in Keras it has none, and `Bidirectional` looks.
            self.use_cudnn = options.pop("use_cudnn")
            if self.use_cudnn not in ("auto", True, False):
                raise ValueError(
                    "Invalid valid received for argument `use_cudnn`. Expected one of {'auto', True, False}. "
                    f"Received: use_cudnn={self.use_cudnn}"
                )
        if "implementation" in kwargs:
            options["implementation"] = kwargs.pop("implementation")
        shared = {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
        cell = self.cell_class(units, name=self.cell_name, **options, **shared)
        super().__init__(cell, **own, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def inner_loop(self, sequences: Tensor, initial_state: Any, mask: Any, training: bool | None = False) -> Any:
        """Run the cell over time.

        Args:
            sequences: `(batch, time, features)`.
            initial_state: a list of `(batch, units)`.
            mask: `(batch, time)`, or `(batch, time, 1)`, or for each unit `(batch, time, units)`: False where a step
                is to be skipped. Or None.
            training: whether dropout applies.

        A batch of 1 is broadcast to the others'.

        Returns:
            The last output, all outputs, the final states and, with `return_all_states`, all states. The output of a
            skipped step is the one before it, zeros if there is none, or always zeros with `zero_output_for_mask`.
        """
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        if not own_equations(self.cell):
            if self.return_all_states:
                raise ValueError(
                    f"return_all_states=True needs a cell of rnn_tf with its own equations, got {type(self.cell).__name__}"
                )
            return super().inner_loop(sequences, initial_state, mask, training)
        sequences = self.cell.drop_inputs(sequences, training)
        recurrence = self.cell.recurrence(sequences[:, 0], initial_state[0], training)
        sequences, state, mask = self._broadcast(sequences, initial_state, mask)
        x, valid = self._time_major(sequences), None if mask is None else self._time_major(mask)
        history, final = unroll.unroll(
            self.engine, recurrence, self.cell.packed(), x, state, valid, self.return_all_states, self.unroll
        )
        outputs = history[0]
        if valid is not None:
            output_valid = valid if self.zero_output_for_mask else tf.cumsum(tf.cast(valid, tf.int32)) > 0
            outputs = tf.where(output_valid, outputs, tf.zeros_like(outputs))
        # In the order of the input: so does `keras.layers.Bidirectional` place the outputs.
        history = tuple(tf.reverse(states, [0]) for states in history) if self.go_backwards else history
        every = [tf.transpose(states, (1, 0, 2)) for states in history if self.return_all_states]
        return outputs[-1], tf.transpose(outputs, (1, 0, 2)), [*final, *every]

    def explain(self, sequences: Tensor, mask: Any = None, training: bool | None = False) -> unroll.Choice:
        """Which engine runs a call, and why not those that were asked before it.

        Args:
            sequences, mask, training: what the layer is to be called with.

        Returns:
            The name of the `engine`, and the reasons by name: `refused`.
        """
        sequences = as_float("sequences", sequences, self.compute_dtype)
        h = tf.zeros([tf.shape(sequences)[0], self.units], sequences.dtype)
        self.cell.reset_dropout_mask(), self.cell.reset_recurrent_dropout_mask()
        recurrence = self.cell.recurrence(sequences[:, 0], h, training)
        self.cell.reset_dropout_mask(), self.cell.reset_recurrent_dropout_mask()
        return unroll.explain(self.engine, recurrence, None if mask is None else as_mask(mask, sequences, self.units))

    def _broadcast(
        self, sequences: Tensor, state: Sequence[Tensor], mask: Tensor | None
    ) -> tuple[Tensor, State, Tensor | None]:
        """Sequences, state and mask with one batch for all of them."""
        operands = {"sequences": sequences} | dict(zip(self.cell.cell.states, state, strict=True))
        if mask is not None:
            mask = operands["mask"] = as_mask(mask, sequences, self.units)
        batch = common_batch(operands)
        if batch is None:
            batch = reduce(tf.broadcast_dynamic_shape, [tf.shape(each)[:1] for each in operands.values()])[0]
        return (
            broadcast(sequences, [batch, *sizes(sequences)[1:]]),
            tuple(broadcast(each, [batch, self.units]) for each in state),
            None if mask is None else broadcast(mask, [batch, *sizes(mask)[1:]]),
        )

    def _time_major(self, batch_major: Tensor) -> Tensor:
        """`(batch, time, …)` as `(time, batch, …)`, from the last step to the first if `go_backwards`."""
        time_major = tf.transpose(batch_major, (1, 0, 2))
        return tf.reverse(time_major, [0]) if self.go_backwards else time_major

    def call(
        self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool | None = False
    ) -> Any:
        """Run the layer over `sequences (batch, time, features)`, as `keras.layers.RNN` documents."""
        if getattr(self, "use_cudnn", "auto") is True:
            raise ValueError("use_cudnn=True was specified, but this layer has no cuDNN engine. Pass use_cudnn='auto'.")
        if own_equations(self.cell):
            sequences = as_float("sequences", sequences, self.compute_dtype)
            if initial_state is not None:
                state = as_state("initial_state", self.cell.cell, self.units, initial_state, self.compute_dtype)
                initial_state = list(state.values())
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        shapes = super().compute_output_shape(sequences_shape, initial_state_shape)
        if not self.return_all_states:
            return shapes
        return (*shapes, *((*sequences_shape[:2], size) for size in self.state_size))

    def compute_mask(self, inputs: Any, mask: Any) -> Any:
        masks = super().compute_mask(inputs, mask)
        return [*masks, *[None] * len(self.state_size)] if self.return_all_states else masks

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        cell = self.cell.get_config()
        config |= {name: cell[name] for name in cell if name not in ("name", "trainable", "dtype", "build_config")}
        config["activity_regularizer"] = keras.regularizers.serialize(self.activity_regularizer)
        # Written only where they differ from Keras's defaults, so that Keras's own layers can read the configuration.
        for name, default in (("engine", "auto"), ("use_cudnn", "auto"), ("return_all_states", False)):
            if getattr(self, name, default) != default:
                config[name] = getattr(self, name)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


def _delegated(name: str) -> property:
    """A property that reads the cell's attribute, as on Keras's layers."""
    return property(lambda self: getattr(self.cell, name))


for _name in ("units", "activation", "use_bias", *PLUGINS, "dropout", "recurrent_dropout"):
    setattr(Layer, _name, _delegated(_name))


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
        use_cudnn: accepted for compatibility. There is no cuDNN engine: `"auto"` (default) and False change nothing, and
            a layer with True refuses to run.
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
    recurrent_activation = _delegated("recurrent_activation")
    unit_forget_bias = _delegated("unit_forget_bias")

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
        use_cudnn: accepted for compatibility. There is no cuDNN engine: `"auto"` (default) and False change nothing, and
            a layer with True refuses to run.
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
    recurrent_activation = _delegated("recurrent_activation")
    reset_after = _delegated("reset_after")

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
