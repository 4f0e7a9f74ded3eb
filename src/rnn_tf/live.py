"""What can be filled in a live network: what decides what each layer computes, and what it gives by itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from rnn_common.exchange import Array, Dense, Embedding
from rnn_common.exchange.description import LINEAR, SOFTMAX
from rnn_common.exchange.fill import Live, of_recurrent
from rnn_common.twins import full_name
from rnn_tf import twin
from rnn_tf.activations import described
from rnn_tf.own import OwnCell
from rnn_tf.private import sublayers

CELLS = (*(each for classes in twin.CLASSES.values() for each in classes[1::2]), OwnCell)
# What is an activation behind a dense layer.
BEHIND = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)


def inside(model: Any) -> list[Live]:
    """What can be filled in a live network, in the order of its layers.

    Raises:
        TypeError: it is no layer.
        ValueError: two of the layers would have one name.
    """
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"model should be a Keras model or layer, got {full_name(model)}")
    lives: dict[str, Live] = {}
    for name, layer, behind in _walk("", model, None, set()):
        for live in _live(name, layer, behind):
            if live.name in lives:
                raise ValueError(f"model should have layers with names of their own, got {live.name} twice")
            lives[live.name] = live
    return list(lives.values())


def _walk(name: str, layer: Any, behind: Any, seen: set[int]) -> Iterator[tuple[str, Any, Any]]:
    """Every layer once, by its path in the model, with the one behind it in what holds both; not what is in a recurrent layer."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield name or layer.name, layer, behind
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        return
    inner = sublayers(layer)
    for each, following in zip(inner, [*inner[1:], None], strict=False):
        yield from _walk(f"{name}/{each.name}" if name else each.name, each, following, seen)


def _live(name: str, layer: Any, behind: Any) -> list[Live]:
    """A layer that can be filled, the several that are in one, or none."""
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional, *CELLS)):
        return of_recurrent(name, layer, partial(twin.parts, layer), _flipped(layer))
    if isinstance(layer, keras.layers.Embedding):
        options = {"symbols": layer.input_dim, "width": layer.output_dim, "masking": bool(layer.mask_zero)}
        return [Live(name, Embedding, layer, options=options, odd=_odd(layer, keras.layers.Embedding))]
    if isinstance(layer, keras.layers.Dense):
        options = {"input size": layer.kernel.shape[0] if layer.built else None, "output size": layer.units}
        options["activation"] = _activation(layer, behind)
        odd = _odd(layer, keras.layers.Dense)
        return [Live(name, Dense, layer, bias=layer.use_bias, options=options, odd=odd)]
    return []


def _activation(dense: Any, behind: Any) -> Any:
    """A dense layer's activation by what it computes; None, not decided, if it is a layer of its own behind it."""
    if dense.activation is keras.activations.softmax:
        return SOFTMAX
    activation = described(dense.activation)
    return None if activation == LINEAR and isinstance(behind, BEHIND) else activation


def _odd(layer: Any, known: Any) -> str:
    """Why a layer does not compute what its class says."""
    if type(layer).call is not known.call:
        return f"layer should compute what {known.__name__} does, got {type(layer).__name__}, whose call is its own"
    if layer.quantization_mode is not None or layer.lora_enabled:
        return "layer should have weights that are variables, got one that is quantized or has LoRA's beside them"
    return ""


def _flipped(layer: Any) -> bool | None:
    """Whether outputs are handed on in the order in which they ran backwards; None where none are, or none ran so."""
    backwards = isinstance(layer, keras.layers.RNN) and layer.go_backwards and layer.return_sequences
    return True if backwards else None


def alone(layer: Any, x: Array) -> tuple[Array, str]:
    """What a layer of a live network gives by itself, without dropout and kept states; and in which dtype.

    Args:
        layer: of `inside`.
        x: features `(batch, time, input)`, or symbols `(batch, time)`.
    """
    stateful = [each for each in (layer, *sublayers(layer)) if getattr(each, "stateful", False)]
    run = layer
    if isinstance(layer, CELLS):
        run = keras.layers.RNN(layer, return_sequences=True, dtype=layer.dtype_policy)
    try:
        for each in stateful:
            each.stateful = False
        y = run(tf.convert_to_tensor(x), training=False)
    finally:
        for each in stateful:
            each.stateful = True
    y = y[0] if isinstance(y, (list, tuple)) else y
    on_gpu = y.dtype == tf.float32 and "GPU" in y.device
    return twin.outputs(y), "tf32" if on_gpu else y.dtype.name
