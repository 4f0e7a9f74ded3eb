"""Every private API of PyTorch's that this package leans on, each with its reason; `tests/house/test_private.py` says when one
breaks."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.backends.cudnn.rnn import get_cudnn_mode

from rnn_common.native.calls import Host

State = tuple[Tensor, ...]


def transforms_are_active() -> bool:
    """Whether a transform of `torch.func` is at work, which would not see what a function with its own derivative does."""
    return torch._C._are_functorch_transforms_active()


def modes_are_active() -> bool:
    """Whether a mode watches operations, such as those of `make_fx` and `FlopCounterMode`; there is no public way to ask."""
    return torch._C._len_torch_dispatch_stack() > 0


def tangents_are_possible() -> bool:
    """Whether a level of forward-mode differentiation is open; without one no tensor has a tangent."""
    return forward_ad._current_level >= 0


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor is one of `is_grads_batched`, which batches by other means than `torch.func`."""
    return torch._C._functorch.is_legacy_batchedtensor(tensor)


def above_autograd() -> AbstractContextManager[Any]:
    """Have autograd record what an operation's own program does, which runs below it: `vendor` differentiates by autograd."""
    return torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False)


def graph_is_kept() -> bool:
    """Whether the backward pass at work has `retain_graph`: without it, what a graph within the graph keeps can go, too."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


class CuDNN(NamedTuple):
    """cuDNN's layers of one kind and size: the operation that `torch.lstm` calls, and its derivative.

    Attributes:
        mode, hidden, layers, bidirectional: what they are.
        places: where cuDNN reads each weight in the one piece of memory that holds all of them, in numbers from its beginning.
        size: how many numbers that piece holds.
    """

    mode: int
    hidden: int
    layers: int
    bidirectional: bool
    places: tuple[int, ...]
    size: int

    def in_one_piece(self, weights: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The weights, and the piece that holds them: the memory of a layer that was moved to a GPU, else that of copies.

        Parameters stay as they are, other than by `nn.RNNBase.flatten_parameters`. Without biases they are copied always: cuDNN
        reads zeros behind them, and whose the memory there is cannot be told.
        """
        first = weights[0]
        start, each = first.data_ptr(), first.element_size()
        whole = first.storage_offset() == 0 and first.untyped_storage().nbytes() >= each * self.size
        if (
            whole
            and sum(w.numel() for w in weights) == self.size
            and all(
                w.is_contiguous() and w.data_ptr() == start + each * place
                for w, place in zip(weights, self.places, strict=True)
            )
        ):
            return list(weights), first.as_strided((self.size,), (1,))
        piece, copies = first.new_zeros(self.size), []
        for w, place in zip(weights, self.places, strict=True):
            copies.append(piece[place : place + w.numel()].view(w.shape))
            copies[-1].copy_(w.detach())
        return copies, piece

    def _options(self, train: bool, sizes: list[int] | None) -> tuple[Any, ...]:
        """Mode, width, projection, layers, batch first, dropout, training, both ways, sizes and dropout's state."""
        return self.mode, self.hidden, 0, self.layers, False, 0.0, train, self.bidirectional, sizes or [], None

    def _a_run(self) -> int:
        """How many weights a layer and direction has."""
        return len(self.places) // (self.layers * (1 + self.bidirectional))

    def forward(
        self, weights: list[Tensor], piece: Tensor, x: Tensor, state: State, sizes: list[int] | None, keep: bool
    ) -> tuple[Tensor, State, Tensor]:
        """Every h_t, the final state, and with `keep` what the derivative needs besides."""
        h_0, c_0 = state[0], state[1] if len(state) > 1 else None
        options = self._options(keep, sizes)
        history, h_n, c_n, reserve, _ = torch._cudnn_rnn(x, weights, self._a_run(), piece, h_0, c_0, *options)
        return history, (h_n, c_n)[: len(state)], reserve

    def backward(
        self,
        weights: Sequence[Tensor],
        piece: Tensor,
        x: Tensor,
        state: State,
        sizes: list[int] | None,
        history: Tensor,
        reserve: Tensor,
        d_history: Tensor | None,
        d_final: Sequence[Tensor | None],
        needs_d_x: bool,
        needs_d_weights: bool,
    ) -> tuple[Tensor | None, State, list[Tensor]]:
        """The gradients of x (None if not needed), the state and the weights (none if not needed). It writes in `reserve`."""
        h_0, c_0 = state[0], state[1] if len(state) > 1 else None
        d_h, d_c = d_final[0], d_final[1] if len(state) > 1 else None
        options, needs = self._options(True, sizes), [needs_d_x, True, c_0 is not None, needs_d_weights]
        d_x, d_h_0, d_c_0, d_weights = torch.ops.aten._cudnn_rnn_backward(
            x, weights, self._a_run(), piece, h_0, c_0, history, d_history, d_h, d_c, *options, reserve, needs
        )
        return d_x if needs_d_x else None, (d_h_0, d_c_0)[: len(state)], d_weights


@functools.cache
def cudnn(
    mode: str,
    W: torch.Size,
    R: torch.Size,
    count: int,
    layers: int,
    directions: int,
    dtype: torch.dtype,
    device: torch.device,
) -> CuDNN:
    """cuDNN's layers whose first two of `count` weights have those shapes: it is asked once where it wants which."""
    number, runs = get_cudnn_mode(mode), layers * directions  # type: ignore[no-untyped-call]
    shapes: list[Sequence[int]] = []
    for n in range(runs):
        width = W[1] if n < directions else directions * R[1]
        shapes += [(W[0], width), R, *[W[:1]] * (count // runs - 2)]
    with torch.no_grad():
        weights = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
        piece = torch._cudnn_rnn_flatten_weight(
            weights, count // runs, W[1], number, R[1], 0, layers, False, directions > 1
        )
    places = tuple((w.data_ptr() - piece.data_ptr()) // piece.element_size() for w in weights)
    return CuDNN(number, R[1], layers, directions > 1, places, piece.numel())


@functools.cache
def openmp() -> Host | None:
    """PyTorch's own OpenMP, by the addresses of its functions, or None where that is not GNU's.

    The kernels run in PyTorch's threads: those of a second pool would wait for a processor on which PyTorch's still spin.
    """
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    try:
        library = ctypes.CDLL(next(map(str, (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))))
        return Host(*(ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names))
    except (StopIteration, OSError, AttributeError):
        return None
