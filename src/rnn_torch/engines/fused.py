"""The engine `fused`: the fast forms of the cells, with back-propagation through time by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_torch.cells.base import Recurrence, State, page
from rnn_torch.cells.kernel import Kernel
from rnn_torch.cells.memory import last_rows

name = "fused"


def refuses(recurrence: Recurrence, x: Tensor, all_states: bool = False) -> str | None:
    """Returns what the fast forms do not compute, or None."""
    if recurrence.masks:
        return "dropout of the hidden state"
    if recurrence.projected:
        return "a projection"
    kernel = getattr(page(recurrence.cell), "Kernel", None)
    if kernel is None:
        return "a cell without a fast form"
    if not all(is_one_of(f, known) for f, known in zip(recurrence.activations, kernel.activations, strict=True)):
        return "activations other than " + " and ".join(f.__name__ for taken in kernel.activations for f in taken)
    if x.is_complex():
        return "complex numbers, whose derivatives need conjugates"
    return None


def is_one_of(activation: Any, known: Iterable[Any]) -> bool:
    """By identity: a user's activation need not have a hash, or an equality."""
    return any(activation is each for each in known)


def forward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    sizes: list[int] | None = None,
    all_states: bool = False,
    keep: bool = False,
) -> tuple[State, State, State]:
    """See `rnn_torch.engines`. What is saved are the gates of all steps; of a cell with one, the history has them."""
    kernel = make_kernel(recurrence, weights)
    history, latest = new_history(kernel, x, state, keep or all_states or sizes is not None)
    gates = history[0] if kernel.blocks == 1 else kernel.new_gates(x, keep, sizes)
    final = kernel.forward(x, state, (*history, *latest), gates, sizes)
    if sizes is not None:
        rows = last_rows(torch.tensor(sizes, device="cpu"), len(state[0])).to(x.device)
        final = tuple(h.index_select(0, rows) for h in history)
    return history, final, (gates,) if keep and kernel.blocks > 1 else ()


def backward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    sizes: list[int] | None,
    history: State,
    saved: State,
    d_history: tuple[Tensor | None, ...],
    d_final: tuple[Tensor | None, ...],
    needs_d_x: bool,
) -> list[Tensor | None]:
    """See `rnn_torch.engines`."""
    (gates,) = saved or history
    return make_kernel(recurrence, weights).backward(x, state, history, gates, d_history, d_final, needs_d_x, sizes)


def make_kernel(recurrence: Recurrence, weights: Sequence[Tensor]) -> Kernel:
    """The fast form of a cell with its weights."""
    return page(recurrence.cell).Kernel(recurrence.activations, tuple(weights))


def new_history(kernel: Kernel, x: Tensor, state: State, all_states: bool) -> tuple[State, State]:
    """Memory for every h_t and, with `all_states`, every c_t.

    Of a c_t that nobody asks for only the latest is kept, second: a history all of whose steps are the same memory.
    """
    history = x.new_empty(*x.shape[:-1], kernel.hidden)
    if all_states:
        return (history, *(kernel.new(x, x.size(0), kernel.hidden) for _ in state[1:])), ()
    return (history,), tuple(kernel.new(x, 1, kernel.hidden).expand(history.shape) for _ in state[1:])
