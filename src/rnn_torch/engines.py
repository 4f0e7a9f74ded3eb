"""How a cell is run over time. An engine is one function of this form:

    engine(step, w, x, state, valid=None, reverse=False) -> (history, final)

with `step` one of `cells.STEPS` (its options bound), `w` the weights by the document's names, `x (time, batch, input)`,
`state` a tuple of `(batch, hidden)`, and `valid (time, batch, 1)`, False where a sequence has ended and its state stays
as it is. `history` holds every state at every step, `(time, batch, hidden)` each, and `final` the state after the last;
`reverse` runs from the last step to the first.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from common.parameters import one_of
from rnn_torch.cells import State, Step


class Engine(Protocol):
    def __call__(
        self, step: Step, w: Any, x: Tensor, state: State, valid: Tensor | None = None, reverse: bool = False
    ) -> tuple[State, State]: ...


def reference(
    step: Step, w: Any, x: Tensor, state: State, valid: Tensor | None = None, reverse: bool = False
) -> tuple[State, State]:
    """The equations, a loop and autograd. Takes every case."""
    history = []
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        after = step(w, x[t], state)
        if valid is not None:
            after = tuple(torch.where(valid[t], new, old) for new, old in zip(after, state, strict=True))
        state = after
        history.append(state)
    if reverse:
        history.reverse()
    return tuple(torch.stack(states) for states in zip(*history, strict=True)), state


ENGINES: dict[str, Engine] = {"reference": reference}


def choose(engine: str) -> Engine:
    """The engine of that name; `"auto"` is the fastest that takes the case, at present `reference`.

    Raises:
        ValueError: an unknown name.
    """
    one_of("engine", engine, ["auto", *ENGINES])
    return ENGINES["reference" if engine == "auto" else engine]
