"""Every private API of PyTorch's that this package leans on, each with its reason; `tests/house/test_private.py` says when one
breaks."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.backends.cudnn.rnn import get_cudnn_mode

from rnn_common.native.calls import Host


def transforms_are_active() -> bool:
    """Whether a transform of `torch.func` is at work, which would not see what a function with its own derivative does."""
    return torch._C._are_functorch_transforms_active()


def modes_are_active() -> bool:
    """Whether a mode watches operations, such as those of `make_fx` and `FlopCounterMode`; there is no public way to ask."""
    return torch._C._len_torch_dispatch_stack() > 0


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor is one of `is_grads_batched`, which batches by other means than `torch.func`."""
    return torch._C._functorch.is_legacy_batchedtensor(tensor)


def above_autograd() -> AbstractContextManager[Any]:
    """Have autograd record what an operation's own program does, which runs below it: `vendor` differentiates by autograd."""
    return torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False)


def graph_is_kept() -> bool:
    """Whether the backward pass at work has `retain_graph`: without it, what a graph within the graph keeps can go, too."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


def in_one_piece_for_cudnn(weights: Sequence[Tensor], mode: str) -> list[Tensor]:
    """Copies of a layer's weights, `weight_ih` first, in one piece of memory as cuDNN wants them.

    That is what `nn.RNNBase.flatten_parameters` does to parameters. Here they stay as they are: the memory of tensors with a
    version of their own is exchanged.
    """
    with torch.no_grad(), torch.cuda.device_of(weights[0]):  # type: ignore[no-untyped-call]
        plain = [w.is_contiguous() and not w.is_inference() for w in weights]
        copies = [
            w.data if each else w.clone(memory_format=torch.contiguous_format)
            for w, each in zip(weights, plain, strict=True)
        ]
        width, hidden = weights[0].size(1), weights[1].size(1)
        number = get_cudnn_mode(mode)  # type: ignore[no-untyped-call]
        torch._cudnn_rnn_flatten_weight(copies, len(copies), width, number, hidden, 0, 1, False, False)
        return copies


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
