"""How a cell is run over time. An engine is one function of this form:

    engine(step, w, x, state, valid=None, reverse=False, unroll=False) -> (history, final)

with `step` one of `cells.STEPS` (its options bound), `w` the weights by the document's names, `x (time, batch, input)`,
`state` a tuple of `(batch, hidden)`, and `valid (time, batch, 1)`, False where a sequence has ended and its state stays
as it is. `history` holds every state at every step, `(time, batch, hidden)` each, and `final` the state after the last;
`reverse` runs from the last step to the first, and `unroll` writes the loop out in the graph, once a step.
"""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

from common.parameters import one_of
from rnn_tf.cells import State, Step, Tensor


class Engine(Protocol):
    def __call__(
        self,
        step: Step,
        w: Any,
        x: Tensor,
        state: State,
        valid: Tensor | None = None,
        reverse: bool = False,
        unroll: bool = False,
    ) -> tuple[State, State]: ...


def reference(
    step: Step,
    w: Any,
    x: Tensor,
    state: State,
    valid: Tensor | None = None,
    reverse: bool = False,
    unroll: bool = False,
) -> tuple[State, State]:
    """The equations, a loop and automatic differentiation. Takes every case."""

    def advance(state: State, inputs: tuple[Tensor, Tensor | None]) -> State:
        x_t, valid_t = inputs
        after = step(w, x_t, state)
        if valid is not None:
            after = tuple(tf.where(valid_t, new, old) for new, old in zip(after, state, strict=True))
        return after

    inputs = (x, valid if valid is not None else tf.zeros([tf.shape(x)[0], 0]))
    if not unroll:
        history = tf.scan(advance, inputs, initializer=state, reverse=reverse)
        return history, tuple(states[0 if reverse else -1] for states in history)
    steps = list(zip(*(tf.unstack(each) for each in inputs), strict=True))
    unrolled = []
    for x_t, valid_t in reversed(steps) if reverse else steps:
        state = advance(state, (x_t, valid_t))
        unrolled.append(state)
    if reverse:
        unrolled.reverse()
    return tuple(tf.stack(states) for states in zip(*unrolled, strict=True)), state


ENGINES: dict[str, Engine] = {"reference": reference}


def choose(engine: str) -> Engine:
    """The engine of that name; `"auto"` is the fastest that takes the case, at present `reference`.

    Raises:
        ValueError: an unknown name.
    """
    one_of("engine", engine, ["auto", *ENGINES])
    return ENGINES["reference" if engine == "auto" else engine]
