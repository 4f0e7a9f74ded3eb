"""What may stand for tanh and for σ beside Keras's own activations, and what all of them compute."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from rnn_common.exchange.description import HARD_SIGMOID_KERAS_2, NAMED, SOFTMAX, Activation

Tensor = Any


@keras.saving.register_keras_serializable("rnn_tf")  # type: ignore[untyped-decorator]
def hard_sigmoid_keras2(x: Tensor) -> Tensor:
    """max(0, min(1, 0.2 x + 0.5)), Keras's hard_sigmoid before version 3; since then it is PyTorch's, relu6(x + 3) / 6.

    Args:
        x: of any shape.
    """
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def accepted(given: Any) -> Any:
    """The function that a layer keeps of an activation, which is whatever Keras takes for one, or a name of ours."""
    if isinstance(given, str) and given == hard_sigmoid_keras2.__name__:
        return hard_sigmoid_keras2
    return keras.activations.get(given)


# Where Keras's activations stand, and what is the same elsewhere.
ROOMS = (keras.activations, keras.ops, tf.nn)


def described(activation: Any) -> Any:
    """An activation by what it computes, the same in both frameworks; any other function as it is."""
    if activation is hard_sigmoid_keras2:
        return HARD_SIGMOID_KERAS_2
    for name, computed in NAMED.items():
        if any(getattr(room, name, None) is activation for room in ROOMS):
            return computed
    return activation


def function_of(activation: Activation) -> Any:
    """What Keras takes for an activation that is described by what it computes: a name of its own, or a function of ours.

    Raises:
        ValueError: it has none.
    """
    if activation == HARD_SIGMOID_KERAS_2:
        return hard_sigmoid_keras2
    names = [name for name, computed in {**NAMED, "softmax": SOFTMAX}.items() if computed == activation]
    if not names:
        raise ValueError(f"activation should be one of {', '.join(NAMED)}, softmax, got {activation}")
    return names[0]
