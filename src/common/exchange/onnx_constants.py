"""What in an ONNX graph is constant: a weight may stand behind operators that only move it about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnn_common.exchange.contents import RANK, Array, Budget, NotUnderstood
from rnn_common.exchange.onnx_proto import Graph, Node, array_of


class Constants(dict[str, Array]):
    """The constants of a graph by name: those that it has, and what its nodes make of them.

    What a node makes of arguments that do not fit is none.

    Raises:
        NotUnderstood: what a node makes is too large.
    """

    def __init__(self, graph: Graph, budget: Budget) -> None:
        super().__init__(graph.constants)
        self._budget = budget
        for node in graph.nodes:
            if node.operator in _FOLDS and all(name in self or not name for name in node.inputs):
                self._fold(node)

    def _fold(self, node: Node) -> None:
        inputs = [self[name] if name else None for name in node.inputs]
        try:
            made = _FOLDS[node.operator](node, inputs, self._budget)
        except NotUnderstood:
            raise
        except (ValueError, IndexError, TypeError, ArithmeticError, AttributeError):
            return
        for name, array in zip(node.outputs, made, strict=False):
            if name and array is not None:
                self[name] = array

    def whole(self, name: str) -> tuple[int, ...] | None:
        """A constant of whole numbers, flat; None where it is none."""
        array = self.get(name)
        return None if array is None or not _few(array) else _whole(array)


def axes_of(node: Node, index: int, constants: Constants) -> tuple[int, ...] | None:
    """The axes of an operator that has them as an attribute or, in later versions, as an input; None where not known."""
    if "axes" in node.attributes:
        axes: tuple[Any, ...] = node.get("axes", ())
        return axes if all(type(each) is int for each in axes) else None
    return constants.whole(node.input(index))


def _few(array: Array) -> bool:
    return array.dtype.kind in "iu" and array.size <= 4096


def _whole(array: Array) -> tuple[int, ...]:
    if not _few(array):
        raise ValueError("an argument should be a few whole numbers")
    return tuple(int(each) for each in array.ravel())


def _argument(node: Node, name: str, inputs: Sequence[Any], index: int) -> tuple[int, ...] | None:
    if name in node.attributes:
        return tuple(node.get(name, ()))
    return _whole(inputs[index]) if index < len(inputs) and inputs[index] is not None else None


def _constant(node: Node, _: Sequence[Any], budget: Budget) -> list[Array | None]:
    if hasattr(node.attributes.get("value"), "raw_data"):
        return [array_of(node.attributes["value"], budget)]
    numbers = (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    )
    found: list[Array | None] = [np.array(node.attributes[n], dtype) for n, dtype in numbers if n in node.attributes]
    return found[:1]


def _unsqueeze(node: Node, inputs: Sequence[Any], budget: Budget) -> list[Array]:
    axes = _argument(node, "axes", inputs, 1) or ()
    return [np.expand_dims(inputs[0], axes)] if len(axes) <= RANK else []


def _squeeze(node: Node, inputs: Sequence[Any], budget: Budget) -> list[Array]:
    return [np.squeeze(inputs[0], _argument(node, "axes", inputs, 1))]


def _transpose(node: Node, inputs: Sequence[Any], budget: Budget) -> list[Array]:
    return [np.transpose(inputs[0], node.get("perm", ()) or None)]


def _slice(node: Node, inputs: Sequence[Any], budget: Budget) -> list[Array]:
    array = inputs[0]
    starts, ends = _argument(node, "starts", inputs, 1), _argument(node, "ends", inputs, 2)
    if starts is None or ends is None:
        return []
    axes = _argument(node, "axes", inputs, 3) or tuple(range(len(starts)))
    steps = _argument(node, "steps", inputs, 4) or (1,) * len(starts)
    where = [slice(None)] * array.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where[axis] = _slice_of(start, end, step, array.shape[axis])
    return [array[tuple(where)]]


def _slice_of(start: int, end: int, step: int, size: int) -> slice:
    """A slice whose negative ends count from the last, as ONNX clamps them: below the first is nothing left."""
    start, end = (each + size if each < 0 else each for each in (start, end))
    return slice(max(start, 0), end if end >= 0 else None if step < 0 else 0, step)


def _concat(node: Node, inputs: Sequence[Any], budget: Budget) -> list[Array]:
    budget.take(node.name, (sum(each.size for each in inputs),), np.result_type(*inputs))
    return [np.concatenate(inputs, node.get("axis", 0))]


def _reshape(node: Node, inputs: Sequence[Any], budget: Budget) -> list[Array]:
    array, shape = inputs[0], list(_whole(inputs[1]))
    if not node.get("allowzero", 0):
        shape = [array.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    budget.take(node.name, array.shape, array.dtype)
    return [array.reshape(shape)]


# By the number of a type: to what a constant can be cast.
_CAST: dict[int, Any] = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


def _cast(node: Node, inputs: Sequence[Any], budget: Budget) -> list[Array | None]:
    dtype = _CAST.get(node.get("to", 0))
    if dtype is None:
        return []
    budget.take(node.name, inputs[0].shape, np.dtype(dtype))
    with np.errstate(all="ignore"):
        return [inputs[0].astype(dtype)]


def _split(node: Node, inputs: Sequence[Any], budget: Budget) -> list[Array]:
    array, axis = inputs[0], node.get("axis", 0)
    sizes = _argument(node, "split", inputs, 1)
    if sizes is None:
        each = -(-array.shape[axis] // len(node.outputs))  # the last is smaller where they do not divide
        sizes = tuple(min(each, max(array.shape[axis] - each * i, 0)) for i in range(len(node.outputs)))
    if sum(sizes) != array.shape[axis] or min(sizes) < 0 or len(sizes) != len(node.outputs):
        return []
    return np.split(array, np.cumsum(sizes)[:-1], axis)


_FOLDS: dict[str, Callable[[Node, Sequence[Any], Budget], list[Any]]] = {
    "Constant": _constant,
    "Identity": lambda node, inputs, budget: list(inputs[:1]),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Slice": _slice,
    "Transpose": _transpose,
    "Concat": _concat,
    "Reshape": _reshape,
    "Cast": _cast,
    "Split": _split,
}
