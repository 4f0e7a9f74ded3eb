"""What every page and the drop-in cells share: products, weights by name, one step with its options, Keras's rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import keras
import tensorflow as tf

from rnn_common.cells import Cell
from rnn_common.packings import weights_by_gate
from rnn_tf.activations import accepted
from rnn_tf.private import DropoutRNNCell

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


def as_state(name: str, cell: Cell, units: int, state: Any, dtype: str) -> dict[str, Tensor]:
    """What a caller gives as a state, by its parts' names: h or, of an LSTM, h and c.

    Each is `(batch, units)` or, as in Keras, whatever can be broadcast to that; h is multiplied by a matrix and so has
    to have `units` columns.

    Raises:
        TypeError: complex numbers.
        ValueError: too many tensors or too few, or one of a wrong shape.
    """
    tensors, names = list(state) if isinstance(state, (list, tuple)) else [state], cell.states
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


Step = Callable[[Tensor, State], State]

PAGES: dict[str, Any] = {}  # filled by `rnn_tf.cells`: a page imports what is here


def page(cell: Cell) -> Any:
    """The page of a cell; of a cell of the user's own, one that has its step alone."""
    return PAGES[cell.name] if cell.in_table else SimpleNamespace(step=cell.tf)


def named(cell: Cell, packed: Sequence[Tensor]) -> Any:
    """Keras's packed weights by the document's names; where there are two biases of a gate, they are added."""
    if not cell.gates:
        return cell.weights(*packed)
    gates = len(cell.gates)
    W, R = (tf.split(each, gates, 1) for each in packed[:2])
    if len(packed) == 2:
        return weights_by_gate("keras", cell, W, R)
    if not cell.apart:
        return weights_by_gate("keras", cell, W, R, tf.split(packed[2], gates))
    biases = list(zip(cell.orders["keras"], tf.split(packed[2][0], gates), tf.split(packed[2][1], gates), strict=True))
    apart = {f"b_h{gate}": b_h for gate, _, b_h in biases if gate in cell.apart}
    return weights_by_gate("keras", cell, W, R, [b if g in cell.apart else b + b_h for g, b, b_h in biases], **apart)


def take(sequence: Tensor, steps: Tensor) -> Tensor:
    """For each step and sequence of a batch, the step of that sequence that `steps (time, batch)` names."""
    batch = tf.broadcast_to(tf.range(tf.shape(steps)[1]), tf.shape(steps))
    return tf.gather_nd(sequence, tf.stack([steps, batch], -1))


def swapped(sequences: Tensor) -> Tensor:
    """`(batch, time, …)` as `(time, batch, …)`, or back."""
    return tf.transpose(sequences, (1, 0, 2))


@dataclass(frozen=True)
class Recurrence:
    """A cell and its options: with its weights, what is run over time.

    Args:
        cell: a row of the table.
        activations: what its step is given besides weights, input and state.
        masks: of dropout, each `(batch, inputs)`, by the name of the matrix whose inputs they drop. Default none.
    """

    cell: Cell
    activations: tuple[Activation, ...]
    masks: Mapping[str, Tensor] = field(default_factory=dict)

    def step(self, weights: Sequence[Tensor]) -> Step:
        """The cell's equations with these options and weights: from x_t and the state before to the state after.

        In low precision the weights are cast at each step, so that their gradients, which are sums over all steps, are
        added up in float32.
        """
        packed = [tf.cast(each, tf.float32) if each.dtype.size < 4 else each for each in weights]
        kept = named(self.cell, packed)
        equations = page(self.cell).step

        def step(x_t: Tensor, state: State) -> State:
            w = kept._replace(**{name: tf.cast(W, x_t.dtype) for name, W in kept._asdict().items()})
            w = w._replace(**{name: Dropped(getattr(w, name), mask) for name, mask in self.masks.items()})
            return equations(w, x_t, state, *self.activations)

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


class RNNCell(keras.layers.Layer, DropoutRNNCell):  # type: ignore[misc]
    """What the three cells share: Keras's packed weights, their initialisation, dropout and configuration."""

    activations: tuple[str, ...] = ("activation", "recurrent_activation")
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
            setattr(self, name, accepted(options[name]))
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
        if self.implementation == 1 and len(self.cell.gates) > 1:
            self.dropout_mask_count = len(self.cell.gates)
        states = len(self.cell.states)
        self.state_size = units if states == 1 else [units] * states
        self.output_size = units

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.bias = None
        for name, (weight, shape) in self._variables(input_shape[-1]).items():
            setattr(self, name, self._add(name, weight, shape))
        self.built = True

    def _variables(self, width: int | None) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Every variable by name: which arguments say how it starts, `kernel`, `recurrent` or `bias`, and its shape.

        Of a cell that Keras packs `kernel`, `recurrent_kernel` and `bias`; else the cell's weights, matrices transposed.
        """
        if not self.cell.gates:
            weight = {"input matrix": "kernel", "recurrent matrix": "recurrent", "vector": "kernel", "bias": "bias"}
            shapes = self.cell.shapes(cast(int, width), self.units, bias=self.use_bias)
            return {name: (weight[self.cell.roles[name]], shape[::-1]) for name, shape in shapes.items()}
        columns = len(self.cell.gates) * self.units
        biases = {"bias": ("bias", (2, columns) if self.cell.apart else (columns,))} if self.use_bias else {}
        matrices = {"kernel": ("kernel", (width, columns)), "recurrent_kernel": ("recurrent", (self.units, columns))}
        return {**matrices, **biases}

    def _add(self, name: str, weight: str, shape: tuple[int | None, ...]) -> Any:
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=self._bias_initializer() if weight == "bias" else getattr(self, f"{weight}_initializer"),
            regularizer=getattr(self, f"{weight}_regularizer"),
            constraint=getattr(self, f"{weight}_constraint"),
        )

    def _bias_initializer(self) -> Any:
        return self.bias_initializer

    @property
    def cell(self) -> Cell:
        """The row of the table."""
        raise NotImplementedError

    def dropped(self, training: bool | None = False) -> tuple[str, ...]:
        """The matrices whose inputs are dropped by masks of their own: in training, of every gate."""
        of_inputs = self.cell.input_matrices if self.dropout and self.dropout_mask_count else ()
        of_states = self.cell.recurrent_matrices if self.recurrent_dropout else ()
        return (*of_inputs, *of_states) if training else ()

    def recurrence(self, x_t: Tensor, h: Tensor, training: bool | None = False) -> Recurrence:
        """The cell and its options; in training, with this sequence's dropout masks."""
        masks: dict[str, Tensor] = {}
        if training and self.dropout and self.dropout_mask_count:
            masks |= self._by_matrix(self.cell.input_matrices, self.get_dropout_mask(x_t))
        if training and self.recurrent_dropout:
            masks |= self._by_matrix(self.cell.recurrent_matrices, self.get_recurrent_dropout_mask(h))
        return Recurrence(self.cell, tuple(getattr(self, name) for name in self.activations), masks)

    def packed(self) -> list[Tensor]:
        """The weights as Keras packs them: `kernel`, `recurrent_kernel` and, where there are biases, `bias`."""
        return [tf.convert_to_tensor(getattr(self, name)) for name in self._variables(None)]

    def _by_matrix(self, names: tuple[str, ...], masks: Any) -> dict[str, Tensor]:
        """Masks by the name of the matrix whose inputs they drop: one each, in the gates' order in Keras, or one for all."""
        if not isinstance(masks, (list, tuple)):
            return dict.fromkeys(names, masks)
        order = [self.cell.gates.index(gate) for gate in self.cell.orders["keras"]]
        return {names[index]: mask for index, mask in zip(order, masks, strict=True)}

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
        after = self.recurrence(inputs, state[0], training).step(self.packed())(inputs, state)
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
    """Whether a cell runs the equations of its page, and not a step of the user's own or of another package."""
    steps = ("call", "recurrence", "packed", "drop_inputs")
    return isinstance(cell, RNNCell) and all(
        getattr(getattr(cell, name), "__func__", None) is getattr(RNNCell, name) for name in steps
    )


def arguments(local: dict[str, Any]) -> dict[str, Any]:
    """A constructor's own arguments, out of its `locals()`, by name."""
    return {name: value for name, value in local.items() if name not in ("self", "units", "kwargs", "__class__")}
