"""Every private API of PyTorch's that this package leans on, each with its reason; `tests/house/test_private.py` says when one
breaks."""

from __future__ import annotations

import torch
from torch import Tensor


def transforms_are_active() -> bool:
    """Whether a transform of `torch.func` is at work, which would not see what a function with its own derivative does."""
    return torch._C._are_functorch_transforms_active()


def modes_are_active() -> bool:
    """Whether a mode watches operations, such as those of `make_fx` and `FlopCounterMode`; there is no public way to ask."""
    return torch._C._len_torch_dispatch_stack() > 0


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor is one of `is_grads_batched`, which batches by other means than `torch.func`."""
    return torch._C._functorch.is_legacy_batchedtensor(tensor)
