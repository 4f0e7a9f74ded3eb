"""One case, and what comes of it by the oracle."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_common import equations
from rnn_common.weights import Parameters

Array = NDArray[Any]
State = tuple[Array, ...]


class Case(NamedTuple):
    """One thing to run: a layer's weights, its inputs, and a cotangent for its outputs and final state.

    Attributes:
        parameters: the layer's weights.
        x: `(batch, time, input)`, of the parameters' dtype.
        state: the initial `(h,)`, or `(h, c)` for an LSTM, each `(batch, hidden)`.
        lengths: `(batch,)`, or None where every sequence fills the time axis.
        d_outputs: ∂L/∂outputs, `(batch, time, hidden)`; 0 where a sequence has ended.
        d_final: ∂L/∂ the final state, arranged as `state`.
    """

    parameters: Parameters
    x: Array
    state: State
    lengths: Array | None
    d_outputs: Array
    d_final: State


class Result(NamedTuple):
    """What comes of a case.

    Attributes:
        outputs: h_t for every step, `(batch, time, hidden)`; 0 where a sequence has ended, whatever the framework puts there.
        final: the state after each sequence's own last step.
        gradients: ∂L/∂ `x`, `h_0` (and `c_0`) and every weight by the document's name; where a packing holds two biases
            that are added, of both: `b_i` and `b_hi`.
    """

    outputs: Array
    final: State
    gradients: dict[str, Array]


def make_case(parameters: Parameters, x: Array, lengths: Array | None = None, *, seed: int = 0) -> Case:
    """A case with a random initial state and a random cotangent on the whole output sequence and the final state.

    Args:
        parameters: the layer's weights; their dtype is the case's.
        x: `(batch, time, input)`.
        lengths: `(batch,)`, or None where every sequence fills the time axis.
        seed: default 0.

    Raises:
        TypeError, ValueError: `x` or `lengths` of the wrong type or shape, or a length out of range.
    """
    if x.ndim != 3 or x.shape[2] != parameters.input_size:
        raise ValueError(f"x should have shape (batch, time, {parameters.input_size}), got {x.shape}")
    random = np.random.default_rng(seed)
    batch, steps, _ = x.shape
    hidden, states = parameters.hidden_size, parameters.cell.states

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape).astype(parameters.dtype)

    d_outputs = draw(batch, steps, hidden)
    if lengths is not None:
        lengths = equations.check_lengths(lengths, batch, steps)
        d_outputs[np.arange(steps) >= lengths[:, None]] = 0
    return Case(
        parameters,
        x.astype(parameters.dtype),
        tuple(draw(batch, hidden) / 2 for _ in states),
        lengths,
        d_outputs,
        tuple(draw(batch, hidden) for _ in states),
    )


class OracleRun(NamedTuple):
    """The oracle's result, and the largest |pre-activation| on the way to it."""

    result: Result
    largest_pre_activation: float


def run_oracle(case: Case) -> OracleRun:
    """The case by the document's equations in float64, whatever its dtype."""
    unrolled = equations.unroll(case.parameters, case.x, case.state, case.lengths)
    gradients = equations.backpropagate(case.parameters, unrolled, case.d_outputs, case.d_final, case.lengths)
    by_name = {"x": gradients.x} | gradients.weights
    by_name |= {f"{s}_0": d for s, d in zip(case.parameters.cell.states, gradients.state, strict=True)}
    return OracleRun(Result(unrolled.outputs, unrolled.final, by_name), unrolled.largest_pre_activation)
