"""The engine `reference`: the equations, a loop and autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from rnn_torch.cells import Recurrence, State


def reference(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    valid: Tensor | None = None,
    reverse: bool = False,
    all_states: bool = False,
) -> tuple[State, State]:
    """Takes every case, see `rnn_torch.engines`."""
    step, history = recurrence.step(), []
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        after = step(x[t], state)
        if valid is not None:
            after = tuple(torch.where(valid[t], new, old) for new, old in zip(after, state, strict=True))
        state = after
        history.append(state if all_states else state[:1])
    if reverse:
        history.reverse()
    return tuple(torch.stack(states) for states in zip(*history, strict=True)), state
