"""The driver: a cell over a sequence, by whichever engine takes the case. All that is not arithmetic is here.

- Padding and gaps: the valid steps of each sequence are brought together in front, and the states are spread out again.
- Automatic differentiation: an engine with a backward pass of its own is one function to it. Second derivatives are those of
  the operations that its two passes consist of.
- Without a graph the passes run as graphs of their own.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import tensorflow as tf

from rnn_common.cells import Cell
from rnn_common.checks import one_of
from rnn_tf import private
from rnn_tf.cells.base import Activation, Recurrence, State, Tensor
from rnn_tf.engines import AUTO, ENGINES, Engine


def unroll(
    engine: str,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    valid: Tensor | None = None,
    all_states: bool = False,
    unrolled: bool = False,
) -> tuple[State, State]:
    """Run a cell over `x (time, batch, input)`.

    Args:
        engine: a name in `rnn_tf.ENGINES`, or `"auto"`; what it does not take `reference` runs.
        recurrence: the cell and its options.
        weights: as Keras packs them.
        x: the sequences.
        state: the initial one, a tuple of `(batch, hidden)`.
        valid: `(time, batch, 1)`, or for each unit `(time, batch, hidden)`: False where a step is skipped and the state stays
            as it is. Default None.
        all_states: whether an LSTM's every c_t is wanted, too. Default False.
        unrolled: write the loop out in the graph, once a step. Default False.

    Returns:
        The history, a tuple of every h_t and, with `all_states`, every c_t, each `(time, batch, hidden)`; and the final state.
    """
    chosen = ENGINES[explain(engine, recurrence, valid).engine]
    if chosen.backward is None:
        history, final, _ = chosen.forward(recurrence, weights, x, state, valid, all_states, unrolled)
    elif valid is None:
        history, final = _run(chosen, recurrence, weights, x, state, all_states, unrolled)
    else:
        history, final = _run_valid(chosen, recurrence, weights, x, state, tf.squeeze(valid, -1), unrolled)
    return history if all_states else history[:1], final


# Which engine


class Choice(NamedTuple):
    """Which engine runs a call.

    Attributes:
        engine: its name.
        refused: why those do not that were asked before it, by name.
    """

    engine: str
    refused: dict[str, str]


def explain(engine: str, recurrence: Recurrence, valid: Tensor | None = None) -> Choice:
    """Which engine runs a call, and why not the others; see `unroll` for the arguments.

    Raises:
        ValueError: an unknown engine.
    """
    refused: dict[str, str] = {}
    for name in AUTO if engine == "auto" else (check(engine), "reference"):
        reason = ENGINES[name].refuses(recurrence, valid)
        if reason is None:
            return Choice(name, refused)
        refused[name] = reason
    raise AssertionError("reference takes every case")


def check(engine: str) -> str:
    """The name of an engine, or `"auto"`.

    Raises:
        ValueError: there is none.
    """
    return cast(str, one_of("engine", engine, ["auto", *ENGINES]))


# Padding and gaps


def _run_valid(
    engine: Engine,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    valid: Tensor,
    unrolled: bool,
) -> tuple[State, State]:
    """Run over the steps at which `valid (time, batch)` is True; at the others the state stays as it is.

    What the padding behind the last valid step does to the state is never read, so its derivative is zero.
    """
    order = tf.argsort(tf.cast(valid, tf.int32), 0, "DESCENDING", stable=True)
    count = tf.cumsum(tf.cast(valid, tf.int32))  # how many valid steps there are up to and with each
    padding = (tf.range(tf.shape(x)[0])[:, None] >= count[-1])[:, :, None]
    x = tf.where(padding, tf.zeros([], x.dtype), _take(x, order))
    history, _ = _run(engine, recurrence, weights, x, state, True, unrolled)
    begun, latest = (count > 0)[:, :, None], tf.maximum(count - 1, 0)
    history = tuple(tf.where(begun, _take(h, latest), h_0) for h, h_0 in zip(history, state, strict=True))
    return history, tuple(h[-1] for h in history)


def _take(sequence: Tensor, steps: Tensor) -> Tensor:
    """For each step and sequence of a batch, the step of that sequence that `steps (time, batch)` names."""
    batch = tf.broadcast_to(tf.range(tf.shape(steps)[1]), tf.shape(steps))
    return tf.gather_nd(sequence, tf.stack([steps, batch], -1))


# Automatic differentiation


def _run(
    engine: Engine,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    all_states: bool,
    unrolled: bool,
) -> tuple[State, State]:
    """History and final state by an engine with a backward pass of its own."""
    states, returned = len(state), len(state) if all_states else 1
    tensors = tuple(map(tf.convert_to_tensor, (x, *state, *weights)))
    forward, backward = _passes(engine, recurrence, tensors, unrolled)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(x: Tensor, *tensors: Tensor) -> Any:
        state, weights = tensors[:states], tensors[states:]
        history, final, saved = forward(weights, x, state)

        # Of operations that can be differentiated again, on tensors that depend on the inputs by such operations.
        def gradient(*d_returned: Tensor) -> Any:
            d_returned = tuple(map(tf.convert_to_tensor, d_returned))  # tf.gather's come as tf.IndexedSlices
            d_history, d_final = d_returned[:returned], d_returned[returned:]
            gradients = backward(weights, x, state, history, saved, d_history, d_final)
            for gradient, tensor in zip(gradients, (x, *tensors), strict=True):
                gradient.set_shape(tensor.shape)
            return gradients

        return (*history[:returned], *final), gradient

    results = run(*tensors)
    return results[:returned], results[returned:]


def _passes(
    engine: Engine, recurrence: Recurrence, tensors: Sequence[Tensor], unrolled: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The engine's passes over weights, x and state: as they are where a graph is being written, else as graphs."""
    if tf.executing_eagerly() and not unrolled and not private.have_tangents(tensors):
        graphs = _graphs(engine.name, recurrence.cell, recurrence.activations)
        return functools.partial(graphs.call, graphs.forward), functools.partial(graphs.call, graphs.backward)
    forward, backward = cast(Any, (engine.forward, engine.backward))
    return functools.partial(forward, recurrence, unrolled=unrolled), functools.partial(
        backward, recurrence, unrolled=unrolled
    )


class _Graphs:
    """An engine's passes for callers without a graph: eagerly a loop takes milliseconds a step."""

    def __init__(self, engine: Engine, recurrence: Recurrence) -> None:
        def graph(run: Any) -> Any:
            return tf.function(functools.partial(run, recurrence), autograph=False, reduce_retracing=True)

        self.forward, self.backward = graph(engine.forward), graph(engine.backward)
        self.lock = threading.Lock()

    def call(self, graph: Callable[..., Any], *arguments: Any) -> Any:
        """Call `forward` or `backward`: under a tape, one thread at a time.

        TensorFlow writes the derivative of a graph's loop when the graph is first called under a tape, and two threads
        that do so at once spoil the graph for good.
        """
        with self.lock if private.a_tape_may_record() else contextlib.nullcontext():
            return graph(*arguments)


@functools.cache
def _graphs(engine: str, cell: Cell, activations: tuple[Activation, ...]) -> _Graphs:
    return _Graphs(ENGINES[engine], Recurrence(cell, activations))
