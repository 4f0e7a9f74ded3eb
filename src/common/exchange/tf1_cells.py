"""Cells of TensorFlow 1 by the names that it gives their variables.

    rnn/basic_lstm_cell/kernel, rnn/multi_rnn_cell/cell_0/lstm_cell/bias
    rnn/gru_cell/gates/kernel, rnn/gru_cell/candidate/bias
    bidirectional_rnn/fw/lstm_cell/kernel, bidirectional_rnn/bw/lstm_cell/kernel

A layer of Keras's may hold a cell of the same name: it has a `recurrent_kernel` besides, and is none of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rnn_common.cells import CELLS
from rnn_common.exchange.contents import Array, NotUnderstood
from rnn_common.exchange.description import Direction, Foreign, Recurrent, default_activations
from rnn_common.old_packings import unpack_tf1
from rnn_common.reader import shown

KINDS = {"basic_rnn_cell": "SimpleRNN", "basic_lstm_cell": "LSTM", "lstm_cell": "LSTM", "gru_cell": "GRU v3"}
PAIR = ("kernel", "bias")
ARRAYS = {
    "SimpleRNN": PAIR,
    "LSTM": PAIR,
    "GRU v3": ("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"),
}
# What an LSTM may have besides, and is then another.
OTHERS = {
    "w_i_diag": "peepholes",
    "w_f_diag": "peepholes",
    "w_o_diag": "peepholes",
    "projection/kernel": "a projection",
}
ASSUMED = "tanh is assumed: activations are not in the file"
FORGET = "forget_bias is not in the file: 1, the default, is in b_f"
BESIDE = "TensorFlow 1 gives two directions' outputs as two: one beside the other is taken"

_NAME = re.compile(rf"(?P<scope>(?:.*/)?(?P<kind>{'|'.join(KINDS)})(?:_\d{{1,4}})?)/(?P<what>[^:]+)(?::0)?")
_WAY = re.compile(r"(?<![^/])(fw|bw)/")

Groups = dict[str, dict[str, str]]


def cells(arrays: Mapping[str, Array]) -> Iterator[Recurrent | Foreign]:
    """The layers among arrays that are cells of TensorFlow 1, those of two directions as one.

    Raises:
        NotUnderstood: the arrays of a cell do not fit one another.
    """
    groups: Groups = {}
    for name in arrays:
        if match := _NAME.fullmatch(name):
            groups.setdefault(match["scope"], {})[match["what"]] = name
    whole = {scope: names for scope, names in groups.items() if set(ARRAYS[_cell(scope)]) <= set(names)}
    whole = {scope: names for scope, names in whole.items() if "recurrent_kernel" not in names}
    found = {scope: _layer(scope, names, arrays) for scope, names in whole.items()}
    for scope, layer in found.items():
        other = found.get(_other_way(scope))
        if other is None or not _alike(layer, other):
            yield layer
        elif _WAY.findall(scope)[-1] == "fw":
            yield _both(layer, other)  # type: ignore[arg-type]


def _cell(scope: str) -> str:
    match = _NAME.fullmatch(f"{scope}/kernel")
    return KINDS[match["kind"]] if match else ""


def _layer(scope: str, names: Mapping[str, str], arrays: Mapping[str, Array]) -> Recurrent | Foreign:
    cell = CELLS[_cell(scope)]
    if others := [what for what in names if what in OTHERS]:
        return Foreign(scope, f"LSTM with {OTHERS[others[0]]}", arrays=tuple(names.values()))
    read = tuple(names[what] for what in ARRAYS[cell.name])
    dtype = arrays[read[0]].dtype
    for name in read:
        if arrays[name].dtype.kind != "f" or arrays[name].dtype != dtype:
            raise NotUnderstood(f"{shown(name)} should be floating-point as its layer is, got {arrays[name].dtype}")
    try:
        weights = unpack_tf1(cell, [arrays[name] for name in read])
    except ValueError as error:
        raise NotUnderstood(f"{shown(scope)}: {error}") from None
    notes = (ASSUMED, FORGET) if cell.name == "LSTM" else (ASSUMED,)
    direction = Direction(weights, default_activations(cell))
    backwards = _WAY.findall(scope)[-1:] == ["bw"]
    return Recurrent(scope, cell, (direction,), "tf1", backwards=backwards, arrays=read, notes=notes)


def _other_way(scope: str) -> str:
    ways = list(_WAY.finditer(scope))
    if not ways:
        return ""
    at, end = ways[-1].span(1)
    return scope[:at] + {"fw": "bw", "bw": "fw"}[scope[at:end]] + scope[end:]


def _alike(layer: Recurrent | Foreign, other: Recurrent | Foreign) -> bool:
    if not (isinstance(layer, Recurrent) and isinstance(other, Recurrent)):
        return False
    sizes = [(each.cell, each.input_size, each.hidden_size) for each in (layer, other)]
    return sizes[0] == sizes[1]


def _both(forward: Recurrent, backward: Recurrent) -> Recurrent:
    at, end = list(_WAY.finditer(forward.name))[-1].span()
    name = forward.name[:at] + forward.name[end:]
    directions = (*forward.directions, *backward.directions)
    arrays = (*forward.arrays, *backward.arrays)
    return Recurrent(name, forward.cell, directions, "tf1", arrays=arrays, notes=(*forward.notes, BESIDE))
