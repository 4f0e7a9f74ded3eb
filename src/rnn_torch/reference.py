"""The engine `reference`: the equations, a loop and autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from rnn_torch.cells import Recurrence, State


def reference(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
    all_states: bool = False,
) -> tuple[State, State]:
    """Takes every case, see `rnn_torch.engines`."""
    step, initial = recurrence.step(), state
    steps = x.unbind(0) if batch_sizes is None else torch.split(x, batch_sizes.tolist())
    ended: list[State] = []
    history: list[State] = []
    if batch_sizes is not None and reverse:
        state = tuple(h[:0] for h in state)  # each sequence begins at its own last step
    for x_t in reversed(steps) if reverse else steps:
        batch, running = x_t.size(0), state[0].size(0)
        if batch < running:
            ended.append(tuple(h[batch:] for h in state))
            state = tuple(h[:batch] for h in state)
        elif batch > running:
            state = tuple(torch.cat([h, h_0[running:batch]]) for h, h_0 in zip(state, initial, strict=True))
        state = step(x_t, state)
        history.append(state if all_states else state[:1])
    if reverse:
        history.reverse()
    joined = torch.stack if batch_sizes is None else torch.cat
    final = tuple(torch.cat(each) for each in zip(state, *reversed(ended), strict=True)) if ended else state
    return tuple(joined(states) for states in zip(*history, strict=True)), final
