"""An ONNX file as plain Python: nodes, constants, inputs and outputs, each checked before memory is asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rnn_common import reader
from rnn_common.exchange.contents import Array, Budget, NotUnderstood
from rnn_common.exchange.onnx_wire import check_size
from rnn_common.packages import optional
from rnn_common.reader import shown

LARGEST = 2**31 - 1  # bytes of a file: what the format allows
OLDEST = 7  # of the operators' versions: those before it broadcast otherwise
_WORDS = {int: "a whole number", float: "a number", str: "a string", tuple: "a list"}
OURS = ("", "ai.onnx")  # names of ONNX's own operators


@dataclass(frozen=True, eq=False)
class Node:
    """A node of a graph.

    Attributes:
        name: its own, or that of its first output.
        operator: `"LSTM"`; with its domain where that is not ONNX's: `"com.microsoft.DynamicQuantizeLSTM"`.
        inputs, outputs: names; empty where one is left out.
        attributes: numbers, strings, tuples of them; tensors and graphs as the file has them.
        inner: names that the graphs which it holds read, their own among them.
        held: the operators in these graphs, however deep.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    inner: tuple[str, ...] = ()
    held: frozenset[str] = frozenset()

    def input(self, index: int) -> str:
        return self.inputs[index] if index < len(self.inputs) else ""

    def output(self, index: int) -> str:
        return self.outputs[index] if index < len(self.outputs) else ""

    def get(self, name: str, default: Any) -> Any:
        """An attribute of the default's type; of a tuple, a tuple of numbers or strings.

        Raises:
            NotUnderstood: it is of another.
        """
        value = self.attributes.get(name, default)
        if type(value) is not type(default):
            raise NotUnderstood(f"{name} of {shown(self.name)} should be {_WORDS[type(default)]}, got {shown(value)}")
        return value


@dataclass(frozen=True, eq=False)
class Graph:
    """What a file holds.

    Attributes:
        producer: the program that wrote it, with its version.
        opset: the version of the operators.
        inputs: names, without those that have a value.
        outputs: names.
        nodes: in the file's order, in which each reads what is already there.
        constants: by name.
    """

    producer: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: dict[str, Array]


def graph(path: Path, budget: Budget) -> Graph:
    """The graph of a file.

    Raises:
        MissingPackage: the package onnx is not installed.
        NotUnderstood: it is no ONNX, damaged, too large, or its arrays are in other files.
        OSError: it cannot be read.
    """
    onnx = optional("onnx", "ONNX files are read with", extra="exchange")
    content = reader.read(path, LARGEST)
    check_size(content, onnx.ModelProto.DESCRIPTOR)
    try:
        model = onnx.ModelProto.FromString(content)
        return _graph(model, budget)
    except optional("google.protobuf.message", "ONNX files are read with", package="protobuf").DecodeError:
        raise NotUnderstood(f"{path} should be an ONNX file, but it is none, or damaged") from None
    except UnicodeDecodeError:
        raise NotUnderstood(f"{path} should have names in UTF-8") from None


def _graph(model: Any, budget: Budget) -> Graph:
    found = model.graph
    opset = max((each.version for each in model.opset_import if each.domain in OURS), default=0)
    if opset < OLDEST:
        raise NotUnderstood(f"an ONNX file should be of opset {OLDEST} or later, got {shown(opset)}")
    constants = {}
    for tensor in found.initializer:
        if tensor.name in constants:
            raise NotUnderstood(f"the initializer {shown(tensor.name)} should be there once, got it twice")
        array = array_of(tensor, budget)
        if array is not None:
            constants[tensor.name] = array
    initial = {tensor.name for tensor in found.initializer} | {each.values.name for each in found.sparse_initializer}
    inputs = tuple(each.name for each in found.input if each.name not in initial)
    nodes = tuple(_node(proto, index) for index, proto in enumerate(found.node))
    outputs = tuple(each.name for each in found.output)
    _check_order({"", *inputs, *initial}, nodes, outputs)
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    return Graph(producer, opset, inputs, outputs, nodes, constants)


def _check_order(there: set[str], nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> None:
    for node in nodes:
        if missing := [name for name in node.inputs if name not in there]:
            raise NotUnderstood(f"{shown(missing[0])}, which {shown(node.name)} reads, should be there before it")
        for name in filter(None, node.outputs):
            if name in there:
                raise NotUnderstood(f"{shown(name)}, which {shown(node.name)} writes, should be written once")
            there.add(name)
    if missing := [name for name in outputs if name not in there]:
        raise NotUnderstood(f"the output {shown(missing[0])} should be written by a node")


def _node(proto: Any, index: int) -> Node:
    outputs = tuple(proto.output)
    operator = proto.op_type if proto.domain in OURS else f"{proto.domain}.{proto.op_type}"
    name = proto.name or next(filter(None, outputs), "") or f"{operator} {index}"
    inner = _held(proto)
    given_on = tuple(output.name for graph in _graphs(proto) for output in graph.output)
    return Node(
        name,
        operator,
        tuple(proto.input),
        outputs,
        {each.name: _value(each) for each in proto.attribute},
        tuple(name for each in inner for name in each.input) + given_on,
        frozenset(each.op_type for each in inner),
    )


def _value(attribute: Any) -> Any:
    """An attribute's value, by the field that its type names."""
    kind = attribute.type
    if kind in (1, 2, 4, 5):
        return getattr(attribute, "_fi_tg"[kind])
    if kind == 3:
        return attribute.s.decode(errors="backslashreplace")
    if kind in (6, 7):
        return tuple(attribute.floats if kind == 6 else attribute.ints)
    if kind == 8:
        return tuple(each.decode(errors="backslashreplace") for each in attribute.strings)
    return None


def _held(proto: Any) -> list[Any]:
    """The nodes in the graphs that a node holds, however deep."""
    found: list[Any] = []
    graphs = _graphs(proto)
    while graphs:
        for inner in graphs.pop().node:
            found.append(inner)
            graphs += _graphs(inner)
    return found


def _graphs(proto: Any) -> list[Any]:
    return [graph for each in proto.attribute for graph in ([each.g] if each.type == 5 else each.graphs)]


# By the number of a tensor's type: what it becomes, the field of numbers when there are no raw bytes, and as what these stand.
_TYPES: dict[int, tuple[Any, str, Any]] = {
    1: (np.float32, "float_data", np.float32),
    2: (np.uint8, "int32_data", np.uint8),
    3: (np.int8, "int32_data", np.int8),
    4: (np.uint16, "int32_data", np.uint16),
    5: (np.int16, "int32_data", np.int16),
    6: (np.int32, "int32_data", np.int32),
    7: (np.int64, "int64_data", np.int64),
    9: (np.bool_, "int32_data", np.uint8),
    10: (np.float16, "int32_data", np.uint16),
    11: (np.float64, "double_data", np.float64),
    12: (np.uint32, "uint64_data", np.uint32),
    13: (np.uint64, "uint64_data", np.uint64),
    16: (np.float32, "int32_data", np.uint16),  # bfloat16: the upper half of a float32
}


def array_of(tensor: Any, budget: Budget) -> Array | None:
    """A tensor as an array; None of a type that NumPy has not. bfloat16 becomes float32.

    Raises:
        NotUnderstood: its numbers are in another file, are not as many as its shape says, or are too many.
    """
    name = tensor.name
    if tensor.data_location or tensor.external_data:
        raise NotUnderstood(f"{shown(name)} should be in the file itself, got external data in another, not followed")
    if tensor.data_type not in _TYPES:
        return None
    dtype, field, stored = _TYPES[tensor.data_type]
    shape = budget.take(name, tensor.dims, np.dtype(dtype))
    raw = tensor.raw_data
    count = len(raw) / np.dtype(stored).itemsize if raw else len(getattr(tensor, field))
    size = int(np.prod(shape, dtype=object))
    if count != size:
        raise NotUnderstood(f"{shown(name)} should hold {size:,} numbers, as its shape {shape} says, got {count:,.9g}")
    if raw:
        numbers = np.frombuffer(raw, np.dtype(stored).newbyteorder("<")).astype(stored, copy=sys.byteorder == "big")
    else:
        wide = np.int32 if field == "int32_data" else np.uint64 if field == "uint64_data" else stored
        numbers = np.fromiter(getattr(tensor, field), wide, size).astype(stored)
    if tensor.data_type == 16:
        return (numbers.astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return (numbers.astype(bool) if dtype is np.bool_ else numbers.view(dtype)).reshape(shape)
