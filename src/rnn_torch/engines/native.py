"""The engine `native`: compiled kernels, with back-propagation through time by hand, on the CPU."""

from __future__ import annotations

import array
import ctypes
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_common.native import calls, library
from rnn_common.native.calls import Call, Matrix, Rows
from rnn_torch import private
from rnn_torch.activations import name_of
from rnn_torch.cells.base import Recurrence, State

name = "native"

# In a child of this process OpenMP's threads are gone, and to ask for them waits for ever.
_PROCESS = os.getpid()


def refuses(recurrence: Recurrence, x: Tensor, all_states: bool = False) -> str | None:
    """Returns what the kernels do not compute, why there are none, or None."""
    if recurrence.masks:
        return "dropout of the hidden state"
    if recurrence.projected:
        return "a projection"
    if _kernel(recurrence) < 0:
        return "a cell or activations without a kernel"
    if x.device.type != "cpu":
        return "a device other than the CPU"
    if x.dtype not in (torch.float32, torch.float64):
        return "numbers other than float32 and float64"
    return library.absent()


def _kernel(recurrence: Recurrence) -> int:
    """The kernel; −1 if there is none."""
    return calls.kernel_of(recurrence.cell, [name_of(f) for f in recurrence.activations])


def forward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    sizes: list[int] | None = None,
    all_states: bool = False,
    keep: bool = False,
) -> tuple[State, State, State]:
    """See `rnn_torch.engines`. What is saved are the gates, as the kernels lay them out."""
    history = tuple(x.new_empty(*x.shape[:-1], h.size(1)) for h in (state if keep or all_states else state[:1]))
    final = tuple(torch.empty_like(h, memory_format=torch.contiguous_format) for h in state)
    gates = new_gates(recurrence, x, state, keep)
    given = _Given(recurrence, weights, x, state, sizes)
    given.set("history", history)
    given.set("final", final)
    given.call.gates = gates.data_ptr() if gates.numel() else None
    calls.forward(given.call)
    return history, final, (gates,) if keep and gates.size(-1) else ()


def new_gates(recurrence: Recurrence, x: Tensor, state: State, keep: bool) -> Tensor:
    """Memory for the gates of all steps, to `keep` them; none where the states are enough."""
    kernel = _kernel(recurrence)
    if not (keep and calls.keeps(kernel)):
        return x.new_empty(0)
    return x.new_empty(calls.layout(kernel, x[..., 0].numel(), state[0].size(1), x.element_size()))


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
    d_x = torch.empty_like(x, memory_format=torch.contiguous_format) if needs_d_x else None
    d_state = [torch.empty_like(h, memory_format=torch.contiguous_format) for h in state]
    d_weights = [torch.empty_like(w, memory_format=torch.contiguous_format) for w in weights]
    given = _Given(recurrence, weights, x, state, sizes)
    given.set("history", history)
    given.set("d_history", d_history)
    given.set("d_final", d_final)
    given.set("d_state", d_state)
    given.call.gates = saved[0].data_ptr() if saved else None
    if d_x is not None:
        given.call.d_x = given.rows(d_x)
    given.call.d_W, given.call.d_R = map(given.matrix, d_weights[:2])
    for place, d_bias in enumerate(d_weights[2:]):
        given.call.d_bias[place] = d_bias.data_ptr()
    calls.backward(given.call)
    return [d_x, *d_state, *d_weights]


class _Given:
    """What a call of the kernels is given, which has to live as long as it does.

    Attributes:
        call: the call.
        alive: what its addresses are of.
    """

    def __init__(
        self, recurrence: Recurrence, weights: Sequence[Tensor], x: Tensor, state: State, sizes: list[int] | None
    ) -> None:
        W, R, *biases = weights
        self.alive: list[Any] = []
        steps = x.size(0) if sizes is None else len(sizes)
        self.call = Call.of(
            _kernel(recurrence),
            recurrence.cell,
            "torch",
            x.element_size(),
            (steps, len(state[0]), x.size(-1), R.size(1)),
        )
        if sizes is not None:
            counts = array.array("q", sizes)
            self.alive.append(counts)
            self.call.sizes, self.call.packed = counts.buffer_info()[0], True
        if (host := private.openmp()) is not None and os.getpid() == _PROCESS:
            self.alive.append(host)
            self.call.threads, self.call.host = torch.get_num_threads(), ctypes.addressof(host)
        self.call.x = self.rows(x)
        self.set("state", state)
        self.call.W, self.call.R = self.matrix(W), self.matrix(R)
        for place, bias in enumerate(map(Tensor.contiguous, biases)):
            self.alive.append(bias)
            self.call.bias[place] = bias.data_ptr()

    def set(self, name: str, tensors: Sequence[Tensor | None]) -> None:
        """What there is of h and c."""
        for place, tensor in enumerate(tensors):
            if tensor is not None:
                getattr(self.call, name)[place] = self.rows(tensor)

    def rows(self, tensor: Tensor) -> Rows:
        """Of data step by step, packed or not, or of a state; the numbers of a row have to stand side by side."""
        if tensor.stride(-1) != 1:
            tensor = tensor.contiguous()
        self.alive.append(tensor)
        return Rows(tensor.data_ptr(), tensor.stride(0) if tensor.dim() == 3 else 0, tensor.stride(-2))

    def matrix(self, W: Tensor) -> Matrix:
        self.alive.append(W)
        return Matrix(W.data_ptr(), *W.stride())
