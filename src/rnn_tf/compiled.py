"""For callers without a graph, who would wait milliseconds for each step of a loop: an engine's passes as graphs of their own."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import tensorflow as tf

from rnn_common.cells import Cell
from rnn_tf import private
from rnn_tf.cells.base import Activation, Recurrence, Tensor

if TYPE_CHECKING:
    from rnn_tf.engines import Engine


def passes(
    engine: Engine, recurrence: Recurrence, tensors: Sequence[Tensor], unrolled: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The engine's passes over `tensors`, which are x, state and weights: in a graph as they are, else as graphs."""
    if tf.executing_eagerly() and not unrolled and not private.have_tangents(tensors):
        return graphs(cast(Any, engine), recurrence.cell, recurrence.activations)
    forward, backward = cast(Any, (engine.forward, engine.backward))
    return functools.partial(forward, recurrence, unrolled=unrolled), functools.partial(
        backward, recurrence, unrolled=unrolled
    )


class Graph:
    """A function of tensors as a graph, which under a tape one thread at a time calls.

    TensorFlow writes the derivative of a graph's loop when the graph is first called under a tape, and two threads that do
    so at once spoil the graph for good.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self.function = tf.function(run, autograph=False, reduce_retracing=True)
        self.lock = threading.RLock()

    def __call__(self, *arguments: Any) -> Any:
        with self.lock if private.a_tape_may_record() else contextlib.nullcontext():
            return self.function(*arguments)


@functools.cache
def graphs(engine: Any, cell: Cell, activations: tuple[Activation, ...]) -> tuple[Graph, Graph]:
    """An engine's passes for callers without a graph."""
    recurrence = Recurrence(cell, activations)
    forward, backward = (functools.partial(run, recurrence) for run in (engine.forward, engine.backward))
    return Graph(forward), Graph(backward)
