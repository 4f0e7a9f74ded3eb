"""What a recurrent layer is given and what it gives, and how far two of these may be apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.equations.arithmetic import State
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Embedding, Layer, Recurrent
from rnn_common.exchange.forward import Ran, run_chain, run_layer
from rnn_common.exchange.proof import FACTOR
from rnn_common.parity.contract import FEW_UNITS, deviation


class Call(NamedTuple):
    """What a layer is given.

    Attributes:
        x: `(batch, time, input)`.
        state: of each direction the initial `(h,)` or `(h, c)`, each `(batch, hidden)`; None is zeros.
        lengths: `(batch,)`: how many steps each sequence has, in front; None is all.
    """

    x: Array
    state: tuple[State, ...] | None = None
    lengths: Array | None = None


class Seen(NamedTuple):
    """What a layer gives.

    Attributes:
        outputs: `(batch, time, width)`, or the last `(batch, width)`.
        final: of each direction the state after all steps, or None where it is not handed on.
        others: how many outputs a network gives besides, which are not compared.
    """

    outputs: Array
    final: tuple[State, ...] | None = None
    others: int = 0

    def arrays(self, lengths: Array | None = None) -> dict[str, Array]:
        """By name, in float64; where sequences have ended outputs are 0, whatever the layer leaves there."""
        outputs = self.outputs.astype(np.float64)
        if lengths is not None and outputs.ndim == 3:
            outputs = np.where((np.arange(outputs.shape[1]) < lengths[:, None])[..., None], outputs, 0)
        arrays = {"outputs": outputs}
        for direction, state in zip(("forward", "backward"), self.final or (), strict=False):
            arrays |= {f"final {name}, {direction}": h.astype(np.float64) for name, h in zip("hc", state, strict=False)}
        return arrays


# A run of a layer by the equations: in the arithmetic of a dtype.
Run = Callable[[Recurrent, Call, DTypeLike], Ran]


def by_equations(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
    """What the layer's own weights and configuration say."""
    return run_layer(layer, call.x, call.state, call.lengths, dtype)


def seen(
    layers: Sequence[Layer], call: Call, dtype: DTypeLike = np.float64, runs: Mapping[int, Run] | None = None
) -> Seen:
    """What comes of layers one after the other by the equations, as the last of them hands it on.

    Args:
        layers: see `run_chain`. A single recurrent one takes an initial state and gives a final one.
        call: what the first is given.
        dtype: in which it is computed. Default float64.
        runs: of layers, by their places, the run that stands for that by the equations. Default none.
    """
    runs = runs or {}
    with np.errstate(all="ignore"):  # a fault may overflow
        if len(layers) == 1 and isinstance(layers[0], Recurrent):
            ran = runs.get(0, by_equations)(layers[0], call, dtype)
            return Seen(ran.last if layers[0].returns_sequences is False else ran.outputs, ran.final)

        def run(layer: Recurrent, x: Array, lengths: Array | None, dtype: DTypeLike) -> Ran:
            place = next(place for place, each in enumerate(layers) if each is layer)
            return runs.get(place, by_equations)(layer, Call(x, None, lengths), dtype)

        return Seen(run_chain(layers, call.x, call.lengths, dtype, run))


def apart(a: Seen, b: Seen, lengths: Array | None = None) -> float:
    """The largest max|a − b| / max|b| of what both hand on; infinite where shapes differ."""
    first, second = a.arrays(lengths), b.arrays(lengths)
    names = [name for name in second if name in first]
    if any(first[name].shape != second[name].shape for name in names):
        return float("inf")
    return max(deviation(first[name], second[name]) for name in names)


# How many bits the significand of a number has, and so the distance from 1 to the next number.
BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
UNITS = {dtype: 2.0 ** (1 - bits) for dtype, bits in BITS.items()}


def held_in(given: Seen) -> str:
    """The dtype below float32 whose numbers all outputs are, whatever they came in; empty where there is none."""
    outputs = np.ascontiguousarray(given.outputs, np.float32)
    if not np.any(outputs.view(np.uint32) & 0xFFFF):
        return "bfloat16"
    with np.errstate(over="ignore"):
        return "float16" if np.array_equal(outputs.astype(np.float16), outputs) else ""


def coarser(*dtypes: str) -> str:
    return max(dtypes, key=lambda each: UNITS[each])


def rounded(array: Array, dtype: str) -> Array:
    """To the nearest number of as many bits as that dtype's; integers as they are."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    significand, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(significand, BITS[dtype])), exponent - BITS[dtype])


def layer_in(layer: Layer, dtype: str) -> Layer:
    """A layer whose weights were rounded."""
    if isinstance(layer, Recurrent):
        directions = (
            replace(each, weights={name: rounded(array, dtype) for name, array in each.weights.items()})
            for each in layer.directions
        )
        return replace(layer, directions=tuple(directions))
    if isinstance(layer, Embedding):
        return replace(layer, E=rounded(layer.E, dtype))
    if isinstance(layer, Dense):
        return replace(layer, W=rounded(layer.W, dtype), b=None if layer.b is None else rounded(layer.b, dtype))
    return layer


def _call_in(call: Call, dtype: str) -> Call:
    """A call whose numbers were rounded."""
    state = call.state and tuple(tuple(rounded(h, dtype) for h in each) for each in call.state)
    return call._replace(x=rounded(call.x, dtype), state=state)


def rounding(
    layers: Sequence[Layer], call: Call, dtype: str = "float32", runs: Mapping[int, Run] | None = None
) -> float:
    """How far a right run in that dtype may be from one in float64, measured on these very layers.

    That is as far as they are with weights, input and state rounded to the dtype, and then `FACTOR` times as far as the equations
    in it are, and a few units; those are run in float32, in proportion to the dtype's unit, and in float16, which overflows
    early, itself. Infinite where they overflow.
    """
    exact = seen(layers, call, np.float64, runs)
    made, given = [layer_in(each, dtype) for each in layers], _call_in(call, dtype)
    arithmetic = "float16" if dtype == "float16" else "float32"
    coarse, single = (seen(made, given, each, runs) for each in ("float64", arithmetic))
    of_sums = apart(single, coarse, call.lengths) * UNITS[dtype] / UNITS[arithmetic]
    return apart(coarse, exact, call.lengths) + FACTOR * of_sums + FEW_UNITS * UNITS[dtype]
