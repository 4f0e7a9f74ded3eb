"""PyTorch on its machine: what it is, what it runs on, and how long that takes; see `rnn_common.twins.Clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def devices() -> tuple[str, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def forget_compiled() -> None:
    torch.compiler.reset()


def set_threads(count: int) -> None:
    torch.set_num_threads(count)


def seconds(function: Callable[[], Any], calls: int = 1, device: str = "cpu") -> float:
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            function()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / calls
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def peak_memory(function: Callable[[], Any], device: str = "cuda") -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def matrix_product(size: int, device: str = "cpu", dtype: str = "float32") -> Callable[[], Tensor]:
    a, b = torch.rand((2, size, size), device=device, dtype=getattr(torch, dtype))
    return lambda: a @ b
