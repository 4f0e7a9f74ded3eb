"""Recurrent layers, embeddings and dense layers in ONNX files."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rnn_common.exchange.contents import Budget
from rnn_common.exchange.description import Foreign, Found, Layer, Recurrent
from rnn_common.exchange.onnx_axes import are_read_as_they_are
from rnn_common.exchange.onnx_constants import Constants
from rnn_common.exchange.onnx_layers import Place, Surroundings
from rnn_common.exchange.onnx_proto import Graph, Node, graph
from rnn_common.reader import shown

# Behind these stand the same numbers: what comes out of them is their first input, otherwise arranged.
ARRANGING = {"Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Identity", "Cast"}
# Out of these come no numbers of the data, but how many there are.
COUNTING = {"Shape", "Size"}
# What these make of zeros are zeros.
KEEPING = ARRANGING | {"Expand", "Slice", "Split", "Gather", "Tile"}

# Numbers of a constant that is asked whether it is 0, as an initial state may be, and of all these together.
LARGEST_STATE, MOST = 2**20, 2**28


def read(path: Path) -> Found:
    """What an ONNX file holds, in the graph's order.

    Besides the layers, what stands between them and behind the last on the way to the first output is listed as foreign; so
    are recurrent layers of forms that are none of ours, and loops that multiply matrices, wherever they are.

    Raises:
        MissingPackage: the package onnx is not installed.
        NotUnderstood: it is no ONNX, damaged, too large, or its arrays are in other files.
        OSError: it cannot be read.
    """
    budget = Budget()
    found = graph(path, budget)
    reading = _Reading(found, Constants(found, budget))
    format = f"ONNX of opset {found.opset}" + (f", written by {found.producer}" if found.producer else "")
    return Found(path, format, reading.layers, reading.chain)


class _Reading:
    """Where the layers of a graph are."""

    def __init__(self, found: Graph, constants: Constants) -> None:
        self._graph, self._constants = found, constants
        self._producers = {name: i for i, node in enumerate(found.nodes) for name in node.outputs if name}
        self._data, self._zeros = self._of_the_data(), self._made_of_zeros()
        readers = Counter(name for node in found.nodes for name in node.inputs + node.inner)
        readers.update(found.outputs)
        behind = {name: node for node in found.nodes for name in node.inputs if name and readers[name] == 1}
        surroundings = Surroundings(constants, readers, behind, found.opset)
        self._places: dict[int, Place] = {}
        for index, node in enumerate(found.nodes):
            if not any(name in constants for name in node.outputs) and (place := surroundings.layer(node)):
                self._places[index] = self._placed(node, place)
        self._gives = {name for place in self._places.values() for name in place.gives}
        self._read = self._add_foreign()

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(self._layer(self._places[index]) for index in sorted(self._places))

    @cached_property
    def chain(self) -> bool:
        """Whether each reads what the one before it gives, and nothing else, and the first a graph's input."""
        gives = set(self._graph.inputs)
        for index in sorted(self._places):
            place = self._places[index]
            sources = {self._sources.get(name, name) for name in place.reads}
            layer = self._layer(place)
            unclear = isinstance(layer, Recurrent) and layer.returns_sequences is None
            if len(sources) != 1 or not sources <= gives or unclear:
                return False
            gives = set(place.gives)
        return bool(self._places) and are_read_as_they_are(self._graph.nodes, self._places, self._constants)

    def _layer(self, place: Place) -> Layer:
        """The layer of a place, of a recurrent one with whether every step's output is read or the last alone."""
        if not isinstance(place.layer, Recurrent):
            return place.layer
        steps, last = (any(name in self._read for name in names) for names in (place.steps, place.last))
        return replace(place.layer, returns_sequences=steps if steps != last else None)

    def _of_the_data(self) -> set[str]:
        """The names of all that is computed from the graph's inputs."""
        data = set(self._graph.inputs)
        for node in self._graph.nodes:
            if node.operator not in COUNTING and not data.isdisjoint(node.inputs + node.inner):
                data.update(filter(None, node.outputs))
        return data

    def _made_of_zeros(self) -> set[str]:
        """The names of what is 0 whatever its shape is."""
        zeros, left = set(), MOST
        for name, array in self._constants.items():
            if array.size <= min(LARGEST_STATE, left):
                left -= array.size
                with np.errstate(invalid="ignore"):  # of what is no number
                    zeros |= set() if array.any() else {name}
        for node in self._graph.nodes:
            if node.operator == "ConstantOfShape":
                made = "value" not in node.attributes or _is_zero(node.attributes["value"])
            else:
                made = node.operator in KEEPING and node.input(0) in zeros
                made = made or (node.operator == "Concat" and zeros.issuperset(node.inputs))
            if made:
                zeros.update(filter(None, node.outputs))
        return zeros

    def _placed(self, node: Node, place: Place) -> Place:
        """A place that reads what is computed from the inputs, with what its layer's initial state says of it."""
        if isinstance(place.layer, Foreign):
            return self._foreign(node, place.layer.kind)
        states = [name for name in node.inputs[5:7] if name and name not in self._zeros]
        if not isinstance(place.layer, Recurrent) or not states:
            return place
        if fixed := [name for name in states if name in self._constants]:
            return self._foreign(node, f"{node.operator} with a constant initial state ({fixed[0]}) that is not 0")
        note = f"it starts from a state that is given or computed: {', '.join(map(shown, states))}"
        return replace(place, layer=replace(place.layer, notes=(note,)))

    def _foreign(self, node: Node, kind: str) -> Place:
        reads = tuple(dict.fromkeys(name for name in node.inputs + node.inner if name in self._data))
        arrays = tuple(name for name in node.inputs if name in self._constants and self._constants[name].ndim)
        return Place(Foreign(node.name, kind, arrays=arrays), reads, node.outputs)

    def _add_foreign(self) -> set[str]:
        """Add what stands between the layers; the names of all that is read on the way."""
        open_names = [*self._graph.outputs[:1], *(name for place in self._places.values() for name in place.reads)]
        read: set[str] = set()
        while open_names:
            name = open_names.pop()
            if name in read or name not in self._data:
                continue
            read.add(name)
            index = self._producers.get(name)
            if name in self._gives or index is None or index in self._places:
                continue
            node = self._graph.nodes[index]
            if self._is_arranging(node):
                open_names.append(node.inputs[0])
                continue
            self._places[index] = self._foreign(node, node.operator)
            self._gives.update(self._places[index].gives)
            open_names += self._places[index].reads
        return read

    def _is_arranging(self, node: Node) -> bool:
        if node.operator == "Dropout":  # where it is not said that it is in training, it is not
            return not node.input(2) or node.input(2) in self._zeros
        return node.operator in ARRANGING

    @cached_property
    def _sources(self) -> dict[str, str]:
        """Of what is merely arranged otherwise, the name of what is."""
        found: dict[str, str] = {}
        for node in self._graph.nodes:
            if self._is_arranging(node) and node.inputs and self._gives.isdisjoint(node.outputs):
                found |= dict.fromkeys(node.outputs, found.get(node.inputs[0], node.inputs[0]))
        return found


def _is_zero(value: Any) -> bool:
    """Whether a tensor of one number is 0."""
    return hasattr(value, "raw_data") and not (
        value.raw_data.strip(b"\0") or any(value.float_data) or any(value.int64_data) or any(value.int32_data)
    )
