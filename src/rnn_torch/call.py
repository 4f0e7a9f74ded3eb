"""A call of an engine with a backward pass, as a function of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnn_torch.cells.base import Recurrence, State
from rnn_torch.engines import Engine, reference
from rnn_torch.stack import by_reference


def sizes_of(batch_sizes: Tensor | None) -> list[int] | None:
    """How many sequences each step of packed data has, as engines take it; None of data that are not packed."""
    return None if batch_sizes is None else batch_sizes.tolist()


class Call(NamedTuple):
    """What is no tensor about a call; `states` is how many tensors the state has."""

    engine: Engine
    recurrence: Recurrence
    sizes: list[int] | None
    states: int
    all_states: bool

    def split(self, inputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor, State]:
        """Weights, x and state out of all inputs of the function that autograd sees."""
        return tuple(inputs[1 + self.states :]), inputs[0], tuple(inputs[1 : 1 + self.states])

    def backward(
        self, inputs: Sequence[Tensor], history: State, saved: State, d: Sequence[Any], needs_d_x: bool
    ) -> list[Any]:
        """The gradients of the inputs by the engine, from what the forward pass kept and ∂L/∂ what it returned."""
        d_history, d_final = tuple(d[: len(history)]), tuple(d[len(history) :])
        return self.engine.backward(  # type: ignore[misc]
            self.recurrence, *self.split(inputs), self.sizes, history, saved, d_history, d_final, needs_d_x
        )

    def differentiate(
        self, inputs: Sequence[Tensor], d: Sequence[Tensor | None], needs: Sequence[bool], again: bool
    ) -> list[Tensor | None]:
        """The same gradients by way of `reference`, in operations that can be differentiated again."""
        with torch.enable_grad():
            every = len(d) == 2 * self.states
            if inputs[1].dim() == 3:
                history, final = by_reference(self.recurrence, *self.split(inputs), self.sizes)
            else:
                history, final, _ = reference.forward(self.recurrence, *self.split(inputs), self.sizes, every)
            pairs = [(y, d_y) for y, d_y in zip((*history, *final), d, strict=True) if d_y is not None]
            wanted = [tensor for tensor, need in zip(inputs, needs, strict=True) if need]
            outputs, cotangents = zip(*pairs, strict=True)
            gradients = iter(torch.autograd.grad(outputs, wanted, cotangents, create_graph=again))
        return [next(gradients) if need else None for need in needs]
