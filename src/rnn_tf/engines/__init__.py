"""How a cell is run over time. An engine is three functions on data that run from left to right:

    refuses(recurrence, valid) -> str | None
    forward(recurrence, weights, x, state, valid, all_states, unrolled) -> history, final, saved
    backward(recurrence, weights, x, state, history, saved, d_history, d_final, unrolled) -> gradients

`refuses` returns the reason, in words, why the engine does not take the case. `recurrence` is the cell with its options, and
`weights` are as Keras packs them. `x` is `(time, batch, input)` and `state` a tuple of `(batch, hidden)`. `valid` is
`(time, batch, 1)`, False where a step is skipped and the state stays as it is: an engine with a backward pass is given None,
for the driver brings the valid steps together. `unrolled` writes the loop out in the graph, once a step. `history` is a tuple
of every h_t and, with `all_states`, of an LSTM's every c_t, each `(time, batch, hidden)`; `final` is the state after the last
step, and `saved` are the tensors that the backward pass needs.

`backward` returns the gradients of x, the initial state and the weights, in operations that can be differentiated again. It is
None of an engine whose operations TensorFlow differentiates.

All else (padding and gaps, automatic differentiation, graphs, which engine takes a case) is the driver's, `rnn_tf.unroll`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rnn_tf.cells.base import Recurrence, State, Tensor
from rnn_tf.engines import fused, reference


class Engine(Protocol):
    """See above; each engine is a module."""

    @property
    def name(self) -> str: ...

    @property
    def backward(self) -> Callable[..., list[Tensor]] | None: ...

    def refuses(self, recurrence: Recurrence, valid: Tensor | None = None) -> str | None: ...

    def forward(
        self,
        recurrence: Recurrence,
        weights: Sequence[Tensor],
        x: Tensor,
        state: State,
        valid: Any = None,
        all_states: bool = False,
        unrolled: bool = False,
    ) -> tuple[State, State, Any]: ...


ENGINES: dict[str, Engine] = {"reference": reference, "fused": fused}

# Those that `engine="auto"` asks, in order.
AUTO = ("fused", "reference")
