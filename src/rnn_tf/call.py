"""A call of an engine that is not `reference`, as a function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rnn_tf.cells.base import Recurrence, State, Tensor
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
