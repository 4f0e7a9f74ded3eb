"""This twin, and Keras's own layers, behind `common.framework.Framework`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common import layouts
from common.framework import Array, Case, Result
from common.parameters import CELLS, CellName, Parameters, form_name, one_of
from rnn_tf import cells, layers
from rnn_tf.engines import ENGINES
from rnn_tf.models import build, devices, encode, fill, on, predict, step, weights
from rnn_tf.training import train

__all__ = ["build", "devices", "encode", "fill", "predict", "step", "train", "weights"]  # what comes from other rooms

Tensor = Any

name = "tf"
package = "rnn_tf"
builtin_package = "keras.layers"

OURS: dict[CellName, Any] = {"SimpleRNN": layers.SimpleRNN, "LSTM": layers.LSTM, "GRU": layers.GRU}
BUILTIN: dict[CellName, Any] = {
    "SimpleRNN": keras.layers.SimpleRNN,
    "LSTM": keras.layers.LSTM,
    "GRU": keras.layers.GRU,
}
CLASSES: dict[CellName, tuple[Any, ...]] = {
    "SimpleRNN": (layers.SimpleRNN, cells.SimpleRNNCell, keras.layers.SimpleRNN, keras.layers.SimpleRNNCell),
    "LSTM": (layers.LSTM, cells.LSTMCell, keras.layers.LSTM, keras.layers.LSTMCell),
    "GRU": (layers.GRU, cells.GRUCell, keras.layers.GRU, keras.layers.GRUCell),
}


def versions() -> dict[str, str]:
    return {"tensorflow": tf.__version__, "keras": keras.__version__}


def engines() -> tuple[str, ...]:
    return tuple(ENGINES)


def has_builtin(parameters: Parameters) -> bool:
    return True


def make(
    parameters: Parameters,
    *,
    builtin: bool = False,
    engine: str = "auto",
    device: str = "cpu",
    dtype: str | None = None,
) -> Any:
    one_of("device", device, devices())
    options: dict[str, Any] = {} if builtin else {"engine": engine}
    options["recurrent_initializer"] = "zeros"  # to be filled; there is no orthogonal one in bfloat16
    if parameters.cell == "GRU":
        options["reset_after"] = parameters.reset_after
    layer = (BUILTIN if builtin else OURS)[parameters.cell](
        parameters.hidden_size,
        use_bias=parameters.bias,
        return_sequences=True,
        return_state=True,
        dtype=dtype or parameters.dtype.name,
        **options,
    )
    with on(device):
        write(layer, parameters)
    return layer


def _identify(layer: Any) -> tuple[CellName, bool, Any]:
    """Cell, form and the cell that holds the weights."""
    cell = next((cell for cell, classes in CLASSES.items() if isinstance(layer, classes)), None)
    if cell is None:
        raise TypeError(f"layer should be a recurrent layer or cell, got {type(layer).__name__}")
    return cell, getattr(layer, "reset_after", True), layer.cell if isinstance(layer, keras.layers.RNN) else layer


def read(layer: Any) -> Parameters:
    cell, reset_after, holder = _identify(layer)
    if not layer.built:
        raise ValueError("layer should have been built before its weights are read, got one without weights")
    weights = [v for v in (holder.kernel, holder.recurrent_kernel, holder.bias) if v is not None]
    return layouts.from_keras(cell, [keras.ops.convert_to_numpy(v) for v in weights], reset_after=reset_after)


def write(layer: Any, parameters: Parameters) -> None:
    cell, reset_after, _ = _identify(layer)
    if parameters.form != form_name(cell, reset_after):
        raise ValueError(f"parameters should be of {form_name(cell, reset_after)}, got {parameters.form}")
    if not layer.built:
        time = (None,) if isinstance(layer, keras.layers.RNN) else ()
        layer.build((None, *time, parameters.input_size))
    weights = layouts.to_keras(parameters)
    expected = [tuple(variable.shape) for variable in layer.trainable_variables]
    if expected != [array.shape for array in weights]:
        raise ValueError(f"parameters should fill {expected}, got {[array.shape for array in weights]}")
    for variable, array in zip(layer.trainable_variables, weights, strict=True):
        variable.assign(array)


def _forward(layer: Any, x: Tensor, state: list[Tensor], mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """Outputs `(batch, time, hidden)`, zeros where a sequence has ended, and the final state, each `(batch, hidden)`."""
    outputs, *final = layer(x, initial_state=state, mask=mask)
    return outputs if mask is None else tf.where(mask[:, :, None], outputs, tf.zeros_like(outputs)), final


def _tensors(layer: Any, case: Case) -> tuple[Tensor, list[Tensor], Tensor | None, list[Tensor]]:
    """The case's input, state, mask and cotangents, of the layer's dtype."""
    mask = None if case.lengths is None else tf.sequence_mask(case.lengths, case.x.shape[1])
    arrays = (case.x, *case.state, case.d_outputs, *case.d_final)
    x, *rest = (tf.cast(array, layer.compute_dtype) for array in arrays)
    states = len(case.state)
    return x, rest[:states], mask, rest[states:]


# Eager TensorFlow takes milliseconds a step; beyond this many steps, tracing a graph is the quicker way.
EAGER_STEPS = 64


def run(layer: Any, case: Case) -> Result:
    variables = [variable.value for variable in layer.trainable_variables]

    def forward_and_backward() -> Any:
        inputs = [x, *state]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs, final = _forward(layer, x, state, mask)
        return outputs, final, tape.gradient([outputs, *final], [*inputs, *variables], cotangents)

    with tf.device(variables[0].device):
        x, state, mask, cotangents = _tensors(layer, case)
        if case.x.shape[1] > EAGER_STEPS:
            forward_and_backward = tf.function(forward_and_backward, autograph=False)
        outputs, final, gradients = forward_and_backward()
    arrays = [np.asarray(gradient) for gradient in gradients]
    states, cell = len(state), case.parameters.cell
    by_name = {"x": arrays[0]}
    by_name |= {f"{s}_0": array for s, array in zip(CELLS[cell].states, arrays[1 : 1 + states], strict=True)}
    by_name |= layouts.gradients_from_keras(cell, arrays[1 + states :])
    return Result(outputs.numpy(), tuple(h.numpy() for h in final), by_name)


def inference(layer: Any, case: Case, *, compiled: bool = False) -> Callable[[], Tensor]:
    with tf.device(layer.trainable_variables[0].value.device):
        x, state, mask, _ = _tensors(layer, case)
    return tf.function(lambda: _forward(layer, x, state, mask)[0], autograph=False, jit_compile=compiled or None)


def outputs(returned: Tensor) -> Array:
    return np.asarray(tf.cast(returned, tf.float32) if returned.dtype == tf.bfloat16 else returned)


def training_step(layer: Any, case: Case, *, compiled: bool = False) -> Callable[[], list[Tensor]]:
    variables = [variable.value for variable in layer.trainable_variables]
    with tf.device(variables[0].device):
        x, state, mask, cotangents = _tensors(layer, case)

    def step() -> list[Tensor]:
        with tf.GradientTape() as tape:
            outputs, final = _forward(layer, x, state, mask)
        return tape.gradient([outputs, *final], variables, cotangents)

    return tf.function(step, autograph=False, jit_compile=compiled or None)


def gradients(layer: Any, returned: list[Tensor]) -> dict[str, Array]:
    cell, _, _ = _identify(layer)
    return layouts.gradients_from_keras(cell, list(map(outputs, returned)))


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
