"""Every private API of TensorFlow's and Keras's that this package leans on, each with its reason; `tests/house/test_private.py`
says when one breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# The only way to draw the dropout masks outside the loop of `keras.layers.RNN`.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell as DropoutRNNCell
from tensorflow.python.eager.forwardprop_util import pack_tangents
from tensorflow.python.eager.record import could_possibly_record
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.saved_model.save_context import in_save_context

Tensor = Any


def have_tangents(tensors: Sequence[Tensor]) -> bool:
    """Whether a `ForwardAccumulator` is at work on one of the tensors: no graph's loop takes it."""
    return bool(pack_tangents(tuple(tensors)).tangents)


def a_tape_may_record() -> bool:
    """Whether a tape is at work: the derivative of a graph's loop is then written at its first call."""
    return bool(could_possibly_record())


def in_xla() -> bool:
    """Whether what is being written is for XLA, which compiles no operations but TensorFlow's own."""
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def is_being_saved() -> bool:
    """Whether what is being written goes into a SavedModel, which may be loaded where there is TensorFlow alone."""
    return bool(in_save_context())


def sublayers(layer: Any) -> list[Any]:
    """What a layer or model holds directly, in order; Keras has a public way for models alone."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def moments(optimizer: Any) -> tuple[list[Any], list[Any]]:
    """Adam's variables m and v, in the order of the trained variables; Keras names them in no public way."""
    return optimizer._momentums, optimizer._velocities
