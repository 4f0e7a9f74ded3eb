"""Where two sides first differ: layer, direction, step and gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnn_common.doctor.calls import Call, Seen, apart
from rnn_common.doctor.report import First
from rnn_common.doctor.sides import Side
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Layer, Recurrent
from rnn_common.exchange.forward import run_chain, unroll_direction

# The symbols of the equations, by the names of what a step leaves.
SYMBOLS = {
    "LSTM": {"i_t": "i", "f_t": "f", "c_tilde": "c̃", "o_t": "o"},
    "GRU": {"r_t": "r", "z_t": "z", "n_tilde": "ñ"},
    "GRU v3": {"r_t": "r", "z_t": "z", "n_tilde": "ñ"},
}


def first_difference(
    a: Side, b: Side, calls: Sequence[Call], seen_by: Sequence[tuple[Seen, Seen]], bound: float
) -> First | None:
    """Where the two first differ; of what they are declared to be where both do that, else of what they gave."""
    call, pair = next(
        ((call, pair) for call, pair in zip(calls, seen_by, strict=True) if not apart(*pair, call.lengths) <= bound),
        (calls[0], seen_by[0]),
    )
    if found := _by_layers(a.layers, b.layers, call, bound):
        return found
    return _by_outputs(a, call, pair, bound)


def _by_layers(a: Sequence[Layer], b: Sequence[Layer], call: Call, bound: float) -> First | None:
    """The first recurrent layer of which the equations give something else, its gates step by step."""
    if [type(each) for each in a] != [type(each) for each in b]:
        return None
    for place, (one, other) in enumerate(zip(a, b, strict=True)):
        if not isinstance(one, Recurrent) or not isinstance(other, Recurrent):
            continue
        if one.input_size != other.input_size or one.hidden_size != other.hidden_size:
            return None
        x = run_chain(a[:place], call.x, call.lengths) if place else call.x.astype(np.float64)
        state = call.state if len(a) == 1 else None
        for n, direction in enumerate(_directions(one)[: len(other.directions)]):
            initial = None if state is None else state[n]
            runs = [unroll_direction(each, n, x, initial, call.lengths)[0] for each in (one, other)]
            step = _first_step(runs[0].outputs, runs[1].outputs, bound)
            if step is not None:
                gates = _gates(one, other, runs[0].traces[step], runs[1].traces[step])
                return First(one.name if len(a) > 1 else "", direction, step, gates)
    return None


def _directions(layer: Recurrent) -> list[str]:
    if len(layer.directions) == 2:
        return ["forward", "backward"]
    return ["backward"] if layer.backwards else [""]


def _gates(one: Recurrent, other: Recurrent, first: object, second: object) -> dict[str, float]:
    symbols = SYMBOLS.get(one.cell.name, {}) if one.cell.gates == other.cell.gates else {}
    return {
        symbol: float(np.abs(getattr(first, name) - getattr(second, name)).max()) for name, symbol in symbols.items()
    }


def _by_outputs(a: Side, call: Call, pair: tuple[Seen, Seen], bound: float) -> First | None:
    """The first step of the outputs; of two directions that run apart the halves by themselves."""
    first, second = (each.arrays(call.lengths)["outputs"] for each in pair)
    if first.shape != second.shape:
        return None
    if first.ndim == 2:
        return First("", "", None, {})
    last = a.layers[-1] if a.layers else None
    if isinstance(last, Recurrent) and len(last.directions) == 2 and last.merge == "concat":
        for n, (one, other) in enumerate(zip(np.split(first, 2, -1), np.split(second, 2, -1), strict=True)):
            turn = slice(None, None, -1) if n else slice(None)
            step = _first_step(one[:, turn], other[:, turn], bound)
            if step is not None:
                return First("", ("forward", "backward")[n], step, {})
        return None
    step = _first_step(first, second, bound)
    return None if step is None else First("", "", step, {})


def _first_step(a: Array, b: Array, bound: float) -> int | None:
    scale = float(np.abs(b).max()) or 1.0
    steps = np.abs(a - b).max((0, 2)) / scale > bound
    return int(np.argmax(steps)) if steps.any() else None
