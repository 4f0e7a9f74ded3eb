"""Keras's layers and networks as sides of a diagnosis: what they are declared to be, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rnn_common.doctor.calls import Call, Seen, coarser
from rnn_common.doctor.sides import OwnActivation, Side, Step
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import LINEAR, SOFTMAX, Activation, Dense, Direction, Embedding, Layer, Recurrent
from rnn_tf import exchange, twin
from rnn_tf.activations import described

Tensor = Any


def side(model: Any, name: str) -> Side:
    """A layer or a network as a side.

    Raises:
        ValueError: it has no recurrent layer, or no weights yet.
    """
    if is_recurrent(model):
        return _of_layer(model, name)
    found = list(known(model))
    if not any(isinstance(each, Recurrent) for _, each in found):
        raise ValueError(f"{name} should hold a recurrent layer, got {type(model).__name__}")
    return Side(
        name,
        lambda call: _seen(_called(model, call)),
        tuple(layer for _, layer in found),
        _dtype(model),
        framework="tf",
        steps=lambda call: _steps(model, call),
        untouched=lambda: _untouched(model),
        origin=type(model).__name__,
    )


@contextmanager
def _untouched(layer: Any) -> Iterator[None]:
    """States that are kept from call to call, and the random numbers that come next, are put back behind it."""
    before = [(each, each.numpy()) for each in layer.non_trainable_variables]
    try:
        yield
    finally:
        for each, value in before:
            each.assign(value)


def is_recurrent(layer: Any) -> bool:
    if not isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        return False
    try:
        return len(twin.parts(layer)) == 1
    except (TypeError, ValueError):
        return False


def _of_layer(layer: Any, name: str) -> Side:
    return Side(
        name,
        lambda call: _run(layer, call),
        (recurrent(layer, name),),
        _dtype(layer),
        takes_state=True,
        takes_lengths=True,
        framework="tf",
        untouched=lambda: _untouched(layer),
        origin=type(layer).__name__,
    )


def recurrent(layer: Any, name: str) -> Recurrent:
    """A recurrent layer, described.

    Raises:
        ValueError: it has no weights yet.
    """
    (parts,) = twin.parts(layer)
    first = parts[0]
    single = len(parts) == 1
    backwards = single and bool(first.options["go_backwards"])
    return Recurrent(
        name,
        first.cell,
        tuple(Direction(twin.unpack(part), _activations(part)) for part in parts),
        "keras",
        backwards=backwards,
        flipped=backwards,
        merge="concat" if single else first.options["merge_mode"],
        returns_sequences=bool(layer.return_sequences),
    )


def _activations(part: Any) -> tuple[Any, ...]:
    names = ("activation", "recurrent_activation")[: len(part.cell.activations)]
    return tuple(_in_numpy(part.options[name]) for name in names if name in part.options)


def _in_numpy(activation: Any) -> Any:
    """A function of the user's own as one of arrays."""
    if isinstance(activation, Activation):
        return activation
    return OwnActivation(activation, lambda a: np.asarray(activation(tf.convert_to_tensor(a))))


def _dtype(layer: Any) -> str:
    """The coarsest in it."""
    return coarser(str(layer.compute_dtype), *(_dtype(each) for each in getattr(layer, "layers", ())))


def _tensor(array: Array, layer: Any) -> Tensor:
    return tf.cast(array, layer.compute_dtype) if np.issubdtype(array.dtype, np.floating) else tf.constant(array)


def _array(tensor: Tensor) -> Array:
    return np.asarray(tf.cast(tensor, tf.float64))


def _mask(call: Call) -> Tensor | None:
    return None if call.lengths is None else tf.sequence_mask(call.lengths, call.x.shape[1])


def _run(layer: Any, call: Call) -> Seen:
    """A recurrent layer on arrays; states are returned where it returns them."""
    state = None if call.state is None else [_tensor(h, layer) for each in call.state for h in each]
    given = layer(_tensor(call.x, layer), initial_state=state, mask=_mask(call))
    outputs, *final = given if isinstance(given, (list, tuple)) else (given,)
    if not final:
        return Seen(_array(outputs))
    directions = 1 + isinstance(layer, keras.layers.Bidirectional)
    arrays = list(map(_array, final))
    each = len(arrays) // directions
    return Seen(_array(outputs), tuple(tuple(arrays[n * each : (n + 1) * each]) for n in range(directions)))


def made(layer: Layer) -> Callable[[Array], Array]:
    """What a layer of ours does that is made as one is described; on plain operations, for there is nothing to wait for then.

    Raises:
        ValueError: none of ours computes it.
    """
    built: Any = exchange.built(layer)
    if isinstance(layer, Recurrent):
        single = len(layer.directions) == 1
        for each in (built,) if single else (built.forward_layer, built.backward_layer):
            each.engine = "reference"
    return lambda x: np.asarray(built(tf.convert_to_tensor(x)))


# Networks


def known(model: Any) -> Iterator[tuple[Any, Layer]]:
    """The embeddings, recurrent and dense layers in a network, in the order in which it has them."""
    for each in [model] if is_recurrent(model) else getattr(model, "layers", ()):
        if is_recurrent(each):
            yield each, recurrent(each, each.name)
        elif isinstance(each, keras.layers.Embedding):
            yield each, Embedding(each.name, _array(each.embeddings), bool(each.mask_zero))
        elif isinstance(each, keras.layers.Dense):
            bias = _array(each.bias) if each.use_bias else None
            yield each, Dense(each.name, _array(each.kernel).T, bias, _of_dense(each.activation))
        elif isinstance(each, keras.Model):
            yield from known(each)


def _of_dense(activation: Any) -> Any:
    if activation is keras.activations.linear:
        return LINEAR
    return SOFTMAX if activation is keras.activations.softmax else _in_numpy(described(activation))


def _called(model: Any, call: Call) -> Any:
    given = {} if call.lengths is None else {"mask": _mask(call)}  # a call of the user's own may take none
    return model(_tensor(call.x, model), **given)


def _seen(outputs: Any) -> Seen:
    """Of several outputs the first."""
    several = outputs if isinstance(outputs, (list, tuple)) else (outputs,)
    return Seen(_array(several[0]), others=len(several) - 1)


def _steps(model: Any, call: Call) -> list[Step]:
    """What each known layer of a network was given and gave, in the order of its calls."""
    steps: list[Step] = []
    for each, layer in known(model):
        each.call = _heard(each, layer, steps)
    try:
        _called(model, call)
    finally:
        for each, _ in known(model):
            del each.call
    return steps


def _heard(layer: Any, about: Layer, steps: list[Step]) -> Callable[..., Any]:
    """A layer's `call` that notes what goes through it."""
    original = layer.call

    def call(x: Tensor, *arguments: Any, **options: Any) -> Any:
        given = original(x, *arguments, **options)
        mask, state = options.get("mask"), options.get("initial_state")
        outputs = given[0] if isinstance(given, (list, tuple)) else given
        steps.append(_step(layer, about, x, mask, state, outputs))
        return given

    return call


def _step(layer: Any, about: Layer, x: Tensor, mask: Tensor | None, state: Any, outputs: Tensor) -> Step:
    if not isinstance(about, Recurrent):
        alone = Side(layer.name, lambda call: Seen(_array(layer(_tensor(call.x, layer)))), (about,), _dtype(layer))
        return Step(replace(alone, framework="tf"), Call(np.asarray(x)), Seen(_array(outputs)))
    lengths = None if mask is None else np.asarray(tf.reduce_sum(tf.cast(mask, tf.int64), 1))
    initial = None
    if state:
        arrays = list(map(_array, state))
        each = len(about.cell.states)
        initial = tuple(tuple(arrays[n * each : (n + 1) * each]) for n in range(len(about.directions)))
    return Step(_of_layer(layer, layer.name), Call(_array(x), initial, lengths), Seen(_array(outputs)))
