"""The engine `fused`: the fast forms of the cells, with back-propagation through time by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from rnn_tf.cells.base import Recurrence, State, Tensor, page
from rnn_tf.cells.kernel import BACKWARD, Kernel

name = "fused"
batch_major = False

# The activations that keep the state within bounds.
BOUNDED = (keras.activations.tanh, keras.activations.sigmoid)


def refuses(recurrence: Recurrence, x: Tensor, valid: Tensor | None = None, all_states: bool = False) -> str | None:
    """Returns what the fast forms do not compute, or None."""
    if recurrence.masks:
        return "dropout with a mask for each gate"
    if valid is not None and valid.shape[-1] != 1:
        return "a mask for each unit"
    if not hasattr(page(recurrence.cell), "Kernel"):
        return "a cell without a fast form"
    if not all(is_one_of(activation, BACKWARD) for activation in recurrence.activations):
        return "activations other than tanh, σ, relu and the identity"
    if valid is not None and not all(is_one_of(activation, BOUNDED) for activation in recurrence.activations):
        return "relu or the identity, and padding, on which an unbounded state may overflow"
    return None


def is_one_of(activation: Any, known: Iterable[Any]) -> bool:
    """By identity: a user's activation need not have a hash, or an equality."""
    return any(activation is each for each in known)


def forward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    valid: None = None,
    all_states: bool = True,
    unrolled: bool = False,
    lengths: Tensor | None = None,
) -> tuple[State, State, State]:
    """See `rnn_tf.engines`. What is saved are the gates; what nobody asks for TensorFlow drops."""
    return make_kernel(recurrence, unrolled).forward(weights, x, state)


def backward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    history: State,
    gates: State,
    d_history: State,
    d_final: State,
    unrolled: bool = False,
) -> list[Tensor]:
    """See `rnn_tf.engines`."""
    return make_kernel(recurrence, unrolled).backward(weights, x, state, history, gates, d_history, d_final)


def make_kernel(recurrence: Recurrence, unrolled: bool = False) -> Kernel:
    """The fast form of a cell; `unrolled` writes its loops out in the graph."""
    return page(recurrence.cell).Kernel(recurrence.cell, recurrence.activations, unrolled)
