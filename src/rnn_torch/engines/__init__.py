"""How a cell is run over time. An engine is three functions on data that run from left to right:

    refuses(recurrence, x, all_states) -> str | None
    forward(recurrence, weights, x, state, sizes, all_states, keep) -> history, final, saved
    backward(recurrence, weights, x, state, sizes, history, saved, d_history, d_final, needs_d_x) -> gradients

`refuses` returns the reason, in words, why the engine does not take the case. `recurrence` is the cell with its options, and
`weights` are as PyTorch packs them. `x` is `(time, batch, input)` or, packed, `(rows, input)`: `sizes` then says how many
sequences, longest first, have each step, and `x` has the rows of each step after those of the step before. `state` is a
tuple of `(batch, hidden)`. `history` is a tuple of every h_t and, with `all_states` or where the engine has use for it, of an
LSTM's every c_t, arranged as `x`; `final` is the state after each sequence's last step. With `keep`, `saved` are the tensors
that the backward pass needs besides.

`backward` returns the gradients of x (None if not needed), the initial state and the weights, from those of the history and the
final state, of which any may be None. It is None of an engine whose operations autograd differentiates.

All else (direction, autograd, second derivatives, compilation, which engine takes a case) is the driver's, `rnn_torch.unroll`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from rnn_torch.cells.base import Recurrence, State
from rnn_torch.engines import fused, native, reference, vendor


class Engine(Protocol):
    """See above; each engine is a module."""

    @property
    def name(self) -> str: ...

    @property
    def backward(self) -> Callable[..., list[Tensor | None]] | None: ...

    def refuses(self, recurrence: Recurrence, x: Tensor, all_states: bool = False) -> str | None: ...

    def forward(
        self,
        recurrence: Recurrence,
        weights: Sequence[Tensor],
        x: Tensor,
        state: State,
        sizes: list[int] | None = None,
        all_states: bool = False,
        keep: bool = False,
    ) -> tuple[State, State, State]: ...


ENGINES: dict[str, Engine] = {"reference": reference, "fused": fused, "native": native, "vendor": vendor}

# Those that `engine="auto"` asks, the fastest first, by the kind of device and the cell; "" stands for any other.
AUTO = {
    ("cuda", ""): ("vendor", "fused", "reference"),
    ("cpu", "LSTM"): ("native", "vendor", "fused", "reference"),  # oneDNN has an LSTM
    ("cpu", ""): ("native", "fused", "reference"),
    ("", ""): ("fused", "reference"),
}


def order(device: str, cell: str) -> tuple[str, ...]:
    """Which engines `engine="auto"` asks, in order."""
    return next(AUTO[key] for key in ((device, cell), (device, ""), ("", "")) if key in AUTO)
