"""TensorFlow on its machine: what it is, what it runs on, and how long that takes; see `rnn_common.twins.Clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from rnn_common.checks import one_of

Tensor = Any


def versions() -> dict[str, str]:
    return {"tensorflow": tf.__version__, "keras": keras.__version__}


def devices() -> tuple[str, ...]:
    return ("cpu", "cuda") if tf.config.list_physical_devices("GPU") else ("cpu",)


def on(device: str) -> Any:
    """A context in which TensorFlow computes on a device; left to itself it takes a GPU wherever there is one."""
    return tf.device({"cpu": "/CPU:0", "cuda": "/GPU:0"}[one_of("device", device, devices())])


def forget_compiled() -> None:
    pass  # a function's graphs go with the function


def set_threads(count: int) -> None:
    for scope in ("intra", "inter"):
        if getattr(tf.config.threading, f"get_{scope}_op_parallelism_threads")() != count:
            getattr(tf.config.threading, f"set_{scope}_op_parallelism_threads")(count)


def seconds(function: Callable[[], Any], calls: int = 1, device: str = "cpu") -> float:
    if device == "cuda":
        tf.test.experimental.sync_devices()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    if device == "cuda":
        tf.test.experimental.sync_devices()
    return (time.perf_counter() - start) / calls


def peak_memory(function: Callable[[], Any], device: str = "cuda") -> int:
    tf.config.experimental.reset_memory_stats("GPU:0")
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    function()
    tf.test.experimental.sync_devices()
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] - before


def device_name(device: str) -> str:
    if device == "cpu":
        return device
    gpu = tf.config.list_physical_devices("GPU")[0]
    return tf.config.experimental.get_device_details(gpu).get("device_name", "cuda")


def matrix_product(size: int, device: str = "cpu", dtype: str = "float32") -> Callable[[], Tensor]:
    with on(device):
        a, b = tf.unstack(tf.cast(tf.random.uniform((2, size, size)), dtype))
    return lambda: tf.matmul(a, b)
