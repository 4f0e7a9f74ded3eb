"""A step over a sequence, and back-propagation through time."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnn_common.cells import Cell
from rnn_common.equations import gru, gru_v3, lstm, simple_rnn
from rnn_common.equations.arithmetic import Activation, Array, State
from rnn_common.weights import Parameters

PAGES: dict[str, Any] = {"SimpleRNN": simple_rnn, "LSTM": lstm, "GRU": gru, "GRU v3": gru_v3}


def page(cell: Cell) -> Any:
    """The page of a cell: a module with its `step` and `step_backward`; of a cell of the user's own, its step alone."""
    if cell.in_table:
        return PAGES[cell.name]
    if cell.numpy is None:
        raise ValueError(f"cell {cell.name} should have a step in NumPy, its argument numpy, got none")
    own = cell.numpy
    return SimpleNamespace(step=lambda w, x_t, state: (own(w, x_t, state), None), step_backward=None)


class Unrolled(NamedTuple):
    """A layer run over a batch of sequences.

    Attributes:
        outputs: h_t for every step, `(batch, time, hidden)`; 0 where a sequence has ended.
        final: the state after each sequence's own last step: `(h,)`, or `(h, c)` for an LSTM, each `(batch, hidden)`.
        traces: what each step leaves for the backward pass.
    """

    outputs: Array
    final: State
    traces: tuple[Any, ...]

    @property
    def largest_pre_activation(self) -> float:
        """The largest |argument| of any σ or tanh (an LSTM's c_t among them): rounding grows in proportion to it."""
        if self.traces[0] is None:
            return 1.0  # a cell of the user's own tells no more than its state
        names = [name for name in self.traces[0]._fields if name.startswith("a_") or name == "c_t"]
        return max(float(np.abs(getattr(trace, name)).max()) for trace in self.traces for name in names)


class Gradients(NamedTuple):
    """∂L/∂ every input of a layer.

    Attributes:
        x: `(batch, time, input)`; 0 where a sequence has ended.
        state: of the initial state, as `Unrolled.final` is arranged.
        weights: by the document's names.
    """

    x: Array
    state: State
    weights: dict[str, Array]


def check_lengths(lengths: ArrayLike, batch: int, time: int) -> NDArray[np.int64]:
    """The lengths as an integer array `(batch,)`.

    Raises:
        TypeError: they are no integers.
        ValueError: they are not `(batch,)`, or one is below 1 or above `time`.
    """
    array = np.asarray(lengths)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"lengths should be integers, got {array.dtype}")
    if array.shape != (batch,):
        raise ValueError(f"lengths should have shape ({batch},), got {array.shape}")
    if array.size and (array.min() < 1 or array.max() > time):
        raise ValueError(f"lengths should be from 1 to {time}, got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _valid(lengths: ArrayLike | None, batch: int, time: int) -> Array:
    """`(time, batch, 1)`: whether step t lies within the sequence."""
    if lengths is None:
        return np.ones((time, batch, 1), bool)
    return np.asarray(np.arange(time)[:, None, None] < check_lengths(lengths, batch, time)[:, None])


def _check_inputs(parameters: Parameters, x: Array, state: Sequence[Array]) -> None:
    if x.ndim != 3 or x.shape[2] != parameters.input_size:
        raise ValueError(f"x should have shape (batch, time, {parameters.input_size}), got {x.shape}")
    if x.shape[0] < 1 or x.shape[1] < 1:
        raise ValueError(f"x should hold at least one sequence of at least one step, got shape {x.shape}")
    names = parameters.cell.states
    if len(state) != len(names):
        raise ValueError(f"state should be ({', '.join(names)}), got {len(state)} arrays")
    for name, array in zip(names, state, strict=True):
        if array.shape != (x.shape[0], parameters.hidden_size):
            raise ValueError(
                f"state {name} should have shape ({x.shape[0]}, {parameters.hidden_size}), got {array.shape}"
            )


def _weights(parameters: Parameters) -> Any:
    """The weights in float64, as the equations name them."""
    return parameters.cell.weights(**{name: array.astype(np.float64) for name, array in parameters.items()})


def unroll(
    parameters: Parameters,
    x: ArrayLike,
    state: Sequence[ArrayLike] | None = None,
    lengths: ArrayLike | None = None,
    activations: Sequence[Activation] = (),
) -> Unrolled:
    """Run a layer over a batch of sequences in float64.

    Args:
        parameters: the layer's weights.
        x: `(batch, time, input)`.
        state: the initial `(h,)`, or `(h, c)` for an LSTM, each `(batch, hidden)`. Default zeros.
        lengths: `(batch,)`, each from 1 to time. A sequence's state stays as it is once the sequence has ended. Default:
            every sequence fills the time axis.
        activations: what stands in for tanh and then, of a cell with gates, for σ. Default these.

    Raises:
        TypeError, ValueError: an argument of the wrong type or shape, or a length out of range.
    """
    x = np.asarray(x, np.float64)
    if state is None:
        state = [np.zeros((x.shape[0], parameters.hidden_size)) for _ in parameters.cell.states]
    initial = tuple(np.asarray(array, np.float64) for array in state)
    _check_inputs(parameters, x, initial)
    return unroll_weights(parameters.cell, _weights(parameters), x, initial, lengths, activations)


def unroll_weights(
    cell: Cell,
    w: Any,
    x: Array,
    state: State,
    lengths: ArrayLike | None = None,
    activations: Sequence[Activation] = (),
) -> Unrolled:
    """`unroll` without its checks, in the arithmetic of its arguments: complex ones give complex-step derivatives."""
    batch, time, _ = x.shape
    step = page(cell).step
    valid = _valid(lengths, batch, time)
    outputs, traces = [], []
    for t in range(time):
        after, trace = step(w, x[:, t], state, *activations)
        state = tuple(np.where(valid[t], new, old) for new, old in zip(after, state, strict=True))
        outputs.append(np.where(valid[t], after[0], 0))
        traces.append(trace)
    return Unrolled(np.stack(outputs, 1), state, tuple(traces))


def backpropagate(
    parameters: Parameters,
    unrolled: Unrolled,
    d_outputs: ArrayLike,
    d_final: Sequence[ArrayLike],
    lengths: ArrayLike | None = None,
) -> Gradients:
    """Back-propagation through time (Werbos 1990): walk an unrolled layer backwards.

    Args:
        parameters: the weights that `unrolled` was made with.
        unrolled: from `unroll`.
        d_outputs: ∂L/∂outputs, `(batch, time, hidden)`; without effect where a sequence has ended.
        d_final: ∂L/∂ the final state, `(h,)` or `(h, c)`, each `(batch, hidden)`.
        lengths: those given to `unroll`.

    Raises:
        ValueError: a cotangent of the wrong shape.
    """
    w = _weights(parameters)
    d_outputs = np.asarray(d_outputs, np.float64)
    d_state = tuple(np.asarray(d, np.float64) for d in d_final)
    if d_outputs.shape != unrolled.outputs.shape:
        raise ValueError(f"d_outputs should have shape {unrolled.outputs.shape}, got {d_outputs.shape}")
    if [d.shape for d in d_state] != [s.shape for s in unrolled.final]:
        raise ValueError(
            f"d_final should have shapes {[s.shape for s in unrolled.final]}, got {[d.shape for d in d_state]}"
        )
    batch, time, _ = d_outputs.shape
    step_backward = page(parameters.cell).step_backward
    valid = _valid(lengths, batch, time)
    d_x = []
    d_w = {name: np.zeros(array.shape) for name, array in parameters.items()}
    for t in reversed(range(time)):
        # Where the sequence has ended the step passes its state on, so only the valid rows go through its derivative.
        d_after = tuple(np.where(valid[t], d, 0) for d in (d_state[0] + d_outputs[:, t], *d_state[1:]))
        d_x_t, d_before, d_w_t = step_backward(w, unrolled.traces[t], d_after)
        d_state = tuple(np.where(valid[t], new, old) for new, old in zip(d_before, d_state, strict=True))
        d_x.append(d_x_t)
        for name in d_w:
            d_w[name] += getattr(d_w_t, name)
    return Gradients(np.stack(d_x[::-1], 1), d_state, d_w)
