"""How a cell is run over time. An engine is one function of this form:

    engine(recurrence, x, state, batch_sizes=None, reverse=False, all_states=False) -> (history, final)

with `recurrence` the cell, its weights and options, `x (time, batch, input)` and `state` a tuple of `(batch, hidden)`.
`history` is a tuple of every h_t and, with `all_states`, an LSTM's every c_t, each `(time, batch, hidden)`; `final` is the
state after the last step. `reverse` runs from the last step to the first; the history is in the order of the input.

Sequences of several lengths come packed, as in a `PackedSequence`: `batch_sizes (time,)`, on the CPU, says how many of them,
longest first, have each step, and `x (rows, input)` and the history have the rows of each step after those of the step before.
Each sequence then has its own last step.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from rnn_common.checks import one_of
from rnn_torch.cells import Recurrence, State
from rnn_torch.fused import fused
from rnn_torch.reference import reference


class Engine(Protocol):
    def __call__(
        self,
        recurrence: Recurrence,
        x: Tensor,
        state: State,
        batch_sizes: Tensor | None = None,
        reverse: bool = False,
        all_states: bool = False,
    ) -> tuple[State, State]: ...


ENGINES: dict[str, Engine] = {"reference": reference, "fused": fused}


def choose(engine: str) -> Engine:
    """The engine of that name; `"auto"` is `fused`, which leaves to `reference` what it does not take.

    Raises:
        ValueError: an unknown name.
    """
    one_of("engine", engine, ["auto", *ENGINES])
    return ENGINES["fused" if engine == "auto" else engine]
