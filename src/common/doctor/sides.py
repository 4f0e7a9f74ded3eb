"""The two that are compared: what each is declared to be, and what it does."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rnn_common import exchange, twins
from rnn_common.checks import one_of
from rnn_common.doctor.calls import UNITS, Call, Seen, seen
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Embedding, Foreign, Found, Layer, Recurrent


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two that are compared.

    Args:
        name: what the report calls it.
        run: what it does with a call; gives every output or the last, and the final states where it hands them on. Or a
            function of `x` alone, see `of_function`.
        layers: what it is declared to be, each layer reading what the one before it gives: weights and configuration as
            `rnn_common.exchange` describes them. Default unknown.
        dtype: in which it computes. Default `"float32"`.
        takes_state, takes_lengths: whether `run` heeds those of a call. Default no.
        framework: `"torch"` or `"tf"` where it is of one, else empty.
        evaluated: the same out of training, where it can be in training. Default None.
        steps: for a network, what each of its layers was given and gave in a call; see `Step`. Default None.
        untouched: within it the side may be run as often as is needed: what that changes, of its states and of what random
            numbers come next, is put back behind it. Default nothing.
        origin: how it came to be known, in words.
    """

    name: str
    run: Callable[[Call], Seen]
    layers: tuple[Layer, ...] = ()
    dtype: str = "float32"
    takes_state: bool = False
    takes_lengths: bool = False
    framework: str = ""
    evaluated: Callable[[], Side] | None = None
    steps: Callable[[Call], list[Step]] | None = None
    untouched: Callable[[], AbstractContextManager[None]] = nullcontext
    origin: str = ""


@dataclass(frozen=True, eq=False)
class Step:
    """A layer of a network in a call.

    Attributes:
        side: the layer by itself.
        call: what it was given.
        seen: what it gave.
    """

    side: Side
    call: Call
    seen: Seen


class OwnActivation:
    """A function of the user's own that stands for tanh or σ; the same as itself alone.

    Args:
        function: of a framework's tensors.
        in_numpy: the same of arrays.
    """

    def __init__(self, function: Any, in_numpy: Callable[[Array], Array]) -> None:
        self.function, self.in_numpy = function, in_numpy

    def __call__(self, a: Array) -> Array:
        return self.in_numpy(a)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnActivation) and other.function is self.function

    def __hash__(self) -> int:
        return id(self.function)

    def __str__(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))


def side(thing: Any, name: str, layer: str = "") -> Side:
    """What is compared, as a side, and nothing that is no number among its weights; see `_of`."""
    if not isinstance(layer, str):
        raise TypeError(f"layer_{name} should be what names of layers begin with, got {type(layer).__name__}")
    found = _of(thing, name, layer)
    one_of(f"dtype of {name}", found.dtype, tuple(UNITS))
    for each in found.layers:
        for array_name, array in _arrays(each):
            if not np.isfinite(array).all():
                raise ValueError(
                    f"{name} should have finite weights, got {array_name} of {each.name} with NaN or infinity"
                )
    return found


def _arrays(layer: Layer) -> Iterator[tuple[str, Array]]:
    """The weights of a layer, by name."""
    if isinstance(layer, Recurrent):
        for direction in layer.directions:
            yield from direction.weights.items()
    elif isinstance(layer, Embedding):
        yield "E", layer.E
    elif isinstance(layer, Dense):
        yield "W", layer.W
        if layer.b is not None:
            yield "b", layer.b


def _of(thing: Any, name: str, layer: str) -> Side:
    """What is compared, as a side.

    Args:
        thing: a layer or network of either framework or of ours, a file, a layer as `rnn_common.exchange` describes it, a
            function of `x` that gives outputs, or a `Side`.
        name: what the report calls it.
        layer: of a file, what the names of the wanted layers begin with. Default all.

    Raises:
        TypeError, ValueError: it is none of these, or holds no recurrent layer; says what came.
        NotUnderstood, OSError: of a file, see `exchange.read`.
    """
    if isinstance(thing, Side):
        return replace(thing, name=name)
    if isinstance(thing, (str, Path)):
        return of_file(exchange.read(thing), name, layer)
    if isinstance(thing, Found):
        return of_file(thing, name, layer)
    if layer:
        raise ValueError(f"layer_{name} should be given for a file, got it for {type(thing).__name__}")
    if isinstance(thing, Recurrent):
        return of_description((thing,), name)
    try:
        twin = twins.of(thing)
    except TypeError:
        if callable(thing):
            return of_function(thing, name)
        raise TypeError(
            f"{name} should be a layer, a network, a file or a function of x, got {twins.full_name(thing)}"
        ) from None
    page = importlib.import_module(f"{twin.package}.doctor")
    found: Side = page.side(thing, name)
    return found


def of_description(layers: Sequence[Layer], name: str, origin: str = "") -> Side:
    """Layers as they are described, run by the equations in float32: they do what they are declared to."""
    layers = tuple(layers)
    single = len(layers) == 1
    return Side(
        name,
        lambda call: seen(layers, call, np.float32),
        layers,
        takes_state=single,
        takes_lengths=True,
        origin=origin or "run by the equations",
    )


def of_file(found: Found, name: str, layer: str = "") -> Side:
    """What is in a file, run by the equations.

    Raises:
        ValueError: there is no recurrent layer in it, or a layer that changes what goes through it.
    """
    found = found.only(layer) if layer else found
    if not found.recurrent:
        raise ValueError(f"{name} should hold a recurrent layer, {found.path.name} has none")
    kept = [each for each in found.layers if not isinstance(each, Foreign) or each.changes]
    strange = [each for each in kept if isinstance(each, Foreign)]
    if strange and found.chain:
        raise ValueError(
            f"{name} should be of embeddings, recurrent and dense layers, got {strange[0].name}, a {strange[0].kind}: "
            "name one layer"
        )
    layers = tuple(each for each in kept if not isinstance(each, Foreign))
    if not found.chain and not follow_each_other(layers):
        layers = found.recurrent
        if not follow_each_other(layers):
            names = ", ".join(each.name for each in layers)
            raise ValueError(f"{name} should say which layer reads which, or be one layer: name one of {names}")
    return of_description(layers, name, f"{found.path.name}, {found.format}")


def follow_each_other(layers: Sequence[Layer]) -> bool:
    """Whether each layer's width is that of what the next one reads."""
    widths = [_widths(each) for each in layers]
    return all(before[1] == after[0] for before, after in pairwise(widths))


def _widths(layer: Layer) -> tuple[int | None, int]:
    """What a layer reads, None being symbols, and what it gives."""
    if isinstance(layer, Recurrent):
        double = len(layer.directions) == 2 and layer.merge == "concat"
        return layer.input_size, layer.hidden_size * (1 + double)
    if isinstance(layer, Embedding):
        return None, layer.E.shape[1]
    assert isinstance(layer, Dense)
    return layer.W.shape[1], layer.W.shape[0]


def of_function(function: Callable[[Array], Any], name: str, layers: Sequence[Layer] = (), **options: Any) -> Side:
    """A function of `x (batch, time, input)` in NumPy that gives outputs, or outputs and the final state's arrays.

    Args:
        function: the function.
        name: what the report calls it.
        layers: what it is declared to be; see `Side`.
        options: of `Side`.
    """

    def run(call: Call) -> Seen:
        given = function(call.x)
        if isinstance(given, (tuple, list)):
            outputs, *final = (np.asarray(each) for each in given)
            return Seen(outputs, (tuple(final),) if final else None)
        return Seen(np.asarray(given))

    return Side(name, run, tuple(layers), origin="a function", **options)
