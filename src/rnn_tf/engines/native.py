"""The engine `native`: compiled kernels, with back-propagation through time by hand, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rnn_common.cells import CELLS
from rnn_common.native import calls
from rnn_tf import operation, private
from rnn_tf.call import differentiable, over_valid
from rnn_tf.cells.base import Recurrence, State, Tensor, swapped
from rnn_tf.compiled import graphs
from rnn_tf.engines import fused

name = "native"
batch_major = True
backward = None  # the operations have gradients of their own, below

# The activations of which there are kernels.
ACTIVATIONS = {"tanh": keras.activations.tanh, "sigmoid": keras.activations.sigmoid, "relu": keras.activations.relu}


def refuses(recurrence: Recurrence, x: Tensor, valid: Tensor | None = None, all_states: bool = False) -> str | None:
    """Returns what the kernels do not compute, why there are none, or None."""
    if recurrence.masks:
        return "dropout with a mask for each gate"
    if valid is not None and valid.shape[-1] != 1:
        return "a mask for each unit"
    if _kernel(recurrence) < 0:
        return "a cell or activations without a kernel"
    if valid is not None and not all(
        fused.is_one_of(activation, fused.BOUNDED) for activation in recurrence.activations
    ):
        return "relu, and padding, on which an unbounded state may overflow"
    if x.dtype not in (tf.float32, tf.float64):
        return "numbers other than float32 and float64"
    if tf.config.get_visible_devices("GPU"):
        return "a device other than the CPU"
    if private.in_xla():
        return "XLA, which takes no operations but TensorFlow's own"
    if private.is_being_saved():
        return "a SavedModel, which is to be loaded where there is TensorFlow alone"
    return operation.absent()


def _kernel(recurrence: Recurrence) -> int:
    """The kernel; −1 if there is none."""
    names = [next((n for n, f in ACTIVATIONS.items() if f is each), "") for each in recurrence.activations]
    return calls.kernel_of(recurrence.cell, names)


def forward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    valid: Tensor | None = None,
    all_states: bool = False,
    unrolled: bool = False,
    lengths: None = None,
) -> tuple[State, State, None]:
    """See `rnn_tf.engines`. There is no loop that could be `unrolled`."""
    mask = () if valid is None else (tf.squeeze(valid, -1),)
    call = _Call(_kernel(recurrence), x, tuple(state), tuple(weights), mask)
    history, final, _ = call.forward(private.a_tape_may_record(), all_states)
    return history, final, None


class _Call(NamedTuple):
    """What the operations are given.

    Attributes:
        kernel: which of the kernels.
        x, state, weights: as the engine is given them.
        mask: which steps are valid, `(batch, time)`, in a tuple; or an empty one.
    """

    kernel: int
    x: Tensor
    state: State
    weights: tuple[Tensor, ...]
    mask: tuple[Tensor, ...]

    @classmethod
    def of(cls, op: tf.Operation) -> _Call:
        """What an operation was given."""
        states, packed, masked = (op.get_attr(each) for each in ("states", "packed", "masked"))
        x, *others = op.inputs[: 1 + states + packed + masked]
        return cls(
            op.get_attr("kernel"),
            x,
            tuple(others[:states]),
            tuple(others[states:][:packed]),
            tuple(others[states + packed :]),
        )

    @property
    def no_gradients(self) -> list[None]:
        """What stands for the gradient of the mask."""
        return [None] * len(self.mask)

    @property
    def attributes(self) -> dict[str, Any]:
        cell = self.recurrence.cell
        places = [cell.orders["keras"].index(gate) for gate in cell.gates]
        return {"kernel": self.kernel, "places": places}

    @property
    def tensors(self) -> tuple[Any, ...]:
        """What all operations have as inputs."""
        return self.x, self.state, self.weights, self.mask

    @property
    def recurrence(self) -> Recurrence:
        cell, activation = calls.cell_of(self.kernel)
        names = (activation, *CELLS[cell].activations[1:])
        return Recurrence(CELLS[cell], tuple(ACTIVATIONS[each] for each in names))

    def forward(self, keep: bool, all_states: bool = False) -> tuple[State, State, Tensor]:
        """History, final state and, to `keep` it, what the backward pass needs."""
        histories = len(self.state) if all_states else 1
        history, final, kept = operation.load().rnn_parity_forward(
            *self.tensors, **self.attributes, keep=keep, histories=histories
        )
        return tuple(history), tuple(final), kept

    def backward(self, history: State, kept: Tensor, d_history: State, d_final: State) -> list[Tensor]:
        """The gradients of x, the initial state and the weights."""
        d_gates, d_state, d_weights = operation.load().rnn_parity_backward(
            *self.tensors, history, d_history, d_final, kept, **self.attributes
        )
        d_x = operation.load().rnn_parity_input_gradient(*self.tensors, d_history, d_final, d_gates, **self.attributes)
        return [d_x, *d_state, *d_weights]

    def differentiate(
        self, d_history: State, d_final: State, which: slice, d_gradients: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """From ∂/∂ some of the gradients to those of x, state and weights, `d_history` and `d_final`: by way of `fused`."""
        # Copies, for one tensor may be given twice.
        inputs, cotangents = (
            tuple(map(tf.identity, tensors))
            for tensors in ((self.x, *self.state, *self.weights), (*d_history, *d_final))
        )
        x, state, weights = inputs[0], inputs[1 : 1 + len(self.state)], inputs[1 + len(self.state) :]
        passes = graphs(fused, self.recurrence.cell, self.recurrence.activations)

        def run(x: Tensor, lengths: Tensor | None = None) -> tuple[State, State]:
            return differentiable(*passes, weights, x, state, len(d_history) > 1 or lengths is not None)

        with tf.GradientTape() as outer:
            outer.watch((*inputs, *cotangents))
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                if self.mask:
                    history, final = over_valid(run, swapped(x), state, tf.transpose(self.mask[0]))
                else:
                    history, final = run(swapped(x))
                history = tuple(map(swapped, history[: len(d_history)]))
            gradients = inner.gradient((*history, *final), inputs, cotangents)
        found = outer.gradient(
            gradients[which], (*inputs, *cotangents), list(d_gradients), tf.UnconnectedGradients.ZERO
        )
        return found[: len(inputs)], found[len(inputs) :]


# What the operations save for each other is computed from x, state and weights, and is not differentiated.


@tf.RegisterGradient("RnnParity>Forward")  # type: ignore[untyped-decorator]
def _gradient_of_forward(op: tf.Operation, *d_outputs: Tensor) -> list[Tensor | None]:
    call, histories = _Call.of(op), op.get_attr("histories")
    history, kept = op.outputs[:histories], op.outputs[-1]
    if not op.get_attr("keep"):
        history, _, kept = call.forward(keep=True, all_states=histories == len(call.state))
    d_outputs = tuple(map(tf.convert_to_tensor, d_outputs[:-1]))  # tf.gather's come as tf.IndexedSlices
    return [*call.backward(history, kept, d_outputs[:histories], d_outputs[histories:]), *call.no_gradients]


@tf.RegisterGradient("RnnParity>Backward")  # type: ignore[untyped-decorator]
def _gradient_of_backward(op: tf.Operation, _: Any, *d_gradients: Tensor) -> list[Tensor | None]:
    call, saved = _Call.of(op), [None] * op.get_attr("histories")
    inputs, cotangents = call.differentiate(*_cotangents(op), slice(1, None), d_gradients)
    return [*inputs, *call.no_gradients, *saved, *cotangents, None]


@tf.RegisterGradient("RnnParity>InputGradient")  # type: ignore[untyped-decorator]
def _gradient_of_input_gradient(op: tf.Operation, d_d_x: Tensor) -> list[Tensor | None]:
    call = _Call.of(op)
    inputs, cotangents = call.differentiate(*_cotangents(op), slice(0, 1), [d_d_x])
    return [*inputs, *call.no_gradients, *cotangents, None]


def _cotangents(op: tf.Operation) -> tuple[State, State]:
    """∂L/∂ the history and ∂L/∂ the final state, which stand before the last of the inputs."""
    histories, states = op.get_attr("histories"), op.get_attr("states")
    tensors = tuple(op.inputs[-1 - histories - states : -1])
    return tensors[:histories], tensors[histories:]
