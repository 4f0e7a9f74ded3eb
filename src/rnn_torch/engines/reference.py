"""The engine `reference`: the equations, a loop and autograd."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rnn_torch.cells.base import Recurrence, State

name = "reference"
backward = None  # autograd's


def refuses(recurrence: Recurrence, x: Tensor, all_states: bool = False) -> str | None:
    """Takes every case."""
    return None


def forward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    sizes: list[int] | None = None,
    all_states: bool = False,
    keep: bool = False,
) -> tuple[State, State, State]:
    """See `rnn_torch.engines`."""
    step = recurrence.step(weights)
    ended: list[State] = []
    history: list[State] = []
    for x_t in x.unbind(0) if sizes is None else torch.split(x, sizes):
        batch, running = x_t.size(0), state[0].size(0)
        if batch < running:
            ended.append(tuple(h[batch:] for h in state))
            state = tuple(h[:batch] for h in state)
        state = step(x_t, state)
        history.append(state if all_states else state[:1])
    joined = torch.stack if sizes is None else torch.cat
    final = tuple(torch.cat(each) for each in zip(state, *reversed(ended), strict=True)) if ended else state
    return tuple(joined(states) for states in zip(*history, strict=True)), final, ()
