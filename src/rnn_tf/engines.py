"""How a cell is run over time. An engine is one function of this form:

    engine(recurrence, x, state, valid=None, reverse=False, all_states=False, unroll=False) -> (history, final)

with `recurrence` the cell, its weights and options, `x (time, batch, input)`, `state` a tuple of `(batch, hidden)`, and
`valid (time, batch, 1)`, False where a step is skipped and the state stays as it is. `history` is a tuple of every h_t and,
with `all_states`, an LSTM's every c_t, each `(time, batch, hidden)`; `final` is the state after the last step. `reverse`
runs from the last step to the first; the history is in the order of the input. `unroll` writes the loop out in the graph,
once a step.
"""

from __future__ import annotations

from typing import Protocol

from rnn_common.checks import one_of
from rnn_tf.cells import Recurrence, State, Tensor
from rnn_tf.fused import fused
from rnn_tf.reference import reference


class Engine(Protocol):
    def __call__(
        self,
        recurrence: Recurrence,
        x: Tensor,
        state: State,
        valid: Tensor | None = None,
        reverse: bool = False,
        all_states: bool = False,
        unroll: bool = False,
    ) -> tuple[State, State]: ...


ENGINES: dict[str, Engine] = {"reference": reference, "fused": fused}


def choose(engine: str) -> Engine:
    """The engine of that name; `"auto"` is `fused`, which leaves to `reference` what it does not take.

    Raises:
        ValueError: an unknown name.
    """
    one_of("engine", engine, ["auto", *ENGINES])
    return ENGINES["fused" if engine == "auto" else engine]
