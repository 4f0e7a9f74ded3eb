"""What the layers share, drop-in for those of `keras.layers`: their weights, shapes and errors.

A layer is a `keras.layers.RNN` around its cell, which holds the weights; Keras sees to initial states, statefulness,
masks and configuration. What runs over time, `inner_loop`, is an engine's work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import reduce
from typing import Any

import keras
import tensorflow as tf

from rnn_tf import unroll
from rnn_tf.cells.base import (
    PLUGINS,
    State,
    Tensor,
    as_float,
    as_real,
    as_state,
    common_batch,
    own_equations,
)
from rnn_tf.engines import vendor

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
            if self.use_cudnn is True and self.engine not in ("auto", "vendor"):
                raise ValueError(f"engine should be auto or vendor with use_cudnn=True, got {self.engine!r}")
        if "implementation" in kwargs:
            options["implementation"] = kwargs.pop("implementation")
        shared = {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
        cell = self.cell_class(units, name=self.cell_name, **options, **shared)
        super().__init__(cell, **own, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        if self._wants_cudnn():
            self.supports_jit = False  # as of Keras's layers: XLA has no cuDNN operation

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
        if self.go_backwards:
            sequences, mask = (None if each is None else tf.reverse(each, [1]) for each in (sequences, mask))
        history, final = unroll.unroll(
            self.engine,
            recurrence,
            self.cell.packed(),
            sequences,
            state,
            mask,
            self.return_all_states,
            self.unroll,
            getattr(self, "use_cudnn", "auto"),
        )
        outputs = history[0]
        if mask is not None:
            output_valid = mask if self.zero_output_for_mask else tf.cumsum(tf.cast(mask, tf.int32), 1) > 0
            outputs = tf.where(output_valid, outputs, tf.zeros_like(outputs))
        # In the order of the input: so does `keras.layers.Bidirectional` place the outputs.
        history = tuple(tf.reverse(states, [1]) for states in history) if self.go_backwards else history
        return outputs[:, -1], outputs, [*final, *(history if self.return_all_states else ())]

    def explain(self, sequences: Tensor, mask: Any = None, training: bool | None = False) -> unroll.Choice:
        """Which engine runs a call, and why not those that were asked before it.

        Args:
            sequences, mask, training: what the layer is to be called with.

        Returns:
            The name of the `engine`, and the reasons by name: `refused`.
        """
        sequences = as_float("sequences", sequences, self.compute_dtype)
        recurrence = self.cell.recurrence(sequences[:, 0], None)
        # By name alone: to draw masks would change those of the next call.
        recurrence = dataclasses.replace(recurrence, masks=dict.fromkeys(self.cell.dropped(training)))
        valid = None if mask is None else as_mask(mask, sequences, self.units)
        weights = [tf.convert_to_tensor(weight) for weight in self.cell.packed()]
        return unroll.explain(
            self.engine,
            recurrence,
            weights,
            sequences,
            (),
            valid,
            self.return_all_states,
            getattr(self, "use_cudnn", "auto"),
        )

    def _wants_cudnn(self) -> bool:
        """Whether cuDNN is to run the layer, as far as can be told before it is called."""
        use_cudnn = getattr(self, "use_cudnn", "auto")
        if use_cudnn != "auto" or not own_equations(self.cell):
            return use_cudnn is True
        takes = vendor.refuses(self.cell.recurrence(None, None), None, None, self.return_all_states) is None
        return takes and self.engine in ("auto", "vendor")

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

    def call(
        self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool | None = False
    ) -> Any:
        """Run the layer over `sequences (batch, time, features)`, as `keras.layers.RNN` documents."""
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


def delegated(name: str) -> property:
    """A property that reads the cell's attribute, as on Keras's layers."""
    return property(lambda self: getattr(self.cell, name))


for _name in ("units", "activation", "use_bias", *PLUGINS, "dropout", "recurrent_dropout"):
    setattr(Layer, _name, delegated(_name))
