"""The engine `reference`: the equations, a loop and automatic differentiation."""

from __future__ import annotations

import tensorflow as tf

from rnn_tf.cells import Recurrence, State, Tensor


def reference(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    valid: Tensor | None = None,
    reverse: bool = False,
    all_states: bool = False,
    unroll: bool = False,
) -> tuple[State, State]:
    """Takes every case, see `rnn_tf.engines`."""
    step = recurrence.step()

    def advance(state: State, inputs: tuple[Tensor, Tensor | None]) -> State:
        x_t, valid_t = inputs
        after = step(x_t, state)
        if valid is not None:
            after = tuple(tf.where(valid_t, new, old) for new, old in zip(after, state, strict=True))
        return after

    inputs = (x, valid if valid is not None else tf.zeros([tf.shape(x)[0], 0]))
    kept = len(state) if all_states else 1
    if not unroll:
        history = tf.scan(advance, inputs, initializer=state, reverse=reverse)
        return history[:kept], tuple(states[0 if reverse else -1] for states in history)
    steps = list(zip(*(tf.unstack(each) for each in inputs), strict=True))
    unrolled = []
    for x_t, valid_t in reversed(steps) if reverse else steps:
        state = advance(state, (x_t, valid_t))
        unrolled.append(state[:kept])
    if reverse:
        unrolled.reverse()
    return tuple(tf.stack(states) for states in zip(*unrolled, strict=True)), state
