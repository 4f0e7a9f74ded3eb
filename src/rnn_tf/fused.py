"""The engine `fused`: the kernels of `rnn_tf.kernels`, with back-propagation through time by hand.

- Padding and gaps: the valid steps of each sequence are brought together in front, and the states are spread out again.
- Second derivatives are those of the operations that the kernels consist of, forwards and backwards.
- Without a graph the kernels run as graphs of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import keras
import tensorflow as tf

# Not exported by TensorFlow, but the only way to see that a `ForwardAccumulator` is at work, which no graph's loop takes.
from tensorflow.python.eager.forwardprop_util import pack_tangents

from rnn_tf.cells import Recurrence, State, Tensor
from rnn_tf.kernels import BACKWARD, kernel_of
from rnn_tf.reference import reference

# The activations that keep the state within bounds.
BOUNDED = (keras.activations.tanh, keras.activations.sigmoid)


def fused(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    valid: Tensor | None = None,
    reverse: bool = False,
    all_states: bool = False,
    unroll: bool = False,
) -> tuple[State, State]:
    """Takes what `leaves` does not name, see `rnn_tf.engines`."""
    if leaves(recurrence, valid):
        return reference(recurrence, x, state, valid, reverse, all_states, unroll)
    if reverse:
        x = tf.reverse(x, [0])
    if valid is None:
        history, final = _run(recurrence, x, state, all_states, unroll)
    else:
        valid = tf.squeeze(tf.reverse(valid, [0]) if reverse else valid, -1)
        history, final = _run_valid(recurrence, x, state, valid, unroll)
    history = history if all_states else history[:1]
    return tuple(tf.reverse(h, [0]) for h in history) if reverse else history, final


def leaves(recurrence: Recurrence, valid: Tensor | None = None) -> str | None:
    """What about a case this engine leaves to `reference`; None for the cases that it takes."""
    if recurrence.masks:
        return "dropout with a mask for each gate"
    if valid is not None and valid.shape[-1] != 1:
        return "a mask for each unit"
    activations = [recurrence.activation] + [recurrence.recurrent_activation] * (recurrence.cell != "SimpleRNN")
    if not all(is_one_of(activation, BACKWARD) for activation in activations):
        return "activations other than tanh, σ, relu and the identity"
    if valid is not None and not all(is_one_of(activation, BOUNDED) for activation in activations):
        return "relu or the identity, and padding, on which an unbounded state may overflow"
    return None


def is_one_of(activation: Any, known: Iterable[Any]) -> bool:
    """By identity: a user's activation need not have a hash, or an equality."""
    return any(activation is each for each in known)


# Padding and gaps


def _run_valid(recurrence: Recurrence, x: Tensor, state: State, valid: Tensor, unroll: bool) -> tuple[State, State]:
    """Run over the steps at which `valid (time, batch)` is True; at the others the state stays as it is.

    What the padding behind the last valid step does to the state is never read, so its derivative is zero.
    """
    order = tf.argsort(tf.cast(valid, tf.int32), 0, "DESCENDING", stable=True)
    count = tf.cumsum(tf.cast(valid, tf.int32))  # how many valid steps there are up to and with each
    padding = (tf.range(tf.shape(x)[0])[:, None] >= count[-1])[:, :, None]
    x = tf.where(padding, tf.zeros([], x.dtype), _take(x, order))
    history, _ = _run(recurrence, x, state, True, unroll)
    begun, latest = (count > 0)[:, :, None], tf.maximum(count - 1, 0)
    history = tuple(tf.where(begun, _take(h, latest), h_0) for h, h_0 in zip(history, state, strict=True))
    return history, tuple(h[-1] for h in history)


def _take(sequence: Tensor, steps: Tensor) -> Tensor:
    """For each step and sequence of a batch, the step of that sequence that `steps (time, batch)` names."""
    batch = tf.broadcast_to(tf.range(tf.shape(steps)[1]), tf.shape(steps))
    return tf.gather_nd(sequence, tf.stack([steps, batch], -1))


# Forward and backward


def _run(recurrence: Recurrence, x: Tensor, state: State, all_states: bool, unroll: bool) -> tuple[State, State]:
    """Every h_t, with `all_states` every c_t, and the states after the last step."""
    states, returned = len(state), len(state) if all_states else 1
    kernel = kernel_of(recurrence, unroll)
    tensors = tuple(map(tf.convert_to_tensor, (x, *state, *recurrence.packed)))
    eagerly = tf.executing_eagerly() and not unroll and not pack_tangents(tensors).tangents
    forward, backward = kernel.forward, kernel.backward
    if eagerly:
        forward, backward = (partial(kernel.call, graph) for graph in (kernel.graph_forward, kernel.graph_backward))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(x: Tensor, *tensors: Tensor) -> Any:
        state, packed = tensors[:states], tensors[states:]
        history, final, gates = forward(packed, x, state)

        # Of operations that can be differentiated again, on tensors that depend on the inputs by such operations.
        def gradient(*d_returned: Tensor) -> Any:
            d_returned = tuple(map(tf.convert_to_tensor, d_returned))  # tf.gather's come as tf.IndexedSlices
            d_history, d_final = d_returned[:returned], d_returned[returned:]
            gradients = backward(packed, x, state, history, gates, d_history, d_final)
            for gradient, tensor in zip(gradients, (x, *tensors), strict=True):
                gradient.set_shape(tensor.shape)
            return gradients

        return (*history[:returned], *final), gradient

    results = run(*tensors)
    return results[:returned], results[returned:]
