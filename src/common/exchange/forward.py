"""What was found, run in NumPy by the document's equations: what every reader and writer is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.equations import Unrolled, check_lengths, unroll_weights
from rnn_common.equations.arithmetic import State
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Embedding, Foreign, Layer, Recurrent
from rnn_common.packings import merged


class Ran(NamedTuple):
    """What a recurrent layer gives.

    Attributes:
        outputs: every step's, directions merged, `(batch, time, width)`; 0 where a sequence has ended.
        last: the output after each sequence's last step, directions merged, `(batch, width)`: of the one that runs backwards
            that after the first.
        final: the state of each direction after all steps, each `(h,)` or `(h, c)` of `(batch, hidden)`.
    """

    outputs: Array
    last: Array
    final: tuple[State, ...]


def run_layer(
    layer: Recurrent,
    x: Array,
    state: Sequence[State] | None = None,
    lengths: Array | None = None,
    dtype: DTypeLike = np.float64,
) -> Ran:
    """Run a recurrent layer.

    Args:
        layer: the layer.
        x: `(batch, time, input)`.
        state: of each direction the initial `(h,)` or `(h, c)`, each `(batch, hidden)`. Default zeros.
        lengths: `(batch,)`: how many steps each sequence has, in front. Default all.
        dtype: in which it is computed. Default float64.
    """
    runs = [
        _run_direction(layer, n, x, None if state is None else state[n], lengths, dtype)
        for n in range(len(layer.directions))
    ]
    if len(runs) == 1:
        ((outputs, final),) = runs
        return Ran(outputs, final[0], (final,))
    outputs, last = (
        merge(layer.merge, *pair) for pair in zip(*((outputs, final[0]) for outputs, final in runs), strict=True)
    )
    return Ran(outputs, last, tuple(final for _, final in runs))


def _run_direction(
    layer: Recurrent, direction: int, x: Array, state: State | None, lengths: Array | None, dtype: DTypeLike
) -> tuple[Array, State]:
    """Every output and the final state of one direction; the outputs in the order in which the layer hands them on."""
    unrolled, order = unroll_direction(layer, direction, x, state, lengths, dtype)
    if not layer.backwards and direction == 0:
        return unrolled.outputs, unrolled.final
    outputs = np.take_along_axis(unrolled.outputs, order[..., None], 1)
    return outputs[:, ::-1] if layer.flipped else outputs, unrolled.final


def unroll_direction(
    layer: Recurrent,
    direction: int,
    x: Array,
    state: State | None = None,
    lengths: Array | None = None,
    dtype: DTypeLike = np.float64,
) -> tuple[Unrolled, Array]:
    """One direction in the order in which it runs, with the trace of every step.

    Args:
        layer, x, lengths, dtype: see `run_layer`.
        direction: 0 or 1.
        state: its initial one. Default zeros.

    Returns:
        What it gives, and `(batch, time)`: at which step of a sequence its first, second … stand where it runs backwards.
    """
    batch, time, _ = x.shape
    backwards = layer.backwards or direction == 1
    steps = np.full(batch, time) if lengths is None else check_lengths(lengths, batch, time)
    order = _reversed(steps, time)
    x = np.take_along_axis(x, order[..., None], 1) if backwards else x
    weights = {name: array.astype(dtype, copy=False) for name, array in layer.directions[direction].weights.items()}
    if state is None:
        state = tuple(np.zeros((batch, layer.hidden_size)) for _ in layer.cell.states)
    unrolled = unroll_weights(
        layer.cell,
        layer.cell.weights(**merged(layer.cell, weights)),  # biases added in this dtype, not in the file's
        x.astype(dtype),
        tuple(h.astype(dtype) for h in state),
        steps,
        layer.directions[direction].activations,
    )
    return unrolled, order


def _reversed(lengths: Array, time: int) -> Array:
    """`(batch, time)`: which step of a sequence is the first, second … from its end; behind it each is in its own place."""
    t = np.arange(time)
    return np.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)


def merge(how: str, forward: Array, backward: Array) -> Array:
    """Two directions' outputs as one."""
    if how == "concat":
        return np.concatenate([forward, backward], -1)
    return {"sum": forward + backward, "mul": forward * backward, "ave": (forward + backward) / 2}[how]


RunRecurrent = Callable[[Recurrent, Array, Array | None, DTypeLike], Ran]


def _by_equations(layer: Recurrent, x: Array, lengths: Array | None, dtype: DTypeLike) -> Ran:
    return run_layer(layer, x, lengths=lengths, dtype=dtype)


def run_chain(
    layers: Sequence[Layer],
    x: Array,
    lengths: Array | None = None,
    dtype: DTypeLike = np.float64,
    run: RunRecurrent = _by_equations,
) -> Array:
    """Run layers one after the other.

    Args:
        layers: as `Found.layers` has them, where `chain` says that they are one.
        x: `(batch, time, input)`, or symbols `(batch, time)` where an embedding comes first.
        lengths: see `run_layer`. Default: where an embedding says that symbol 0 is padding those steps are skipped, wherever
            they are, and their outputs are 0.
        dtype: in which it is computed. Default float64.
        run: runs a recurrent layer on its input, the lengths and the dtype. Default by the equations.

    Returns:
        `(batch, time, width)`, or `(batch, width)` behind a recurrent layer that hands on its last output alone.

    Raises:
        ValueError: a foreign layer is among them that changes what goes through it.
    """
    places = None
    for layer in layers:
        if isinstance(layer, Embedding):
            if layer.masks and lengths is None:
                places = np.argsort(x == 0, axis=1, kind="stable")  # of the valid steps first
                x, lengths = np.take_along_axis(x, places, 1), (x != 0).sum(1)
            x = layer.E.astype(dtype)[x]
        elif isinstance(layer, Recurrent):
            ran = run(layer, x, lengths, dtype)
            x = ran.last if layer.returns_sequences is False else ran.outputs
        elif isinstance(layer, Dense):
            b = 0 if layer.b is None else layer.b.astype(dtype)
            x = layer.activation(x @ layer.W.T.astype(dtype) + b)
        elif isinstance(layer, Foreign) and layer.changes:
            raise ValueError(f"layers should be embeddings, recurrent or dense, got {layer.name}, a {layer.kind}")
    return x if places is None or x.ndim < 3 else _put_back(x, lengths, places)


def _put_back(y: Array, lengths: Array | None, places: Array) -> Array:
    """Every output where its step was; zeros at those that were skipped."""
    assert lengths is not None
    kept = np.where((np.arange(y.shape[1]) < lengths[:, None])[..., None], y, 0)
    put = np.zeros_like(y)
    np.put_along_axis(put, places[..., None], kept, 1)
    return put
