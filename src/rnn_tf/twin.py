"""This twin, and Keras's own layers, behind `rnn_common.twins.Framework`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from rnn_common import packings
from rnn_common.cells import Cell, cell_in
from rnn_common.checks import one_of
from rnn_common.copying import only_part, require_fit
from rnn_common.parity.case import Array, Case, Result
from rnn_common.twins import Part, full_name
from rnn_common.weights import Parameters
from rnn_tf import cells, layers
from rnn_tf.activations import described
from rnn_tf.clock import device_name as device_name
from rnn_tf.clock import devices as devices
from rnn_tf.clock import forget_compiled as forget_compiled
from rnn_tf.clock import matrix_product as matrix_product
from rnn_tf.clock import on
from rnn_tf.clock import peak_memory as peak_memory
from rnn_tf.clock import seconds as seconds
from rnn_tf.clock import set_threads as set_threads
from rnn_tf.clock import versions as versions
from rnn_tf.engines import ENGINES
from rnn_tf.networks import build as build
from rnn_tf.networks import encode as encode
from rnn_tf.networks import fill as fill
from rnn_tf.networks import predict as predict
from rnn_tf.networks import step as step
from rnn_tf.networks import weights as weights
from rnn_tf.own import OwnCell, OwnLayer, layer_of
from rnn_tf.training import train as train

Tensor = Any

name = "tf"
package = "rnn_tf"
builtin_package = "keras.layers"

# The classes of each cell's layer and of its cell, ours and the framework's own.
CLASSES: dict[str, tuple[Any, ...]] = {
    "SimpleRNN": (layers.SimpleRNN, cells.SimpleRNNCell, keras.layers.SimpleRNN, keras.layers.SimpleRNNCell),
    "LSTM": (layers.LSTM, cells.LSTMCell, keras.layers.LSTM, keras.layers.LSTMCell),
    "GRU": (layers.GRU, cells.GRUCell, keras.layers.GRU, keras.layers.GRUCell),
}


def engines() -> tuple[str, ...]:
    return tuple(ENGINES)


def has_builtin(parameters: Parameters) -> bool:
    return name in parameters.cell.builtin


def make(
    parameters: Parameters,
    *,
    builtin: bool = False,
    engine: str = "auto",
    device: str = "cpu",
    dtype: str | None = None,
) -> Any:
    one_of("device", device, devices())
    options: dict[str, Any] = dict(parameters.cell.options) | ({} if builtin else {"engine": engine})
    layer = _layer_class(parameters.cell, builtin)(
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


def _layer_class(cell: Cell, builtin: bool) -> Any:
    if not cell.in_table:
        return layer_of(cell)
    return CLASSES[cell.layer_class][2 if builtin else 0]


# What may stand between the layers of a stack: it has no weights.
BETWEEN = (
    keras.KerasTensor,
    keras.layers.InputLayer,
    keras.layers.Masking,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
)
RUNS_CELLS = (*(each for classes in CLASSES.values() for each in classes[::2]), OwnLayer, keras.layers.RNN)


def parts(layer: Any) -> list[list[Part]]:
    if isinstance(layer, BETWEEN):
        return []
    if isinstance(layer, keras.Sequential):
        _require_known(layer, (keras.Sequential,))
        return _built_with(layer, [directions for each in layer.layers for directions in parts(each)])
    if isinstance(layer, keras.layers.Bidirectional):
        _require_known(layer, (keras.layers.Bidirectional,))
        return [_directions(layer)]
    if isinstance(layer, keras.layers.RNN):
        return _run(layer)
    return [[_part(layer, cell)] for cell in _cells(layer)]


def _require_known(layer: Any, classes: tuple[Any, ...], methods: tuple[str, ...] = ("call",)) -> Any:
    """The class among these that a layer is of; refuses a subclass that computes something of its own."""
    known = next(each for each in classes if isinstance(layer, each))
    for method in methods:
        if getattr(type(layer), method) is not getattr(known, method):
            raise ValueError(
                f"layer should compute what {known.__name__} does, got {type(layer).__name__}, whose {method} is its own: "
                f"copy by way of a {known.__name__} with its weights"
            )
    return known


def _built_with(network: Any, layers: list[list[Part]]) -> list[list[Part]]:
    """The parts of a network that is built as a whole, from its first layer's input size."""
    first = [replace(part, layer=network) for directions in layers[:1] for part in directions]
    return [first, *layers[1:]] if layers else []


def _directions(layer: Any) -> list[Part]:
    halves = [parts(half) for half in (layer.forward_layer, layer.backward_layer)]
    if any([len(directions) for directions in half] != [1] for half in halves):
        raise ValueError(
            "layer should be a Bidirectional around one layer, got one around a stack: put one around each"
        )
    merge = {"merge_mode": str(layer.merge_mode)}
    return [replace(part, layer=layer, options=part.options | merge) for ((part,),) in halves]


def _cells(cell: Any) -> list[Any]:
    """A cell, or those of a stack."""
    if not isinstance(cell, keras.layers.StackedRNNCells):
        return [cell]
    _require_known(cell, (keras.layers.StackedRNNCells,))
    return list(cell.cells)


def _run(layer: Any) -> list[list[Part]]:
    """The parts of a layer that runs a cell over time: of a stack, the first cell meets the sequence backwards."""
    found = [[_part(layer, cell, i == 0 and layer.go_backwards)] for i, cell in enumerate(_cells(layer.cell))]
    known = _require_known(layer, RUNS_CELLS, ("call", "inner_loop"))
    if known is not keras.layers.RNN and known not in (
        CLASSES[found[0][0].cell.layer_class] if found[0][0].cell.in_table else (OwnLayer,)
    ):
        raise ValueError(
            f"layer should have a cell of its own kind, got {known.__name__} with {type(layer.cell).__name__}"
        )
    return found


def _part(layer: Any, holder: Any, go_backwards: bool | None = None) -> Part:
    kind = next((kind for kind, classes in CLASSES.items() if isinstance(holder, classes[1::2])), None)
    if kind is None and not isinstance(holder, OwnCell):
        raise TypeError(f"layer should be a recurrent layer or cell, got {full_name(holder)}")
    _require_known(holder, (OwnCell,) if kind is None else CLASSES[kind][1::2])
    cell = holder.cell if kind is None else cell_in(kind, holder)
    first = "kernel" if cell.gates else cell.input_matrices[0]
    options: dict[str, Any] = {"input size": getattr(holder, first).shape[0] if holder.built else None}
    options |= {"hidden size": holder.units, "projection": 0}
    arguments = ("activation", "recurrent_activation")[: len(cell.activations) if cell.gates else 0]
    options |= {argument: described(getattr(holder, argument)) for argument in arguments}
    return Part(layer, holder, cell, holder.use_bias, options | {"go_backwards": go_backwards})


def _names(part: Part) -> list[str]:
    """The names of the variables that hold the weights."""
    if part.cell.gates:
        return ["kernel", "recurrent_kernel"] + ["bias"] * part.bias
    return [name for name, role in part.cell.roles.items() if part.bias or role != "bias"]


def _arrays(part: Part) -> list[Array]:
    """The weights as Keras packs them; bfloat16 as float32."""
    if not part.holder.built:
        raise ValueError("layer should have been built before its weights are read, got one without weights")
    return [outputs(getattr(part.holder, name).value) for name in _names(part)]


def unpack(part: Part) -> dict[str, Array]:
    return packings.unpack_keras(part.cell, _arrays(part))


def pack(part: Part, weights: Mapping[str, Array]) -> list[tuple[Any, Any]]:
    arrays = packings.pack_keras(part.cell, weights)
    by_name = dict(zip(_names(part), arrays, strict=False))
    return _values(part.holder, by_name, lambda: _build(part.layer, len(arrays[0])))


def values(holder: Any, arrays: Mapping[str, Array]) -> list[tuple[Any, Any]]:
    width = len(next(iter(arrays.values())))
    return _values(holder, arrays, lambda: holder.build((None, width)))


def _values(holder: Any, arrays: Mapping[str, Array], build: Callable[[], None]) -> list[tuple[Any, Any]]:
    rounded = {name: np.asarray(tf.cast(array, holder.variable_dtype)) for name, array in arrays.items()}
    for name, value in rounded.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name} should be in the range of {value.dtype}, got {np.abs(arrays[name]).max():.3g}")
    if not holder.built:
        build()
    return [(getattr(holder, name), value) for name, value in rounded.items()]


def current(variable: Any) -> Array:
    return np.asarray(variable.value).copy()


def _build(layer: Any, width: int) -> None:
    """Make a layer's variables, to be filled: with zeros where Keras's default has no orthogonal matrix in bfloat16."""
    holders = [part.holder for directions in parts(layer) for part in directions]
    initializers = [holder.recurrent_initializer for holder in holders]
    runs = isinstance(layer, (keras.Sequential, keras.layers.Bidirectional, keras.layers.RNN))
    try:
        for holder in holders:
            holder.recurrent_initializer = keras.initializers.Zeros()
        layer.build((None, None, width) if runs else (None, width))
    finally:
        for holder, initializer in zip(holders, initializers, strict=True):
            holder.recurrent_initializer = initializer


def put(variable: Any, value: Any) -> None:
    variable.assign(value)


def read(layer: Any) -> Parameters:
    part = only_part(parts(layer))
    return packings.from_keras(part.cell, _arrays(part))


def write(layer: Any, parameters: Parameters) -> None:
    part = only_part(parts(layer))
    require_fit(part, parameters)
    for variable, value in pack(part, parameters):
        put(variable, value)


def explain(layer: Any, case: Case) -> tuple[str, dict[str, str]]:
    x, _, mask, _ = _tensors(layer, case)
    chosen = layer.explain(x, mask=mask)
    return chosen.engine, chosen.refused


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
        return outputs, final, tape.gradient([outputs, *final], [*inputs, *variables], cotangents, "zero")

    with tf.device(variables[0].device):
        x, state, mask, cotangents = _tensors(layer, case)
        if case.x.shape[1] > EAGER_STEPS:
            forward_and_backward = tf.function(forward_and_backward, autograph=False)
        outputs, final, gradients = forward_and_backward()
    arrays = [np.asarray(gradient) for gradient in gradients]
    states, cell = len(state), case.parameters.cell
    by_name = {"x": arrays[0]}
    by_name |= {f"{s}_0": array for s, array in zip(cell.states, arrays[1 : 1 + states], strict=True)}
    by_name |= packings.gradients_from_keras(cell, arrays[1 + states :])
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
    return packings.gradients_from_keras(only_part(parts(layer)).cell, list(map(outputs, returned)))


if TYPE_CHECKING:  # that this module is what `Framework` asks for
    from rnn_common.twins import Framework
    from rnn_tf import twin

    _checked: Framework = twin
