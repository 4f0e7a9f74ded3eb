"""The engine `vendor`: cuDNN's layers, by TensorFlow's operation, on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rnn_common.cells import Cell
from rnn_tf import private
from rnn_tf.cells.base import Activation, Recurrence, State, Tensor
from rnn_tf.engines import fused

name = "vendor"
batch_major = False
backward = None  # TensorFlow's

# What cuDNN calls its layers, by the cell and its activations.
LAYERS: list[tuple[str, tuple[Activation, ...], str]] = [
    ("SimpleRNN", (keras.activations.tanh,), "rnn_tanh"),
    ("SimpleRNN", (keras.activations.relu,), "rnn_relu"),
    ("LSTM", (keras.activations.tanh, keras.activations.sigmoid), "lstm"),
    ("GRU", (keras.activations.tanh, keras.activations.sigmoid), "gru"),
]


def refuses(recurrence: Recurrence, x: Tensor, valid: Tensor | None = None, all_states: bool = False) -> str | None:
    """Returns what cuDNN does not compute, why it is not there, or None."""
    if recurrence.masks:
        return "dropout with a mask for each gate"
    if valid is not None and valid.shape[-1] != 1:
        return "a mask for each unit"
    if layer_of(recurrence) is None:
        return "a cell or activations that cuDNN has no layer of"
    if all_states and len(recurrence.cell.states) > 1:
        return "every c_t, of which cuDNN returns the last"
    if not tf.test.is_built_with_cuda():
        return "a TensorFlow without cuDNN"
    if not tf.config.list_physical_devices("GPU"):
        return "no GPU, and cuDNN is for GPUs"
    if private.in_xla():
        return "XLA, which has no cuDNN operation"
    if private.is_being_saved():
        return "a SavedModel, which may be loaded where there is no GPU"
    return None


def layer_of(recurrence: Recurrence) -> str | None:
    """What cuDNN calls a cell with its activations, or None."""
    for cell, activations, layer in LAYERS:
        given = zip(recurrence.activations, activations, strict=False)
        if recurrence.cell.in_table and recurrence.cell.name == cell and all(a is b for a, b in given):
            return layer
    return None


def forward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    valid: None = None,
    all_states: bool = False,
    unrolled: bool = False,
    lengths: Tensor | None = None,
) -> tuple[State, State, None]:
    """See `rnn_tf.engines`."""
    lengths = tf.fill(tf.shape(x)[1:2], tf.shape(x)[0]) if lengths is None else lengths
    history, *final = run(recurrence, weights, x, state, tf.maximum(lengths, 1))  # cuDNN takes no empty sequence
    empty = (lengths == 0)[:, None]
    return (history,), tuple(tf.where(empty, h_0, h) for h, h_0 in zip(final, state, strict=True)), None


def run(recurrence: Recurrence, weights: Sequence[Tensor], x: Tensor, state: State, lengths: Tensor) -> list[Tensor]:
    """Every h_t, zeros behind a sequence's end, and the state at each end.

    The first derivative is TensorFlow's, of cuDNN's operation. That has none itself: second derivatives are those of the
    engine `fused`.
    """
    states = len(state)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def layer(*inputs: Tensor) -> Any:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            x, state, weights = inputs[0], inputs[1 : 1 + states], inputs[1 + states :]
            returned = cudnn(layer_of(recurrence), x, state, pack(recurrence.cell, weights), lengths)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def gradients(*given: Tensor) -> Any:
            def again(*dd: Tensor) -> list[Tensor]:
                with tf.GradientTape() as second:
                    second.watch(given)
                    found = gradients_by_fused(recurrence, states, given[: len(inputs)], given[len(inputs) :], lengths)
                return second.gradient(found, given, dd, tf.UnconnectedGradients.ZERO)

            d_returned = given[len(inputs) :]
            return tape.gradient(returned, inputs, d_returned, tf.UnconnectedGradients.ZERO), again

        def gradient(*d_returned: Tensor) -> Any:
            return gradients(*inputs, *map(tf.convert_to_tensor, d_returned))  # tf.gather's come as tf.IndexedSlices

        return returned, gradient

    return list(layer(*map(tf.convert_to_tensor, (x, *state, *weights))))


def cudnn(layer: str | None, x: Tensor, state: State, packed: Tensor, lengths: Tensor) -> State:
    """TensorFlow's operation, on a GPU: every h_t and the final state."""
    history, *final, _, _ = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=state[0][None],
        input_c=state[1][None] if len(state) > 1 else tf.zeros([], x.dtype),
        params=packed,
        sequence_lengths=lengths,
        rnn_mode=layer,
        is_training=True,
        time_major=True,
    )
    return (history, *(h[0] for h in final[: len(state)]))


def pack(cell: Cell, weights: Sequence[Tensor]) -> Tensor:
    """Keras's weights in the flat buffer that cuDNN takes.

    That has the gates' matrices row by row, W of all gates and then R of all, and after them the gates' biases, those that are
    added to W x_t and then those that are added to R h_{t−1}. Its order of the gates is PyTorch's. Keras keeps matrices
    transposed and, of a cell whose biases are added anyway, one bias.
    """
    W, R, *biases = weights
    rows = tf.zeros([2, W.shape[1]], W.dtype)
    if biases:
        rows = biases[0] if cell.apart else tf.stack([biases[0], tf.zeros_like(biases[0])])
    given, wanted = cell.orders["keras"], cell.orders["torch"]
    order = [given.index(gate) for gate in wanted]

    def flat(columns: Tensor) -> Tensor:
        by_gate = tf.split(tf.transpose(columns), len(given))
        return tf.reshape(tf.concat([by_gate[place] for place in order], 0), [-1])

    return tf.concat([flat(W), flat(R), flat(rows[0]), flat(rows[1])], 0)


def gradients_by_fused(
    recurrence: Recurrence, states: int, inputs: State, d_returned: State, lengths: Tensor
) -> list[Tensor]:
    """The gradients of x, state and weights in operations that can be differentiated again."""
    x, state, weights = inputs[0], inputs[1 : 1 + states], inputs[1 + states :]
    d_h, *d_final = d_returned
    steps = tf.range(tf.shape(x)[0])[:, None]
    zeros = tf.zeros_like(d_h)
    # Behind a sequence's end there is nothing, and at it the final state.
    at_end = [tf.where((steps == lengths - 1)[:, :, None], d, zeros) for d in d_final]
    d_history = [tf.where((steps < lengths)[:, :, None], d_h, zeros) + at_end[0], *at_end[1:]]
    history, final, gates = fused.forward(recurrence, weights, x, state)
    d_final = [tf.zeros_like(h) for h in final]
    return fused.backward(recurrence, weights, x, state, history, gates, tuple(d_history), tuple(d_final))
