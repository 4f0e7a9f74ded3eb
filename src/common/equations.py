"""The oracle: the document's equations, one step each, and their back-propagation through time, in NumPy float64.

The document is docs/equations.md.

Nothing here is fast or clever. Each `*_step` is the equations as the document prints them, each `*_step_backward` their
derivative by hand, line for line in reverse; `unroll` runs a step over a sequence and `backpropagate` walks it backwards.
Everything else in this project is held against these functions.

Shapes: a batch of sequences `x` is `(batch, time, input)`, a step's input `x_t` is `(batch, input)` and a state is
`(batch, hidden)`, so the document's `W x_t` reads `x_t @ W.T` for the rows of a batch. In the backward pass `d_q` stands
for ∂L/∂q.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnn_common.cells import CellName, GRUWeights, LSTMWeights, SimpleRNNWeights, Weights
from rnn_common.weights import Parameters

Array = NDArray[Any]
State = tuple[Array, ...]


def sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + e^{−a}), without overflow and to rounding on both sides; analytic, so it takes complex `a` too."""
    right = a.real >= 0
    exponential = np.exp(np.where(right, -a, a))
    return np.asarray(np.where(right, 1.0, exponential) / (1.0 + exponential))


# SimpleRNN


class SimpleRNNTrace(NamedTuple):
    """What one step leaves for its backward pass; `a_*` are pre-activations."""

    x_t: Array
    h: Array
    a_h: Array
    h_t: Array


def simple_rnn_step(w: SimpleRNNWeights, x_t: Array, state: State) -> tuple[State, SimpleRNNTrace]:
    """One step of the simple RNN (document, "Simple RNN").

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)
    """
    (h,) = state
    a_h = h @ w.W_hh.T + x_t @ w.W_xh.T + w.b_h
    h_t = np.tanh(a_h)
    return (h_t,), SimpleRNNTrace(x_t, h, a_h, h_t)


def simple_rnn_step_backward(
    w: SimpleRNNWeights, s: SimpleRNNTrace, d_state: State
) -> tuple[Array, State, SimpleRNNWeights]:
    """The derivative of `simple_rnn_step`: from ∂L/∂h_t to ∂L/∂x_t, ∂L/∂h_{t−1} and ∂L/∂W."""
    (d_h_t,) = d_state
    d_a_h = d_h_t * (1 - s.h_t**2)
    d_w = SimpleRNNWeights(W_xh=d_a_h.T @ s.x_t, W_hh=d_a_h.T @ s.h, b_h=d_a_h.sum(0))
    return d_a_h @ w.W_xh, (d_a_h @ w.W_hh,), d_w


# LSTM


class LSTMTrace(NamedTuple):
    """What one step leaves for its backward pass; `a_*` are pre-activations, `c_t` the argument of the last tanh."""

    x_t: Array
    h: Array
    c: Array
    a_i: Array
    a_f: Array
    a_o: Array
    a_c: Array
    i_t: Array
    f_t: Array
    o_t: Array
    c_tilde: Array
    c_t: Array


def lstm_step(w: LSTMWeights, x_t: Array, state: State) -> tuple[State, LSTMTrace]:
    """One step of the LSTM (document, "LSTM"; Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000).

    i_t = σ(W_ii x_t + W_hi h_{t−1} + b_i)
    f_t = σ(W_if x_t + W_hf h_{t−1} + b_f)
    o_t = σ(W_io x_t + W_ho h_{t−1} + b_o)
    c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t
    h_t = o_t ⊙ tanh(c_t)
    """
    h, c = state
    a_i = x_t @ w.W_ii.T + h @ w.W_hi.T + w.b_i
    a_f = x_t @ w.W_if.T + h @ w.W_hf.T + w.b_f
    a_o = x_t @ w.W_io.T + h @ w.W_ho.T + w.b_o
    a_c = x_t @ w.W_ic.T + h @ w.W_hc.T + w.b_c
    i_t, f_t, o_t, c_tilde = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o), np.tanh(a_c)
    c_t = f_t * c + i_t * c_tilde
    h_t = o_t * np.tanh(c_t)
    return (h_t, c_t), LSTMTrace(x_t, h, c, a_i, a_f, a_o, a_c, i_t, f_t, o_t, c_tilde, c_t)


def lstm_step_backward(w: LSTMWeights, s: LSTMTrace, d_state: State) -> tuple[Array, State, LSTMWeights]:
    """The derivative of `lstm_step`: from ∂L/∂h_t, ∂L/∂c_t to ∂L/∂x_t, ∂L/∂h_{t−1}, ∂L/∂c_{t−1} and ∂L/∂W."""
    d_h_t, d_c_t = d_state
    tanh_c_t = np.tanh(s.c_t)
    d_o_t = d_h_t * tanh_c_t
    d_c_t = d_c_t + d_h_t * s.o_t * (1 - tanh_c_t**2)
    d_a_i = d_c_t * s.c_tilde * s.i_t * (1 - s.i_t)
    d_a_f = d_c_t * s.c * s.f_t * (1 - s.f_t)
    d_a_o = d_o_t * s.o_t * (1 - s.o_t)
    d_a_c = d_c_t * s.i_t * (1 - s.c_tilde**2)
    d_w = LSTMWeights(
        W_ii=d_a_i.T @ s.x_t,
        W_if=d_a_f.T @ s.x_t,
        W_io=d_a_o.T @ s.x_t,
        W_ic=d_a_c.T @ s.x_t,
        W_hi=d_a_i.T @ s.h,
        W_hf=d_a_f.T @ s.h,
        W_ho=d_a_o.T @ s.h,
        W_hc=d_a_c.T @ s.h,
        b_i=d_a_i.sum(0),
        b_f=d_a_f.sum(0),
        b_o=d_a_o.sum(0),
        b_c=d_a_c.sum(0),
    )
    d_x_t = d_a_i @ w.W_ii + d_a_f @ w.W_if + d_a_o @ w.W_io + d_a_c @ w.W_ic
    d_h = d_a_i @ w.W_hi + d_a_f @ w.W_hf + d_a_o @ w.W_ho + d_a_c @ w.W_hc
    return d_x_t, (d_h, d_c_t * s.f_t), d_w


# GRU


class GRUTrace(NamedTuple):
    """What one step leaves for its backward pass; `a_*` are pre-activations."""

    x_t: Array
    h: Array
    a_r: Array
    a_z: Array
    a_n: Array
    r_t: Array
    z_t: Array
    n_tilde: Array
    recurrent_n: Array


def gru_step(w: GRUWeights, x_t: Array, state: State, *, reset_after: bool = True) -> tuple[State, GRUTrace]:
    """One step of the GRU (Cho et al. 2014, arXiv 1406.1078), in its first form or, with `reset_after=False`, its third.

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn))        reset_after=True  (v1)
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1}))               reset_after=False (v3)
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    a_r = x_t @ w.W_ir.T + h @ w.W_hr.T + w.b_r
    a_z = x_t @ w.W_iz.T + h @ w.W_hz.T + w.b_z
    r_t, z_t = sigmoid(a_r), sigmoid(a_z)
    if reset_after:
        recurrent_n = h @ w.W_hn.T + w.b_hn
        a_n = x_t @ w.W_in.T + w.b_n + r_t * recurrent_n
    else:
        recurrent_n = (r_t * h) @ w.W_hn.T
        a_n = x_t @ w.W_in.T + w.b_n + recurrent_n
    n_tilde = np.tanh(a_n)
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,), GRUTrace(x_t, h, a_r, a_z, a_n, r_t, z_t, n_tilde, recurrent_n)


def gru_step_backward(
    w: GRUWeights, s: GRUTrace, d_state: State, *, reset_after: bool = True
) -> tuple[Array, State, GRUWeights]:
    """The derivative of `gru_step`: from ∂L/∂h_t to ∂L/∂x_t, ∂L/∂h_{t−1} and ∂L/∂W."""
    (d_h_t,) = d_state
    d_a_n = d_h_t * (1 - s.z_t) * (1 - s.n_tilde**2)
    d_a_z = d_h_t * (s.h - s.n_tilde) * s.z_t * (1 - s.z_t)
    if reset_after:
        d_recurrent_n = d_a_n * s.r_t
        d_r_t = d_a_n * s.recurrent_n
        d_W_hn = d_recurrent_n.T @ s.h
        d_h = d_recurrent_n @ w.W_hn
    else:
        d_recurrent_n = d_a_n
        d_reset_h = d_a_n @ w.W_hn
        d_r_t = d_reset_h * s.h
        d_W_hn = d_a_n.T @ (s.r_t * s.h)
        d_h = d_reset_h * s.r_t
    d_a_r = d_r_t * s.r_t * (1 - s.r_t)
    d_w = GRUWeights(
        W_ir=d_a_r.T @ s.x_t,
        W_iz=d_a_z.T @ s.x_t,
        W_in=d_a_n.T @ s.x_t,
        W_hr=d_a_r.T @ s.h,
        W_hz=d_a_z.T @ s.h,
        W_hn=d_W_hn,
        b_r=d_a_r.sum(0),
        b_z=d_a_z.sum(0),
        b_n=d_a_n.sum(0),
        b_hn=d_recurrent_n.sum(0),
    )
    d_x_t = d_a_r @ w.W_ir + d_a_z @ w.W_iz + d_a_n @ w.W_in
    d_h = d_h + d_a_r @ w.W_hr + d_a_z @ w.W_hz + d_h_t * s.z_t
    return d_x_t, (d_h,), d_w


# Over time

_STEPS: dict[CellName, tuple[Any, Any]] = {
    "SimpleRNN": (simple_rnn_step, simple_rnn_step_backward),
    "LSTM": (lstm_step, lstm_step_backward),
    "GRU": (gru_step, gru_step_backward),
}


def _steps(cell: CellName, reset_after: bool) -> tuple[Any, Any]:
    forward, backward = _STEPS[cell]
    if cell != "GRU":
        return forward, backward
    return partial(forward, reset_after=reset_after), partial(backward, reset_after=reset_after)


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
        arguments = ("a_h", "a_i", "a_f", "a_o", "a_c", "a_r", "a_z", "a_n", "c_t")
        return max(float(np.abs(getattr(s, a)).max()) for s in self.traces for a in arguments if a in s._fields)


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
    names = parameters.kind.states
    if len(state) != len(names):
        raise ValueError(f"state should be ({', '.join(names)}), got {len(state)} arrays")
    for name, array in zip(names, state, strict=True):
        if array.shape != (x.shape[0], parameters.hidden_size):
            raise ValueError(
                f"state {name} should have shape ({x.shape[0]}, {parameters.hidden_size}), got {array.shape}"
            )


def unroll(
    parameters: Parameters, x: ArrayLike, state: Sequence[ArrayLike] | None = None, lengths: ArrayLike | None = None
) -> Unrolled:
    """Run a layer over a batch of sequences in float64.

    Args:
        parameters: the layer's weights.
        x: `(batch, time, input)`.
        state: the initial `(h,)`, or `(h, c)` for an LSTM, each `(batch, hidden)`. Default zeros.
        lengths: `(batch,)`, each from 1 to time. A sequence's state stays as it is once the sequence has ended. Default:
            every sequence fills the time axis.

    Raises:
        TypeError, ValueError: an argument of the wrong type or shape, or a length out of range.
    """
    x = np.asarray(x, np.float64)
    if state is None:
        state = [np.zeros((x.shape[0], parameters.hidden_size)) for _ in parameters.kind.states]
    initial = tuple(np.asarray(array, np.float64) for array in state)
    _check_inputs(parameters, x, initial)
    weights = parameters.kind.weights(**{name: array.astype(np.float64) for name, array in parameters.items()})
    return unroll_weights(parameters.cell, weights, x, initial, lengths, reset_after=parameters.reset_after)


def unroll_weights(
    cell: CellName, w: Weights, x: Array, state: State, lengths: ArrayLike | None = None, *, reset_after: bool = True
) -> Unrolled:
    """`unroll` without its checks, in the arithmetic of its arguments: complex ones give complex-step derivatives."""
    batch, time, _ = x.shape
    step, _ = _steps(cell, reset_after)
    valid = _valid(lengths, batch, time)
    outputs, traces = [], []
    for t in range(time):
        after, trace = step(w, x[:, t], state)
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
    w = parameters.kind.weights(**{name: array.astype(np.float64) for name, array in parameters.items()})
    d_outputs = np.asarray(d_outputs, np.float64)
    d_state = tuple(np.asarray(d, np.float64) for d in d_final)
    if d_outputs.shape != unrolled.outputs.shape:
        raise ValueError(f"d_outputs should have shape {unrolled.outputs.shape}, got {d_outputs.shape}")
    if [d.shape for d in d_state] != [s.shape for s in unrolled.final]:
        raise ValueError(
            f"d_final should have shapes {[s.shape for s in unrolled.final]}, got {[d.shape for d in d_state]}"
        )
    batch, time, _ = d_outputs.shape
    _, step_backward = _steps(parameters.cell, parameters.reset_after)
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
