"""The layers that nodes of an ONNX graph are, with the nodes behind them that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import LINEAR, Activation, Dense, Embedding, Foreign, Layer, Merge, Recurrent
from rnn_common.exchange.onnx_cells import OPERATORS, Other, activation_of, recurrent
from rnn_common.exchange.onnx_constants import Constants, axes_of
from rnn_common.exchange.onnx_proto import Node

QUANTISED = {"com.microsoft.DynamicQuantizeLSTM": "DynamicQuantizeLSTM"}
HOLDING = {"Loop", "Scan", "If"}
MERGES: dict[str, Merge] = {"ReduceSum": "sum", "ReduceProd": "mul", "ReduceMean": "ave"}
# Operators of their own that may be a dense layer's activation.
BEHIND = {"Sigmoid", "Tanh", "Relu", "HardSigmoid", "LeakyRelu", "Elu", "Softsign", "Softplus"}


@dataclass(frozen=True, eq=False)
class Place:
    """A layer and where in the graph it is.

    Attributes:
        layer: itself.
        reads: the name of what it reads.
        steps: the names of what it gives for every step.
        last: of a recurrent layer, the names of what it gives for the last alone.
    """

    layer: Layer
    reads: tuple[str, ...]
    steps: tuple[str, ...]
    last: tuple[str, ...] = ()

    @property
    def gives(self) -> tuple[str, ...]:
        return tuple(filter(None, self.steps + self.last))


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What there is around a node.

    Attributes:
        constants: of the graph.
        readers: how many nodes read each name, the graph's outputs counted as one.
        behind: of a name that one node alone reads, that node.
        opset: the operators' version.
    """

    constants: Constants
    readers: Mapping[str, int]
    behind: Mapping[str, Node]
    opset: int

    def layer(self, node: Node) -> Place | None:
        """The layer that a node begins, or None.

        Raises:
            NotUnderstood: it is one, and damaged.
        """
        if node.operator in OPERATORS:
            return self._recurrent(node)
        if node.operator in QUANTISED:
            return Place(Foreign(node.name, QUANTISED[node.operator]), node.inputs, node.outputs)
        if node.operator in HOLDING:
            return _holding(node)
        if node.operator == "Gather":
            return self._embedding(node)
        if node.operator in ("MatMul", "Gemm"):
            return self._dense(node)
        return None

    def _matrix(self, name: str) -> Array | None:
        array = self.constants.get(name)
        return array if array is not None and array.ndim == 2 and array.dtype.kind == "f" and array.size else None

    # Recurrent layers

    def _recurrent(self, node: Node) -> Place:
        layer = recurrent(node, self.constants)
        place = Place(layer, node.inputs[:1], node.outputs[:1], node.outputs[1:2])
        if isinstance(layer, Foreign):
            return replace(place, reads=node.inputs)
        layout = 1 if node.get("layout", 0) else 0
        if len(layer.directions) == 2:
            return self._merged(place, layer, layout)
        if (
            layer.backwards
            and not layer.masks
            and (flip := self.behind.get(node.output(0)))
            and self._flips(flip, layout)
        ):
            return replace(place, layer=replace(layer, flipped=True), steps=flip.outputs)
        return place

    def _merged(self, place: Place, layer: Recurrent, layout: int) -> Place:
        """The place with the node behind it that makes one output of two directions'."""
        axes = (1 + layout, layout)  # of the directions, in every step's output and in the last
        read = [(name, axis) for name, axis in zip(place.gives, axes, strict=False) if self.readers.get(name)]
        if not place.steps[0]:
            read = [(name, layout) for name, _ in read]
        nodes = [self.behind.get(name) for name, _ in read]
        kinds = {
            MERGES[node.operator] if node and self._reduces(node, axis) else None
            for node, (_, axis) in zip(nodes, read, strict=True)
        }
        if len(kinds) != 1 or (merge := kinds.pop()) is None:
            return place
        behind = {name: node.output(0) for node, (name, _) in zip(nodes, read, strict=True) if node}
        steps, last = (tuple(behind.get(name, name) for name in names) for names in (place.steps, place.last))
        return replace(place, layer=replace(layer, merge=merge), steps=steps, last=last)

    def _reduces(self, node: Node, axis: int) -> bool:
        return node.operator in MERGES and axes_of(node, 1, self.constants) == (axis,)

    def _flips(self, node: Node, axis: int) -> bool:
        """Whether a node turns an axis about: from the last to the first."""
        starts, ends, axes, steps = (self.constants.whole(node.input(index)) for index in (1, 2, 3, 4))
        far = ends is not None and len(ends) == 1 and ends[0] < -(2**31) + 2
        return node.operator == "Slice" and (starts, axes, steps) == ((-1,), (axis,), (-1,)) and far

    # Others

    def _embedding(self, node: Node) -> Place | None:
        table = self._matrix(node.input(0))
        if table is None or node.get("axis", 0) != 0 or node.input(1) in self.constants:
            return None
        return Place(Embedding(node.name, table, arrays=node.inputs[:1]), node.inputs[1:2], node.outputs)

    def _dense(self, node: Node) -> Place | None:
        W = self._matrix(node.input(1))
        if W is None or node.input(0) in self.constants:
            return None
        layer: Dense | None
        if node.operator == "Gemm":
            layer, last = self._gemm(node, W), node
        else:
            layer, last = self._matmul(node, W)
        if layer is None:
            return None
        behind = self.behind.get(last.output(0))
        if behind and (activation := self._activation(behind, flat=node.operator == "Gemm")):
            layer, last = replace(layer, activation=activation), behind
        return Place(layer, node.inputs[:1], last.outputs)

    def _gemm(self, node: Node, W: Array) -> Dense | None:
        W = W if node.get("transB", 0) else W.T
        arrays = tuple(filter(None, node.inputs[1:3]))
        b = self.constants.get(node.input(2))
        fits = not node.input(2) or (b is not None and b.shape in ((len(W),), (1, len(W))))
        if not fits or node.get("transA", 0) or node.get("alpha", 1.0) != 1 or node.get("beta", 1.0) != 1:
            return None
        return Dense(node.name, W, None if b is None else b.ravel(), LINEAR, arrays)

    def _matmul(self, node: Node, W: Array) -> tuple[Dense, Node]:
        """The layer, and the last of its nodes: the one that adds the bias, if there is one."""
        add = self.behind.get(node.output(0))
        reads = node.output(0)
        while add and add.operator in ("Reshape", "Identity") and add.input(0) == reads:
            reads = add.output(0)
            add = self.behind.get(reads)
        if add and add.operator == "Add":
            name = add.input(1) if add.input(0) == reads else add.input(0)
            b = self.constants.get(name)
            if b is not None and b.shape == W.shape[1:]:
                return Dense(node.name, W.T, b, LINEAR, (node.inputs[1], name)), add
        return Dense(node.name, W.T, None, LINEAR, node.inputs[1:2]), node

    def _activation(self, node: Node, *, flat: bool) -> Activation | None:
        """The activation that a node is, along the last axis; `flat` says that there are two axes."""
        if node.operator == "Softmax":
            axis = node.get("axis", -1 if self.opset >= 13 else 1)
            return Activation("softmax") if axis == -1 or (flat and axis == 1) else None
        if node.operator not in BEHIND:
            return None
        given = [node.get(name, 0.0) if name in node.attributes else None for name in ("alpha", "beta")]
        try:
            return activation_of(node.operator, *given)
        except Other:
            return None


def _holding(node: Node) -> Place | None:
    """Of a node that holds graphs, what is recurrent in them."""
    if node.held & {"MatMul", "Gemm"}:
        return Place(Foreign(node.name, "recurrent by a loop; not read"), node.inputs, node.outputs)
    if inner := sorted(node.held & OPERATORS):
        return Place(Foreign(node.name, f"{node.operator} that holds {inner[0]}; not read"), node.inputs, node.outputs)
    return None
