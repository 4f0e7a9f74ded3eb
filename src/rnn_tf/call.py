"""A call of an engine that is not `reference`, as a function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rnn_tf.cells.base import Recurrence, State, Tensor, take
from rnn_tf.compiled import passes

if TYPE_CHECKING:
    from rnn_tf.engines import Engine


def run(
    engine: Engine,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    all_states: bool,
    unrolled: bool = False,
    lengths: Tensor | None = None,
) -> tuple[State, State]:
    """History and final state by an engine that is not `reference`."""
    if engine.backward is None:
        history, final, _ = engine.forward(recurrence, weights, x, state, None, all_states, unrolled, lengths)
        return history, final
    forward, backward = passes(engine, recurrence, (x, *state, *weights), unrolled)
    return differentiable(forward, backward, weights, x, state, all_states)


def differentiable(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    all_states: bool,
) -> tuple[State, State]:
    """History and final state by two passes, of which the second is the first's derivative."""
    states, returned = len(state), len(state) if all_states else 1

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(x: Tensor, *tensors: Tensor) -> Any:
        state, weights = tensors[:states], tensors[states:]
        history, final, saved = forward(weights, x, state)

        # Of operations that can be differentiated again, on tensors that depend on the inputs by such operations.
        def gradient(*d_returned: Tensor) -> Any:
            d_returned = tuple(map(tf.convert_to_tensor, d_returned))  # tf.gather's come as tf.IndexedSlices
            d_history, d_final = d_returned[:returned], d_returned[returned:]
            gradients = backward(weights, x, state, history, saved, d_history, d_final)
            for gradient, tensor in zip(gradients, (x, *tensors), strict=True):
                gradient.set_shape(tensor.shape)
            return gradients

        return (*history[:returned], *final), gradient

    results = run(tf.convert_to_tensor(x), *state, *weights)
    return results[:returned], results[returned:]


def over_valid(
    run: Callable[[Tensor, Tensor], tuple[State, State]], x: Tensor, state: State, valid: Tensor
) -> tuple[State, State]:
    """History and final state over the steps at which `valid (time, batch)` is True; at the others the state stays as it is.

    The valid steps of each sequence are brought together in front, and the states are spread out again. `run` is given such
    sequences and their lengths. What the padding behind the last valid step does to the state is never read, so its
    derivative is zero; where `run` returns every state, neither is the final one that it returns.
    """
    order = tf.argsort(tf.cast(valid, tf.int32), 0, "DESCENDING", stable=True)
    count = tf.cumsum(tf.cast(valid, tf.int32))  # how many valid steps there are up to and with each
    padding = (tf.range(tf.shape(x)[0])[:, None] >= count[-1])[:, :, None]
    x = tf.where(padding, tf.zeros([], x.dtype), take(x, order))
    history, final = run(x, count[-1])
    begun, latest = (count > 0)[:, :, None], tf.maximum(count - 1, 0)
    history = tuple(tf.where(begun, take(h, latest), h_0) for h, h_0 in zip(history, state, strict=False))
    return history, tuple(h[-1] for h in history) if len(history) == len(state) else final
