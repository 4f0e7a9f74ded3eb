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
    """The oracle's result, and the largest |pre-activation| on the way to it.

    Attributes:
        result: its gradients are those along `directions`, where there are any.
        largest_pre_activation: of the case; 1 of a cell of the user's own, which does not tell.
        directions: None where the oracle has a derivative. Else directions in the space of all inputs and weights, each an
            array by the name of what it is a direction of.
    """

    result: Result
    largest_pre_activation: float
    directions: list[dict[str, Array]] | None = None

    def comparable(self, gradients: dict[str, Array]) -> dict[str, Array]:
        """Another's gradients in the form that the oracle has them in."""
        if self.directions is None:
            return gradients
        along = [sum(np.vdot(v, gradients[name]) for name, v in each.items()) for each in self.directions]
        return {ALONG: np.array(along)}


ALONG = "along random directions"
DIRECTIONS = 8
STEP = 1e-200  # so small that its square vanishes: the derivative has no truncation error and no cancellation


def run_oracle(case: Case, *, weights_alone: bool = False) -> OracleRun:
    """The case by the document's equations in float64, whatever its dtype.

    Args:
        case: what is run.
        weights_alone: whether no other gradients than the weights' are to be compared. Default False.

    The gradients of a cell without a derivative of its own are taken by complex steps: Im L(θ + i·step·v) / step is ∂L/∂θ · v,
    to rounding (Squire & Trapp 1998).
    """
    unrolled = equations.unroll(case.parameters, case.x, case.state, case.lengths)
    if equations.page(case.parameters.cell).step_backward is None:
        directions = _directions(case, weights_alone)
        along = np.array([_derivative(case, v) for v in directions])
        result = Result(unrolled.outputs, unrolled.final, {ALONG: along})
        return OracleRun(result, unrolled.largest_pre_activation, directions)
    gradients = equations.backpropagate(case.parameters, unrolled, case.d_outputs, case.d_final, case.lengths)
    by_name = {"x": gradients.x} | gradients.weights
    by_name |= {f"{s}_0": d for s, d in zip(case.parameters.cell.states, gradients.state, strict=True)}
    return OracleRun(Result(unrolled.outputs, unrolled.final, by_name), unrolled.largest_pre_activation)


def _directions(case: Case, weights_alone: bool) -> list[dict[str, Array]]:
    """Random directions in the space of all weights and, unless these are looked at alone, the input and the initial state."""
    random = np.random.default_rng(0)
    shapes = {name: array.shape for name, array in case.parameters.items()}
    if not weights_alone:
        shapes |= {"x": case.x.shape}
        shapes |= {f"{s}_0": h.shape for s, h in zip(case.parameters.cell.states, case.state, strict=True)}
    return [{name: random.standard_normal(shape) for name, shape in shapes.items()} for _ in range(DIRECTIONS)]


def _derivative(case: Case, v: dict[str, Array]) -> float:
    """∂L/∂ everything, along a direction."""
    cell = case.parameters.cell

    def moved(name: str, array: Array) -> Array:
        return array.astype(np.float64) + 1j * STEP * v.get(name, 0.0)

    w = cell.weights(**{name: moved(name, array) for name, array in case.parameters.items()})
    state = tuple(moved(f"{s}_0", h) for s, h in zip(cell.states, case.state, strict=True))
    unrolled = equations.unroll_weights(cell, w, moved("x", case.x), state, case.lengths)
    loss = np.sum(unrolled.outputs * case.d_outputs)
    loss += sum(np.sum(h * d) for h, d in zip(unrolled.final, case.d_final, strict=True))
    return float(loss.imag / STEP)
