"""Chains of layers as ONNX files: a real node LSTM, GRU or RNN each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnn_common import __version__
from rnn_common.exchange.description import Dense, Embedding, Recurrent
from rnn_common.exchange.onnx_cells import activation_attributes, onnx_activation
from rnn_common.files import write_bytes
from rnn_common.packages import optional
from rnn_common.packings import ONNX_OPERATORS, pack_onnx
from rnn_common.reader import shown

Written = Recurrent | Embedding | Dense

OPSET, IR_VERSION = 17, 8
LARGEST = 2**31 - 2**20  # bytes of weights in a file
# What makes one output of two directions', and whether its axes are an input: those of the others are in this opset attributes.
MERGES = {"sum": "ReduceSum", "mul": "ReduceProd", "ave": "ReduceMean"}


def write(layers: Sequence[Written], path: Path, *, states: bool = False, lengths: bool = False) -> Path:
    """Write layers of which each reads what the one before it gives as an ONNX file, all of it in float32.

    Its input is `x`, `(batch, time, features)` in float32, or `(batch, time)` in int64 where an embedding is first; its output
    `y`, `(batch, time, features)`, or `(batch, features)` behind a layer that hands on its last output alone. A batch and a
    time of any size go through. Where a layer does not say what it hands on, it is every step's output.

    Args:
        layers: at least one; an embedding may be the first.
        path: of the file.
        states: the inputs `h_0` and, of an LSTM, `c_0`, and behind `y` the outputs `h_n` and `c_n`: each `(layers · directions,
            batch, hidden)`, the recurrent layers in order, of each the forward direction first. Default False: zeros.
        lengths: an input `lengths`, `(batch,)` in int32: how many steps of each sequence there are, the others padding behind
            them, where recurrent layers give 0. Default False: every sequence fills the time axis.

    Returns:
        The path.

    Raises:
        MissingPackage: the package onnx is not installed.
        OSError: the file cannot be written.
        ValueError: a layer does not fit the one before it, or ONNX cannot say what it is; says what would do.
    """
    graph = _Graph(lengths, _recurrent(layers) if states else [])
    graph.chain(layers)
    return write_bytes(graph.model(), path)


def _recurrent(layers: Sequence[Written]) -> list[Recurrent]:
    """The recurrent layers, if their states can stand in one array."""
    found = [layer for layer in layers if isinstance(layer, Recurrent)]
    if not found:
        raise ValueError("states should be False where no layer is recurrent, got True")
    if len(sizes := {layer.hidden_size for layer in found}) > 1:
        raise ValueError(
            f"layers should have one hidden size with states=True, or be written each by itself, got {sizes}"
        )
    return found


class _Graph:
    """An ONNX graph that grows by a layer; its sequences are `(time, batch, features)` until the end."""

    def __init__(self, lengths: bool, states: Sequence[Recurrent]) -> None:
        self._onnx = optional("onnx", "ONNX files are written with", extra="exchange")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._bytes = 0
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._lengths = "lengths" if lengths else ""
        self._names: set[str] = set()
        self._final: dict[str, list[str]] = {}
        self._initial = self._split_states(states)

    def chain(self, layers: Sequence[Written]) -> None:
        """Add `x`, the layers, `y` and the states."""
        if not layers:
            raise ValueError("layers should be at least one, got none")
        if foreign := [layer for layer in layers if not isinstance(layer, Written)]:
            raise ValueError(f"layers should be recurrent, embeddings or dense, got {shown(foreign[0])}: leave it out")
        first = layers[0]
        symbols, size = isinstance(first, Embedding), _input_size(first)
        shape = ["batch", "time", *([] if symbols else [size])]
        self._declare(self._inputs, "x", "INT64" if symbols else "FLOAT", shape)
        if self._lengths:
            self._declare(self._inputs, "lengths", "INT32", ["batch"])
        at, steps = self.add("Transpose", ["x"], perm=[1, 0] if symbols else [1, 0, 2]), True
        for index, layer in enumerate(layers):
            _check_fits(layer, size, steps=steps, first=index == 0, lengths=bool(self._lengths))
            at = self._add_layer(layer, at)
            steps = steps and not (isinstance(layer, Recurrent) and layer.returns_sequences is False)
            size = _output_size(layer)
        if steps:
            self.add("Transpose", [at], "y", perm=[1, 0, 2])
        else:
            self.add("Identity", [at], "y")
        self._declare(self._outputs, "y", "FLOAT", ["batch", *(["time"] if steps else []), size])
        for part, names in self._final.items():
            self.add("Concat", names, f"{part}_n", axis=0)
            self._declare(self._outputs, f"{part}_n", "FLOAT", [None, "batch", None])

    def model(self) -> bytes:
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, "layers", self._inputs, self._outputs, self._constants)
        opset = helper.make_opsetid("", OPSET)
        made = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="rnn-parity")
        made.producer_version = __version__
        return made.SerializeToString()

    def add(
        self, operator: str, inputs: Sequence[str], output: str = "", /, *, name: str = "", **attributes: Any
    ) -> str:
        """Add a node of one output; its name."""
        output = output or f"{operator}/{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [output], name or output, **attributes))
        return output

    def _constant(self, name: str, array: Any, dtype: Any = np.float32) -> str:
        with np.errstate(over="ignore"):
            made = np.ascontiguousarray(array, dtype)
        self._bytes += made.nbytes
        if not np.isfinite(made).all():
            raise ValueError(f"{shown(name)} should be finite in float32, got NaN or infinity")
        if self._bytes > LARGEST:
            raise ValueError(
                f"layers should have at most {LARGEST:,} bytes of weights together, {shown(name)} goes beyond"
            )
        self._constants.append(self._onnx.numpy_helper.from_array(made, name))
        return name

    def _declare(self, where: list[Any], name: str, kind: str, shape: list[Any]) -> None:
        kind = getattr(self._onnx.TensorProto, kind)
        where.append(self._onnx.helper.make_tensor_value_info(name, kind, shape))

    # States

    def _split_states(self, layers: Sequence[Recurrent]) -> dict[str, list[str]]:
        """The names of the parts of `h_0` and of `c_0`, one a layer that has such a state, in order."""
        parts: dict[str, list[str]] = {}
        for part in dict.fromkeys(name for layer in layers for name in layer.cell.states):
            having = [layer for layer in layers if part in layer.cell.states]
            directions = [len(layer.directions) for layer in having]
            self._declare(self._inputs, f"{part}_0", "FLOAT", [sum(directions), "batch", having[0].hidden_size])
            parts[part] = [f"{part}_0"]
            if len(having) > 1:
                parts[part] = [f"{part}_0/{index}" for index in range(len(having))]
                sizes = self._constant(f"{part}_0/sizes", directions, np.int64)
                node = self._onnx.helper.make_node("Split", [f"{part}_0", sizes], parts[part], axis=0)
                self._nodes.append(node)
        return parts

    # Layers

    def _add_layer(self, layer: Written, x: str) -> str:
        name, times = layer.name, 1
        while name in self._names:
            times += 1
            name = f"{layer.name} ({times})"
        self._names.add(name)
        if isinstance(layer, Embedding):
            return self.add("Gather", [self._constant(f"{name}/E", layer.E), x], axis=0, name=name)
        return self._add_dense(name, layer, x) if isinstance(layer, Dense) else self._add_recurrent(name, layer, x)

    def _add_dense(self, name: str, layer: Dense, x: str) -> str:
        x = self.add("MatMul", [x, self._constant(f"{name}/W", layer.W.T)], name=name)
        if layer.b is not None:
            x = self.add("Add", [x, self._constant(f"{name}/b", layer.b)])
        if layer.activation.name == "softmax":
            return self.add("Softmax", [x], axis=-1)
        if layer.activation.name == "linear":
            return x
        operator, alpha, beta = onnx_activation(layer.activation)
        attributes: dict[str, Any] = dict(zip(("alpha", "beta"), (*alpha, *beta), strict=False))
        return self.add(operator, [x], **attributes)

    def _add_recurrent(self, name: str, layer: Recurrent, x: str) -> str:
        operator, form = ONNX_OPERATORS[layer.cell.name]
        inputs = [x, *self._weights(name, layer), self._lengths]
        inputs += [self._initial[part].pop(0) if self._initial else "" for part in layer.cell.states]
        outputs = [f"{name}/Y", *(f"{name}/{part}_n" for part in layer.cell.states)]
        direction = "bidirectional" if len(layer.directions) == 2 else "reverse" if layer.backwards else "forward"
        attributes = {"hidden_size": layer.hidden_size, "direction": direction} | form | activation_attributes(layer)
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, outputs, name, **attributes))
        if self._initial:
            for part, output in zip(layer.cell.states, outputs[1:], strict=True):
                self._final.setdefault(part, []).append(output)
        if layer.returns_sequences is False:
            return self._joined(layer, outputs[1], steps=False)
        if layer.flipped:
            far = {"starts": -1, "ends": -(2**63), "axes": 0, "steps": -1}
            ends = [self._constant(f"{name}/{key}", [value], np.int64) for key, value in far.items()]
            return self._joined(layer, self.add("Slice", [outputs[0], *ends]), steps=True)
        return self._joined(layer, outputs[0], steps=True)

    def _weights(self, name: str, layer: Recurrent) -> list[str]:
        """W, R and B of all directions; a direction without biases beside one with them has zeros."""
        packed = [pack_onnx(layer.cell, direction.weights) for direction in layer.directions]
        if any("B" in each for each in packed):
            packed = [{"B": np.zeros((1, 2 * each["R"].shape[1]), np.float32)} | each for each in packed]
        arrays = {
            role: np.concatenate([each[role] for each in packed]) for role in ("W", "R", "B") if role in packed[0]
        }
        names = [self._constant(f"{name}/{role}", array) for role, array in arrays.items()]
        return names if len(names) == 3 else [*names, ""]

    def _joined(self, layer: Recurrent, at: str, *, steps: bool) -> str:
        """One output of every direction's, `(time, directions, batch, hidden)`, or of the last: without the time."""
        axis = 1 if steps else 0
        if len(layer.directions) == 1:
            return self.add("Squeeze", [at, self._numbers(at, axis)])
        if layer.merge == "sum":
            return self.add("ReduceSum", [at, self._numbers(at, axis)], keepdims=0)
        if layer.merge != "concat":
            return self.add(MERGES[layer.merge], [at], axes=[axis], keepdims=0)
        perm, shape = ([0, 2, 1, 3], (0, 0)) if steps else ([1, 0, 2], (0,))
        at = self.add("Transpose", [at], perm=perm)
        return self.add("Reshape", [at, self._numbers(at, *shape, 2 * layer.hidden_size)])

    def _numbers(self, name: str, *numbers: int) -> str:
        return self._constant(f"{name}/of", numbers, np.int64)


# Whether the layers fit


def _input_size(layer: Written) -> int:
    if isinstance(layer, Embedding):
        return 0
    return layer.input_size if isinstance(layer, Recurrent) else int(layer.W.shape[1])


def _output_size(layer: Written) -> int:
    if isinstance(layer, Recurrent):
        return layer.hidden_size * (2 if len(layer.directions) == 2 and layer.merge == "concat" else 1)
    return int(layer.E.shape[1] if isinstance(layer, Embedding) else layer.W.shape[0])


def _check_fits(layer: Written, size: int, *, steps: bool, first: bool, lengths: bool) -> None:
    """Refuse a layer that cannot read what is there, or that ONNX cannot say."""
    name = shown(layer.name)
    if isinstance(layer, Embedding):
        if not first:
            raise ValueError(f"the embedding {name} should be the first of the layers, which reads symbols")
        if layer.masks and not lengths:
            raise ValueError(
                f"{name} skips symbol 0: write it with lengths=True (--lengths), and give them; padding is behind"
            )
        return
    if _input_size(layer) != size:
        raise ValueError(f"{name} should read {size} features, as it is given, got weights of {_input_size(layer)}")
    if isinstance(layer, Dense):
        return
    if layer.cell.name not in ONNX_OPERATORS or not layer.cell.in_table:
        raise ValueError(
            f"{name} should be of a cell that ONNX has ({', '.join(ONNX_OPERATORS)}), got {layer.cell.name}"
        )
    known = {*layer.cell.roles, *(f"b_h{gate}" for gate in layer.cell.gates)}
    if others := sorted({each for direction in layer.directions for each in direction.weights} - known):
        raise ValueError(f"{name} should be without {', '.join(others)}, which ONNX's {layer.cell.name} has not")
    if not steps:
        raise ValueError(f"{name} should be given every step's output, got the last alone of the layer before it")
    if layer.masks and not lengths:
        raise ValueError(
            f"{name} can skip steps: write it with lengths=True (--lengths), and give them; padding is behind"
        )
    if layer.flipped and lengths and layer.returns_sequences is not False:
        raise ValueError(f"{name} gives its outputs in the order in which they ran: write it with lengths=False")
