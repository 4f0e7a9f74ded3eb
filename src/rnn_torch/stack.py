"""Layers on top of each other, each in one direction or in both: one run after the other. `vendor` has them in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rnn_torch.cells.base import Recurrence, State
from rnn_torch.cells.memory import reverse
from rnn_torch.engines import reference

Run = Callable[[int, Tensor, bool], tuple[State, State]]


def run_each(
    run: Run, x: Tensor, layers: int, directions: int, between: Callable[[Tensor], Tensor] = lambda x: x
) -> tuple[Tensor, list[State]]:
    """Every layer and direction, numbered as PyTorch numbers them.

    Args:
        run: from a number, the input and whether it is run backwards to history and final state.
        x: what the first layer is given; every other is given the outputs of the one below.
        layers, directions: how many there are.
        between: what is done to the outputs of one layer on their way to the next. Default nothing.

    Returns:
        The last layer's outputs, and the final state of every run.
    """
    finals: list[State] = []
    for layer in range(layers):
        x = between(x) if layer else x
        outputs: list[Tensor] = []
        for direction in range(directions):
            history, final = run(layer * directions + direction, x, direction == 1)
            outputs.append(history[0])
            finals.append(final)
        x = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    return x, finals


def joined(states: list[State]) -> State:
    """Each state of all layers and directions as one tensor, along a new first axis."""
    return tuple(torch.stack(each) for each in zip(*states, strict=True))


def by_reference(
    recurrence: Recurrence, weights: Sequence[Tensor], x: Tensor, state: State, sizes: list[int] | None
) -> tuple[State, State]:
    """What `vendor` runs in one call, by `reference`: the outputs and the final states of all layers and directions."""
    count = len(weights) // len(state[0])
    batch_sizes = None if sizes is None else torch.tensor(sizes, device="cpu")

    def turned(sequence: Tensor, backwards: bool) -> Tensor:
        return reverse(sequence, batch_sizes, state[0].size(1)) if backwards else sequence

    def run(n: int, x: Tensor, backwards: bool) -> tuple[State, State]:
        own, before = weights[n * count : (n + 1) * count], tuple(h[n] for h in state)
        (history,), final, _ = reference.forward(recurrence, own, turned(x, backwards), before, sizes)
        return (turned(history, backwards),), final

    output, finals = run_each(run, x, recurrence.layers, recurrence.directions)
    return (output,), joined(finals)
