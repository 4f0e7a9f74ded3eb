"""The equations, one step each, in TensorFlow operations; and the cells, drop-in for Keras's cells of the same names.

A step takes the weights by the document's names, a batch of inputs `x_t (batch, input)` and the state, a tuple of
`(batch, hidden)`, and returns the state after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import tensorflow as tf

# Not exported by Keras, but the only way to draw the dropout masks outside the loop of `keras.layers.RNN`.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from rnn_common.cells import CELLS, CellName, GRUWeights, LSTMWeights, SimpleRNNWeights, Weights
from rnn_common.packings import GATE_ORDER, weights_by_gate

Tensor = Any
State = tuple[Tensor, ...]
Activation = Callable[[Tensor], Tensor]


class Dropped(NamedTuple):
    """A matrix some of whose inputs are dropped: W diag(mask), the same mask at every step of a sequence."""

    W: Tensor
    mask: Tensor


def apply(W: Tensor | Dropped, x: Tensor) -> Tensor:
    """W x, for every row x of a batch. Keras keeps a matrix as its transpose, `(inputs, outputs)`."""
    if isinstance(W, Dropped):
        return tf.matmul(x * W.mask, W.W)
    return tf.matmul(x, W)


def as_real(name: str, x: Tensor) -> Tensor:
    """`x` as a tensor; complex numbers are refused, which a cast would cut to their real parts.

    Raises:
        TypeError: complex numbers.
    """
    x = tf.convert_to_tensor(x)
    if x.dtype.is_complex:
        raise TypeError(f"{name} should hold real numbers, got {x.dtype.name}")
    return x


def as_float(name: str, x: Tensor, dtype: str) -> Tensor:
    """`x` in the type that a layer computes in, in which Keras's own layers return what they compute of any other."""
    return tf.cast(as_real(name, x), dtype)


def as_state(name: str, cell: CellName, units: int, state: Any, dtype: str) -> dict[str, Tensor]:
    """What a caller gives as a state, by its parts' names: h or, of an LSTM, h and c.

    Each is `(batch, units)` or, as in Keras, whatever can be broadcast to that; h is multiplied by a matrix and so has
    to have `units` columns.

    Raises:
        TypeError: complex numbers.
        ValueError: too many tensors or too few, or one of a wrong shape.
    """
    tensors, names = list(state) if isinstance(state, (list, tuple)) else [state], CELLS[cell].states
    if len(tensors) != len(names):
        raise ValueError(
            f"{name} should be [{', '.join(names)}], each (batch, {units}), got {len(tensors)} tensors of shapes "
            f"{[tuple(keras.ops.shape(each)) for each in tensors]}"
        )
    parts = {}
    for part, tensor in zip(names, tensors, strict=True):
        each = as_float(f"{name} {part}", tensor, dtype)
        given, widths = each.shape, (units, None) if part == "h" else (units, None, 1)
        each = tf.reshape(each, [1, -1]) if given.rank in (0, 1) else each
        if each.shape.rank not in (2, None) or each.shape[-1] not in widths:
            raise ValueError(f"{name} {part} should have shape (batch, {units}), got {tuple(given)}")
        parts[part] = tf.ensure_shape(each, [None, None]) if given.rank is None else each
    return parts


def common_batch(operands: Mapping[str, Tensor]) -> int | None:
    """The batch that all operands have or, where theirs is 1, are broadcast to; None if it is not known yet.

    Raises:
        ValueError: two of them have different ones.
    """
    batches = {name: each.shape[0] if each.shape.rank else None for name, each in operands.items()}
    several = {batch for batch in batches.values() if batch not in (1, None)}
    if len(several) > 1:
        given = ", ".join(f"{batch} of {name}" for name, batch in batches.items())
        raise ValueError(f"{', '.join(batches)} should have the same batch, or 1, got {given}")
    return several.pop() if several else None if None in batches.values() else 1


def simple_rnn_step(w: SimpleRNNWeights, x_t: Tensor, state: State, *, activation: Activation = tf.tanh) -> State:
    """One step of the simple RNN (document, "Simple RNN"); `activation` stands in for tanh.

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)
    """
    (h,) = state
    h_t = activation(apply(w.W_hh, h) + apply(w.W_xh, x_t) + w.b_h)
    return (h_t,)


def lstm_step(
    w: LSTMWeights,
    x_t: Tensor,
    state: State,
    *,
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


def gru_step(
    w: GRUWeights,
    x_t: Tensor,
    state: State,
    *,
    reset_after: bool = True,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
) -> State:
    """One step of the GRU (Cho et al. 2014, arXiv 1406.1078); `activation` for tanh, `recurrent_activation` for σ.

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn))        reset_after=True  (v1)
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1}))               reset_after=False (v3)
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    r_t = recurrent_activation(apply(w.W_ir, x_t) + apply(w.W_hr, h) + w.b_r)
    z_t = recurrent_activation(apply(w.W_iz, x_t) + apply(w.W_hz, h) + w.b_z)
    if reset_after:
        recurrent_n = r_t * (apply(w.W_hn, h) + w.b_hn)
    else:
        recurrent_n = apply(w.W_hn, r_t * h)
    n_tilde = activation(apply(w.W_in, x_t) + w.b_n + recurrent_n)
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,)


Step = Callable[[Tensor, State], State]
STEPS: dict[CellName, Callable[..., State]] = {"SimpleRNN": simple_rnn_step, "LSTM": lstm_step, "GRU": gru_step}


def gate_weights(
    cell: CellName, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor | None = None, *, reset_after: bool = True
) -> Weights:
    """Cut Keras's packed weights into the document's; where there are two biases, they are added."""
    gates = len(CELLS[cell].gates)
    blocks = tf.split(kernel, gates, 1), tf.split(recurrent_kernel, gates, 1)
    if bias is None:
        return weights_by_gate("keras", cell, *blocks)
    if cell != "GRU" or not reset_after:
        return weights_by_gate("keras", cell, *blocks, tf.split(bias, gates))
    (b_iz, b_ir, b_n), (b_hz, b_hr, b_hn) = tf.split(bias[0], gates), tf.split(bias[1], gates)
    return weights_by_gate("keras", cell, *blocks, (b_iz + b_hz, b_ir + b_hr, b_n), b_hn=b_hn)


@dataclass(frozen=True)
class Recurrence:
    """A cell with its weights and options: what an engine runs over time.

    Args:
        cell: `"SimpleRNN"`, `"LSTM"` or `"GRU"`.
        packed: the weights as Keras packs them: `kernel`, `recurrent_kernel` and, where there are biases, `bias`.
        reset_after: the form of the GRU, of no meaning to the other cells. Default True.
        activation, recurrent_activation: stand in for tanh and σ. Default those.
        masks: of dropout, each `(batch, inputs)`, by the name of the matrix whose inputs they drop. Default none.
    """

    cell: CellName
    packed: tuple[Tensor, ...]
    reset_after: bool = True
    activation: Activation = keras.activations.tanh
    recurrent_activation: Activation = keras.activations.sigmoid
    masks: Mapping[str, Tensor] = field(default_factory=dict)

    def step(self) -> Step:
        """The cell's equations with these weights and options: from x_t and the state before to the state after.

        In low precision the weights are cast at each step, so that their gradients, which are sums over all steps, are
        added up in float32.
        """
        packed = [tf.cast(each, tf.float32) if each.dtype.size < 4 else each for each in self.packed]
        kept = gate_weights(self.cell, *packed, reset_after=self.reset_after)
        options: dict[str, Any] = {"activation": self.activation}
        if self.cell != "SimpleRNN":
            options["recurrent_activation"] = self.recurrent_activation
        if self.cell == "GRU":
            options["reset_after"] = self.reset_after

        def step(x_t: Tensor, state: State) -> State:
            w = kept._replace(**{name: tf.cast(W, x_t.dtype) for name, W in kept._asdict().items()})
            w = w._replace(**{name: Dropped(getattr(w, name), mask) for name, mask in self.masks.items()})
            return STEPS[self.cell](w, x_t, state, **options)

        return step


# The constructor arguments that initialise, regularise and constrain each weight.
PLUGINS = {
    f"{weight}_{role}": module.get
    for role, module in (
        ("initializer", keras.initializers),
        ("regularizer", keras.regularizers),
        ("constraint", keras.constraints),
    )
    for weight in ("kernel", "recurrent", "bias")
}


class _Cell(keras.layers.Layer, DropoutRNNCell):  # type: ignore[misc]
    """What the three cells share: Keras's packed weights, their initialisation, dropout and configuration."""

    cell: CellName
    activations: tuple[str, ...] = ("activation", "recurrent_activation")
    forms: tuple[str, ...] = ()
    own_options: tuple[str, ...] = ()
    dropout_mask_count: int | None = None
    seed_before_initializers = False

    def __init__(self, units: int, options: dict[str, Any], kwargs: dict[str, Any]) -> None:
        if units <= 0:
            raise ValueError(
                f"Received an invalid value for argument `units`, expected a positive integer, got {units}."
            )
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        # The order of the draws from the global seed is Keras's, so that the same seed gives the same initial weights.
        if self.seed_before_initializers:
            self.seed_generator = keras.random.SeedGenerator(seed=options["seed"])
        self.units = units
        for name in self.activations:
            setattr(self, name, keras.activations.get(options[name]))
        for name, get in PLUGINS.items():
            setattr(self, name, get(options[name]))
        self.use_bias = options["use_bias"]
        self.dropout = min(1.0, max(0.0, options["dropout"]))
        self.recurrent_dropout = min(1.0, max(0.0, options["recurrent_dropout"]))
        for name in self.own_options:
            setattr(self, name, options[name])
        self.seed = options["seed"]
        if not self.seed_before_initializers:
            self.seed_generator = keras.random.SeedGenerator(seed=self.seed)
        # As in Keras: with recurrent dropout (or implementation=1) every gate has masks of its own.
        self.implementation = 1 if self.recurrent_dropout else implementation
        if self.implementation == 1 and len(CELLS[self.cell].gates) > 1:
            self.dropout_mask_count = len(CELLS[self.cell].gates)
        states = len(CELLS[self.cell].states)
        self.state_size = units if states == 1 else [units] * states
        self.output_size = units

    def build(self, input_shape: Sequence[int | None]) -> None:
        columns = len(CELLS[self.cell].gates) * self.units
        self.kernel = self._add("kernel", "kernel", (input_shape[-1], columns))
        self.recurrent_kernel = self._add("recurrent_kernel", "recurrent", (self.units, columns))
        self.bias = self._add("bias", "bias", self._bias_shape(columns)) if self.use_bias else None
        self.built = True

    def _add(self, name: str, weight: str, shape: tuple[int | None, ...]) -> Any:
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=self._bias_initializer() if weight == "bias" else getattr(self, f"{weight}_initializer"),
            regularizer=getattr(self, f"{weight}_regularizer"),
            constraint=getattr(self, f"{weight}_constraint"),
        )

    def _bias_shape(self, columns: int) -> tuple[int, ...]:
        return (columns,)

    def _bias_initializer(self) -> Any:
        return self.bias_initializer

    def recurrence(self, x_t: Tensor, h: Tensor, training: bool | None = False) -> Recurrence:
        """The cell with its weights and options; in training, with this sequence's dropout masks."""
        packed = [tf.convert_to_tensor(v) for v in (self.kernel, self.recurrent_kernel, self.bias) if v is not None]
        masks: dict[str, Tensor] = {}
        if training and self.dropout and self.dropout_mask_count:
            masks |= self._by_gate(CELLS[self.cell].input_weight, self.get_dropout_mask(x_t))
        if training and self.recurrent_dropout:
            masks |= self._by_gate(CELLS[self.cell].recurrent_weight, self.get_recurrent_dropout_mask(h))
        options = {name: getattr(self, name) for name in (*self.activations, *self.forms)}
        return Recurrence(self.cell, tuple(packed), masks=masks, **options)

    def _by_gate(self, name: Callable[[str], str], masks: Any) -> dict[str, Tensor]:
        """Masks by the name of each gate's matrix: one each, or one for all."""
        order = GATE_ORDER["keras"][self.cell]
        each = masks if isinstance(masks, (list, tuple)) else [masks] * len(order)
        return {name(gate): mask for gate, mask in zip(order, each, strict=True)}

    def drop_inputs(self, inputs: Tensor, training: bool | None = False) -> Tensor:
        """In training, the inputs `(batch, features)` or `(batch, time, features)` times the mask that all gates share."""
        if not (training and self.dropout) or self.dropout_mask_count:
            return inputs
        if len(inputs.shape) == 2:
            return inputs * self.get_dropout_mask(inputs)
        return inputs * self.get_dropout_mask(inputs[:, 0])[:, None]

    def call(self, inputs: Tensor, states: Any, training: bool | None = False) -> tuple[Tensor, Any]:
        """One step: `(h, state)` from an input `(batch, features)` and a state, `h` or a list of states."""
        inputs = self.drop_inputs(as_float("inputs", inputs, self.compute_dtype), training)
        parts = as_state("states", self.cell, self.units, states, self.compute_dtype)
        common_batch({"inputs": inputs, **parts})
        state = tuple(parts.values())
        after = self.recurrence(inputs, state[0], training).step()(inputs, state)
        return after[0], list(after) if isinstance(states, (list, tuple)) else after[0]

    def get_initial_state(self, batch_size: Any = None) -> list[Tensor]:
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [keras.ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]

    def get_config(self) -> dict[str, Any]:
        modules = {
            "initializer": keras.initializers,
            "regularizer": keras.regularizers,
            "constraint": keras.constraints,
        }
        config = {"units": self.units}
        config |= {name: keras.activations.serialize(getattr(self, name)) for name in self.activations}
        config |= {name: modules[name.split("_")[-1]].serialize(getattr(self, name)) for name in PLUGINS}
        plain = ("use_bias", "dropout", "recurrent_dropout", "seed", *self.own_options)
        return {**super().get_config(), **config, **{name: getattr(self, name) for name in plain}}


def own_equations(cell: Any) -> bool:
    """Whether a cell runs the equations above, and not a step of the user's own or of another package."""
    steps = ("call", "recurrence", "drop_inputs")
    return isinstance(cell, _Cell) and all(
        getattr(getattr(cell, name), "__func__", None) is getattr(_Cell, name) for name in steps
    )


def arguments(local: dict[str, Any]) -> dict[str, Any]:
    """A constructor's own arguments, out of its `locals()`, by name."""
    return {name: value for name, value in local.items() if name not in ("self", "units", "kwargs", "__class__")}


@keras.saving.register_keras_serializable("rnn_tf")
class SimpleRNNCell(_Cell):
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

    cell = "SimpleRNN"
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


@keras.saving.register_keras_serializable("rnn_tf")
class LSTMCell(_Cell):
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

    cell = "LSTM"
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


@keras.saving.register_keras_serializable("rnn_tf")
class GRUCell(_Cell):
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

    cell = "GRU"
    forms = ("reset_after",)
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

    def _bias_shape(self, columns: int) -> tuple[int, ...]:
        return (2, columns) if self.reset_after else (columns,)
