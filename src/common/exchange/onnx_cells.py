"""ONNX's recurrent operators and their activations, from and to what this project calls them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_common.cells import CELLS, Cell
from rnn_common.exchange.contents import Array, NotUnderstood
from rnn_common.exchange.description import HARD_SIGMOID, Activation, Direction, Foreign, Recurrent
from rnn_common.exchange.onnx_proto import Node
from rnn_common.packings import ONNX_OPERATORS, unpack_onnx
from rnn_common.reader import shown

OPERATORS = {operator for operator, _ in ONNX_OPERATORS.values()}
DIRECTIONS = ("forward", "reverse", "bidirectional")
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


class _Function(NamedTuple):
    """An activation of ONNX: what it is here, and its alpha and beta where it has them, by default as given."""

    name: str
    alpha: float | None = None
    beta: float | None = None


# By ONNX's name. Affine is the identity with alpha 1 and beta 0, and unknown here with others.
_FUNCTIONS: dict[str, _Function] = {
    "Sigmoid": _Function("sigmoid"),
    "Tanh": _Function("tanh"),
    "Relu": _Function("relu"),
    "HardSigmoid": _Function("hard_sigmoid", 0.2, 0.5),
    "LeakyRelu": _Function("leaky_relu", 0.01),
    "Elu": _Function("elu", 1.0),
    "Softsign": _Function("softsign"),
    "Softplus": _Function("softplus"),
    "Affine": _Function("linear", 1.0, 0.0),
    "ThresholdedRelu": _Function("", 1.0),
    "ScaledTanh": _Function("", 1.0, 1.0),
}
_SPELT = {name.lower(): name for name in _FUNCTIONS}


class Other(ValueError):
    """A layer that is none of ours; says what it is."""


# Activations


def onnx_activation(activation: Activation) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """ONNX's name of an activation, its alpha and its beta, none where it has none.

    Raises:
        ValueError: ONNX has none such.
    """
    for name, function in _FUNCTIONS.items():
        if function.name == activation.name:
            alpha, beta = (1.0, 0.0) if name == "Affine" else (activation.slope, activation.offset)
            return name, (alpha,) * (function.alpha is not None), (beta,) * (function.beta is not None)
    having = ", ".join(function.name for function in _FUNCTIONS.values() if function.name)
    raise ValueError(f"an activation should be one that ONNX has within a layer ({having}), got {activation}")


def activation_attributes(layer: Recurrent) -> dict[str, Any]:
    """The attributes that say a layer's activations, ONNX's defaults too.

    Raises:
        ValueError: ONNX has none such.
    """
    named = []
    for direction in layer.directions:
        g, *f = direction.activations
        try:
            named += [onnx_activation(each) for each in ([*f, g, g] if layer.cell.name == "LSTM" else [*f, g])]
        except ValueError as error:
            raise ValueError(f"{shown(layer.name)}: {error}") from None
    alphas, betas = [a for _, each, _ in named for a in each], [b for _, _, each in named for b in each]
    found: dict[str, Any] = {"activations": [name for name, _, _ in named]}
    return found | ({"activation_alpha": alphas} if alphas else {}) | ({"activation_beta": betas} if betas else {})


def activation_of(name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
    """An activation by ONNX's name for it, however spelt; its defaults where alpha or beta are not given.

    Raises:
        Other: there is none such here.
    """
    function = _FUNCTIONS.get(_SPELT.get(name.lower(), ""), _Function(""))
    a = function.alpha if alpha is None or function.alpha is None else _meant(alpha)
    b = function.beta if beta is None or function.beta is None else _meant(beta)
    if not function.name or (function.name == "linear" and (a, b) != (1.0, 0.0)):
        raise Other(
            f"activation {name}" + (f" {a:.4g}" if a is not None else "") + (f" {b:.4g}" if b is not None else "")
        )
    return Activation(function.name) if function.name == "linear" else Activation(function.name, a or 0.0, b or 0.0)


def _meant(number: float) -> float:
    """The number that was rounded to the float32 in the file: 0.2 for 0.20000000298, a sixth for 0.16666667."""
    if not math.isfinite(number):
        raise Other(f"a parameter of {number}")
    rounded = np.float32(number)
    return HARD_SIGMOID.slope if rounded == np.float32(HARD_SIGMOID.slope) else float(str(rounded))


def _activations(node: Node, directions: int) -> list[list[Activation]]:
    """Those of each direction, in ONNX's order: f, g and h."""
    default = DEFAULTS[node.operator]
    names = node.get("activations", ()) or default * directions
    if len(names) != directions * len(default) or not all(isinstance(name, str) for name in names):
        raise NotUnderstood(
            f"activations of {shown(node.name)} should be {directions * len(default)} names, got {shown(names)}"
        )
    alphas, betas = (_given(node, kind, names) for kind in ("alpha", "beta"))
    found = [activation_of(*each) for each in zip(names, alphas, betas, strict=True)]
    return [found[i : i + len(default)] for i in range(0, len(found), len(default))]


def _given(node: Node, kind: str, names: Sequence[str]) -> list[float | None]:
    """The alphas, or the betas, as they fall to the activations.

    Each that takes one takes the next. As many as there are activations, or more than take one, might be meant one to each:
    read if that is the same.
    """
    values = node.get(f"activation_{kind}", ())
    takes = [getattr(_FUNCTIONS.get(_SPELT.get(name.lower(), "")), kind, None) is not None for name in names]
    rest = iter(values)
    found = [next(rest, None) if each else None for each in takes]
    placed = [value if takes[index] else None for index, value in enumerate(values[: len(names)])]
    if len(values) > sum(takes) and found != placed + [None] * (len(names) - len(placed)):
        raise Other(f"activation_{kind} of {len(values)} values for {sum(takes)} activations that take one")
    return found


def _ours(node: Node, activations: Sequence[Activation]) -> tuple[Activation, ...]:
    """A direction's activations in the order of the cell's."""
    if node.operator == "RNN":
        return tuple(activations)
    f, g, *h = activations
    if h and h[0] != g:
        raise Other(f"different activations of the candidate ({g}) and of the cell's state ({h[0]})")
    return g, f


# Layers


def recurrent(node: Node, constants: Mapping[str, Array]) -> Recurrent | Foreign:
    """The layer that a node LSTM, GRU or RNN is, or, named as what, one that is none of ours.

    Raises:
        NotUnderstood: an array's shape is not what it should be; an attribute is unknown.
    """
    names = tuple(name for name in (node.input(index) for index in (1, 2, 3)) if name)
    try:
        return _recurrent(node, constants, names)
    except Other as other:
        return Foreign(node.name, f"{node.operator} with {other}", arrays=names)


def _recurrent(node: Node, constants: Mapping[str, Array], names: tuple[str, ...]) -> Recurrent:
    _check_options(node)
    cell = _cell(node)
    direction = node.get("direction", "forward").lower()
    if direction not in DIRECTIONS:
        raise NotUnderstood(
            f"direction of {shown(node.name)} should be one of {', '.join(DIRECTIONS)}, got {shown(direction)}"
        )
    count = 2 if direction == "bidirectional" else 1
    tensors = _tensors(node, constants, count, len(cell.gates))
    activations = [_ours(node, each) for each in _activations(node, count)]
    return Recurrent(
        node.name,
        cell,
        tuple(Direction(unpack_onnx(cell, tensors, index), each) for index, each in enumerate(activations)),
        "onnx",
        backwards=direction == "reverse",
        masks=bool(node.input(4)),
        arrays=names,
    )


def _cell(node: Node) -> Cell:
    after = node.get("linear_before_reset", 0)
    return next(
        CELLS[name]
        for name, (operator, options) in ONNX_OPERATORS.items()
        if operator == node.operator and options.get("linear_before_reset", after and 1) == (after and 1)
    )


def _check_options(node: Node) -> None:
    if node.operator == "LSTM" and node.input(7):
        raise Other("peepholes (P)")
    if "clip" in node.attributes:
        raise Other(f"clip {_meant(node.get('clip', 0.0))}")
    if node.get("input_forget", 0):
        raise Other("input_forget")


def _tensors(node: Node, constants: Mapping[str, Array], directions: int, gates: int) -> dict[str, Array]:
    """W, R and, if there is one, B."""
    found: dict[str, Array] = {}
    for index, role in enumerate(("W", "R", "B"), 1):
        name = node.input(index)
        if not name and role == "B":
            continue
        if name not in constants:
            raise Other(f"{role} ({name or 'none'}) that is not constant")
        found[role] = constants[name]
    W, R = found["W"], found["R"]
    hidden = node.get("hidden_size", R.shape[2] if R.ndim == 3 else 0)
    width = W.shape[2] if W.ndim == 3 else 0
    shapes = {
        "W": (directions, gates * hidden, width),
        "R": (directions, gates * hidden, hidden),
        "B": (directions, 2 * gates * hidden),
    }
    for role, array in found.items():
        if array.shape != shapes[role] or not array.size:
            raise NotUnderstood(f"{role} of {shown(node.name)} should have shape {shapes[role]}, got {array.shape}")
        if array.dtype.kind != "f" or array.dtype != W.dtype:
            raise NotUnderstood(f"{role} of {shown(node.name)} should be floating-point as W is, got {array.dtype}")
    return found
