"""How a cell is run over time. An engine is three functions on data that run from left to right:

    refuses(recurrence, x, valid, all_states) -> str | None
    forward(recurrence, weights, x, state, valid, all_states, unrolled, lengths) -> history, final, saved
    backward(recurrence, weights, x, state, history, saved, d_history, d_final, unrolled) -> gradients

`refuses` returns the reason, in words, why the engine does not take the case. `recurrence` is the cell with its options, and
`weights` are as Keras packs them. `x` is `(time, batch, input)` and `state` a tuple of `(batch, hidden)`. `valid` is
`(time, batch, 1)`, False where a step is skipped and the state stays as it is. `fused` and `vendor` are given None, for the
driver brings the valid steps together, and `lengths`, how many each sequence has, `(batch,)`: what is returned of the steps
behind them is not read, nor the final state of `fused`, which runs them. `unrolled` writes the loop out in the graph, once a
step. `history` is a tuple of every h_t and, with `all_states`, of an LSTM's every c_t, each `(time, batch, hidden)`; `final`
is the state after the last step, and `saved` are the tensors that the backward pass needs. Of an engine that is `batch_major`
the first two axes of x, `valid` and the history are the other way round.

`backward` returns the gradients of x, the initial state and the weights, in operations that can be differentiated again. It is
None of an engine whose operations TensorFlow differentiates.

All else (padding and gaps, automatic differentiation, graphs, which engine takes a case) is the driver's, `rnn_tf.unroll`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rnn_tf.cells.base import Recurrence, State, Tensor
from rnn_tf.engines import fused, native, reference, vendor


class Engine(Protocol):
    """See above; each engine is a module."""

    @property
    def name(self) -> str: ...

    @property
    def batch_major(self) -> bool: ...

    @property
    def backward(self) -> Callable[..., list[Tensor]] | None: ...

    def refuses(
        self, recurrence: Recurrence, x: Tensor, valid: Tensor | None = None, all_states: bool = False
    ) -> str | None: ...

    def forward(
        self,
        recurrence: Recurrence,
        weights: Sequence[Tensor],
        x: Tensor,
        state: State,
        valid: Any = None,
        all_states: bool = False,
        unrolled: bool = False,
        lengths: Tensor | None = None,
    ) -> tuple[State, State, Any]: ...


ENGINES: dict[str, Engine] = {"reference": reference, "fused": fused, "native": native, "vendor": vendor}

# Those that `engine="auto"` asks, the fastest first, by the kind of device and the cell; "" stands for any other.
AUTO = {
    ("cuda", ""): ("vendor", "fused", "reference"),
    ("", ""): ("native", "fused", "reference"),
}


def order(device: str, cell: str) -> tuple[str, ...]:
    """Which engines `engine="auto"` asks, in order."""
    return next(AUTO[key] for key in ((device, cell), (device, ""), ("", "")) if key in AUTO)
