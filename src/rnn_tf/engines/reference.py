"""The engine `reference`: the equations, a loop and automatic differentiation."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rnn_tf.cells.base import Recurrence, State, Tensor

name = "reference"
batch_major = False
backward = None  # TensorFlow's


def refuses(recurrence: Recurrence, x: Tensor, valid: Tensor | None = None, all_states: bool = False) -> str | None:
    """Takes every case."""
    return None


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
    """See `rnn_tf.engines`."""
    step = recurrence.step(weights)

    def advance(state: State, inputs: tuple[Tensor, Tensor | None]) -> State:
        x_t, valid_t = inputs
        after = step(x_t, state)
        if valid is not None:
            after = tuple(tf.where(valid_t, new, old) for new, old in zip(after, state, strict=True))
        return after

    inputs = (x, valid if valid is not None else tf.zeros([tf.shape(x)[0], 0]))
    kept = len(state) if all_states else 1
    if not unrolled:
        history = tf.scan(advance, inputs, initializer=state)
        return history[:kept], tuple(states[-1] for states in history), None
    every = []
    for each in zip(*(tf.unstack(each) for each in inputs), strict=True):
        state = advance(state, each)
        every.append(state[:kept])
    return tuple(tf.stack(states) for states in zip(*every, strict=True)), state, None
