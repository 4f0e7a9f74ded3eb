"""`copy_weights`: from any layer, cell or stack of either framework to any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnn_common.cells import Cell
from rnn_common.exchange.description import Activation
from rnn_common.parity.case import Array
from rnn_common.twins import Framework, Part, of
from rnn_common.weights import Parameters

# What would work, where an option of the target is not the source's.
WAYS_OUT = {
    "input size": "make the target for inputs of that width",
    "hidden size": "make the target with it: hidden_size in PyTorch, units in Keras",
    "projection": "PyTorch's LSTMs alone have one, proj_size",
    "activation": "Keras's layers and rnn_torch's LSTM and GRU take any, torch.nn's LSTM and GRU tanh alone, SimpleRNN and RNN "
    "in PyTorch nonlinearity='tanh' or 'relu'; a function of your own is the same as itself alone",
    "recurrent_activation": "Keras's layers and rnn_torch's LSTM and GRU take any, torch.nn's sigmoid alone; a function of your "
    "own is the same as itself alone",
    "go_backwards": "Keras's layers take it; elsewhere copy from the layer's cell and reverse the inputs' time axis",
    "merge_mode": "PyTorch concatenates two directions, as merge_mode='concat' does in Keras",
}


def only_part(layers: list[list[Part]]) -> Part:
    """The one part of a layer or cell that `Parameters` hold the weights of.

    Raises:
        ValueError: there are several, or a projection.
    """
    if [len(directions) for directions in layers] != [1]:
        raise ValueError("layer should have one layer and one direction, as `Parameters` have; copy_weights takes more")
    part = layers[0][0]
    if part.options["projection"]:
        raise ValueError(f"layer should have no projection, got proj_size={part.options['projection']}")
    return part


def require_fit(part: Part, parameters: Parameters) -> None:
    """Refuse weights that do not fill a layer or cell.

    Raises:
        ValueError: they are of another cell, form or size, or biases are missing or superfluous.
    """
    if parameters.cell is not part.cell:
        raise ValueError(f"parameters should be of {part.cell.name}, got {parameters.cell.name}")
    got = {"input size": parameters.input_size, "hidden size": parameters.hidden_size, "bias": parameters.bias}
    expected = part.options | {"bias": part.bias}
    for name, value in got.items():
        if not _same(value, expected[name]):
            raise ValueError(f"parameters should fill a layer of {name} {expected[name]}, got {value}")


def copy_weights(source: Any, target: Any) -> None:
    """Give a target the source's weights, so that it computes the same function.

    Each of the two is a layer or cell of rnn_torch, rnn_tf, `torch.nn` or `keras.layers` (a `Bidirectional`, a
    `keras.layers.RNN` or `StackedRNNCells` of these cells, too), or a stack: a PyTorch layer of several layers and
    directions, a list or tuple of layers, or a `keras.Sequential`. Beside recurrent layers a stack may hold inputs,
    masking and dropout. A Keras target without weights is built.

    - The weights are those in force, also of a source that is pruned, weight-normed or parametrized otherwise (as it is
      in evaluation).
    - Between dtypes they are rounded: float16, bfloat16, float32 and float64 are all taken.
    - Both biases are kept where the target has two. A target with biases whose source has none gets zeros.
    - What does not change the weights' meaning is left as it is in the target: the engine, dropout, the order of axes,
      what is returned, masking.

    Nothing is written before all is checked.

    Args:
        source, target: as above.

    Raises:
        TypeError: one of the two is, or holds, no recurrent layer of either framework.
        ValueError: the target would compute another function: it differs in cell, form, activations, directions, layers,
            sizes, biases or projection, its weights are shared, pruned or parametrized, or its dtype cannot hold them;
            or the source has no weights yet, or none that are finite.

    Warns:
        MergedBiasesWarning: two biases were added, because the target has one. The function is the same, but a gradient
            step moves two added biases twice as far as one.
    """
    sources, targets = _stack("source", source), _stack("target", target)
    require_same_layers("target", sources, targets)
    givers, takers = _named("source", sources), _named("target", targets)
    for (_, giver), (name, taker) in zip(givers, takers, strict=True):
        require_same_function(name, giver, taker)
    fillings = [
        (taker, filling(name, giver, of(giver.holder).unpack(giver), taker.bias))
        for (name, giver), (_, taker) in zip(givers, takers, strict=True)
    ]
    values: list[tuple[Framework, Any, Any]] = []
    for taker, weights in fillings:
        twin = of(taker.holder)
        values += [(twin, variable, value) for variable, value in twin.pack(taker, weights)]
    require_one_value_each(values)
    for twin, variable, value in values:
        twin.put(variable, value)


def _stack(argument: str, layer: Any) -> list[list[Part]]:
    """The directions of every layer in a layer, a cell or a stack of them.

    Raises:
        TypeError: there is no recurrent layer, or something else.
        ValueError: a layer that computes something of its own.
    """
    layers = layer if isinstance(layer, (list, tuple)) else [layer]
    try:
        parts = [directions for each in layers for directions in of(each).parts(each)]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from None
    if not parts:
        raise TypeError(f"{argument} should hold a recurrent layer or cell, got none")
    return parts


def _named(argument: str, layers: list[list[Part]]) -> list[tuple[str, Part]]:
    """Every part with what to call it in a message."""
    named = []
    for i, directions in enumerate(layers):
        for part, direction in zip(directions, ("forward", "backward"), strict=False):
            words = [argument] + [f"layer {i}"] * (len(layers) > 1) + [direction] * (len(directions) > 1)
            named.append((", ".join(words), part))
    return named


def require_same_layers(name: str, sources: list[list[Part]], targets: list[list[Part]]) -> None:
    """Refuse a target of another number of layers, or of directions of one of them.

    Args:
        name: of the target, in a message.
        sources, targets: the directions of every layer.
    """
    expected, got = ([len(directions) for directions in layers] for layers in (sources, targets))
    if len(expected) != len(got):
        raise ValueError(
            f"{name} should have {_layers(len(expected))} as source has, got {_layers(len(got))}: "
            "num_layers in PyTorch, a list or keras.Sequential of layers in Keras"
        )
    if expected != got:
        raise ValueError(
            f"{name} should have {expected} directions, layer by layer, as source has, got {got}: "
            "bidirectional=True in PyTorch, Bidirectional in Keras"
        )


def _layers(count: int) -> str:
    return f"{count} layer" + "s" * (count > 1)


def require_same_function(name: str, source: Part, target: Part) -> None:
    """Refuse a target that computes another function with the source's weights. The source's holder is not asked."""
    if source.cell is not target.cell:
        raise ValueError(
            f"{name} should be of the source's cell, {source.cell.name}, got {target.cell.name}: {_how_to_make(source.cell)}"
        )
    require_same_options(name, source.options, target.options, WAYS_OUT)
    require_place(name, source.bias, target.bias)


def require_same_options(
    name: str, source: Mapping[str, Any], target: Mapping[str, Any], ways_out: Mapping[str, str]
) -> None:
    """Refuse a target of which one of the source's options is another: what is not decided, None, is the same as anything."""
    for option, expected in source.items():
        got = target[option]
        if not _same(expected, got):
            raise ValueError(
                f"{name} should have the source's {option}, {_text(expected)}, got {_text(got)}: {ways_out[option]}"
            )


def require_place(name: str, source: bool, target: bool) -> None:
    """Refuse a target without biases for a source's."""
    if source and not target:
        raise ValueError(
            f"{name} should have biases as the source has, got none: bias=True in PyTorch, use_bias=True in Keras"
        )


def _how_to_make(cell: Cell) -> str:
    """Where there are layers of a cell, and what says that they are of it."""
    builtin = {"torch": "torch.nn", "tf": "keras.layers"}
    packages = ["rnn_torch", "rnn_tf", *(builtin[name] for name in cell.builtin)]
    options = ", ".join(f"{name}={value}" for name, value in cell.options.items())
    return f"no other computes the same, make it by {cell.layer_class}({options}) of {', '.join(packages)}"


def _same(a: Any, b: Any) -> bool:
    """Functions are the same if they are known to compute the same, or are one; what is not decided is the same as anything."""
    if a is b or a is None or b is None:
        return True
    if isinstance(a, Activation) and isinstance(b, Activation):
        return a == b
    return not callable(a) and not callable(b) and bool(a == b)


def _text(value: Any) -> str:
    """An option in words; a function of the user's own so that it is not taken for a framework's of that name."""
    if isinstance(value, Activation) or not callable(value):
        return str(value)
    return f"the function {value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)


def filling(name: str, source: Part, weights: Mapping[str, Array], bias: bool) -> dict[str, Array]:
    """A source's weights in float32 at least, with zeros for biases that it lacks and its target has."""
    weights = finite(name, weights)
    if bias and not source.bias:
        hidden = len(weights[source.cell.input_matrices[0]])
        weights |= {name: np.zeros(hidden, np.float32) for name in source.cell.biases}
    return weights


def finite(name: str, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Weights in float32 at least.

    Raises:
        ValueError: NaN or infinity is among them.
    """
    if wrong := [weight for weight, array in weights.items() if not np.isfinite(array).all()]:
        raise ValueError(f"{name} should have finite weights, got NaN or infinity in {', '.join(wrong)}")
    return {weight: array.astype(np.promote_types(array.dtype, np.float32)) for weight, array in weights.items()}


def require_one_value_each(values: list[tuple[Framework, Any, Any]]) -> None:
    """Refuse to fill a variable that is used twice with two values, of which the first would be lost."""
    given: dict[int, Any] = {}
    for _, variable, value in values:
        before = given.setdefault(id(variable), value)
        if not bool((before == value).all()):
            raise ValueError(
                "target should have variables of its own for every layer and direction, got one that is shared "
                "where the source's weights differ"
            )
