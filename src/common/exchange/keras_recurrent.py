"""A recurrent layer of Keras's from its options and its arrays: which cell, which packing, which activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnn_common.cells import CELLS, Cell
from rnn_common.exchange.contents import Array, Contents, NotUnderstood
from rnn_common.exchange.description import SIGMOID, TANH, Activation, Direction
from rnn_common.exchange.keras_ages import Age, named
from rnn_common.old_packings import KERAS_1, unpack_cudnn, unpack_keras_1
from rnn_common.packings import unpack_keras
from rnn_common.reader import checked, shown

GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}
CUDNN_LAYERS = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
LAYERS = (*GATES, *CUDNN_LAYERS)
CELL_LAYERS = {"SimpleRNNCell": "SimpleRNN", "LSTMCell": "LSTM", "GRUCell": "GRU"}


def direction(
    kind: str, options: Mapping[str, Any], names: Sequence[str], contents: Contents, age: Age
) -> tuple[Cell, Direction, str, tuple[str, ...]]:
    """The cell, its weights and activations, the packing, and what was assumed.

    Args:
        kind: among `LAYERS`.
        options: of the layer; those that are missing are the defaults of the age.
        names: of the layer's arrays, in Keras's order.
        contents: of the file.
        age: the Keras that wrote it.

    Raises:
        NotUnderstood: another number of arrays, or a misshapen one.
        UnknownActivation: an activation that is not known here.
    """
    base = CUDNN_LAYERS.get(kind, kind)
    arrays = [contents.arrays[name] for name in names]
    flag(options, "use_bias", True)  # it is what it should be, or it is refused
    expected = {2 if options.get("use_bias") is False else 3}
    if kind in GATES and options.get("use_bias") is not False:
        expected.add(3 * GATES[base])
    if len(arrays) not in expected:
        counts = " or ".join(map(str, sorted(expected)))
        raise NotUnderstood(
            f"{shown(options.get('name', kind))} should have {counts} arrays, as a {kind}, got {len(arrays)}"
        )
    for name, array in zip(names, arrays, strict=True):
        if array.dtype.kind != "f" or array.dtype != arrays[0].dtype:
            raise NotUnderstood(f"{shown(name)} should be floating-point numbers as the first, got {array.dtype}")
    cell, packing, notes = _cell(kind, base, options, names, arrays, age)
    hidden = options.get("units", options.get("output_dim"))
    width = arrays[1].shape[0]
    if hidden is not None and hidden != width:
        raise NotUnderstood(f"{shown(names[1])} should have {shown(hidden)} rows, the layer's units, got {width}")
    activations, more = _activations(kind, cell, options, age)
    unpack = {"cudnn": unpack_cudnn, "keras 1": unpack_keras_1, "keras": unpack_keras}[packing]
    try:
        return cell, Direction(unpack(cell, arrays), activations), packing, (*notes, *more)
    except ValueError as error:
        raise NotUnderstood(f"{_few(names)}: {error}") from None


class UnknownActivation(ValueError):
    """An activation that is not known here; says which."""


def flag(options: Mapping[str, Any], name: str, default: bool) -> bool:
    """A configuration's yes or no.

    Raises:
        ValueError: it is neither.
    """
    return bool(checked(name, options.get(name, default), bool))


def gates_of(arrays: Sequence[Array]) -> int:
    """How many gates a kernel and a recurrent kernel have; 0 if they are none that fit together."""
    if len(arrays) < 2 or any(array.ndim != 2 for array in arrays[:2]):
        return 0
    (_, columns), (hidden, wide) = arrays[0].shape, arrays[1].shape
    return wide // hidden if hidden and columns == wide and wide % hidden == 0 else 0


def _cell(
    kind: str, base: str, options: Mapping[str, Any], names: Sequence[str], arrays: Sequence[Array], age: Age
) -> tuple[Cell, str, tuple[str, ...]]:
    """The cell and the packing, by the arrays' shapes, and what was assumed."""
    if len(arrays) > 3:
        if any(array.ndim != 2 for array in arrays[:2]):
            raise NotUnderstood(f"{shown(names[0])} should be a matrix, got shape {arrays[0].shape}")
        return CELLS["GRU v3" if base == "GRU" else base], "keras 1", ()
    gates = gates_of(arrays)
    if gates != GATES[base]:
        raise NotUnderstood(
            f"{_few(names[:2])} should have shapes (input, {GATES[base]} · hidden) and (hidden, {GATES[base]} · hidden),"
            f" got {arrays[0].shape} and {arrays[1].shape}"
        )
    wide = arrays[1].shape[1]
    after = flag(options, "reset_after", False) if "reset_after" in options else None
    if len(arrays) == 2:
        if base != "GRU":
            return CELLS[base], "keras", ()
        notes = () if after is not None else (f"reset_after is not in the file: {age.reset_after}, as {age} has it",)
        return CELLS["GRU" if (age.reset_after if after is None else after) else "GRU v3"], "keras", notes
    bias = arrays[2].shape
    if bias == (2 * wide,) and base in CUDNN_LAYERS.values():
        return CELLS[base], "cudnn", ()
    third = base == "GRU" and bias == (wide,)
    if bias != ((2, wide) if base == "GRU" and not third else (wide,)):
        raise NotUnderstood(f"{shown(names[2])} should fit {wide} columns, got shape {bias}")
    if base == "GRU" and after is not None and after is third:
        raise NotUnderstood(f"{shown(names[2])} should be a bias with reset_after={after}, got shape {bias}")
    name = "GRU v3" if third else base
    return CELLS[name], "keras 1" if age.version < (2,) and name in KERAS_1 else "keras", ()


def _activations(
    kind: str, cell: Cell, options: Mapping[str, Any], age: Age
) -> tuple[tuple[Activation, ...], tuple[str, ...]]:
    """What stands for tanh and for σ, and what was assumed."""
    if kind in CUDNN_LAYERS:
        return (TANH, SIGMOID), ()
    found, notes = [], []
    wanted = [(("activation",), TANH), (("recurrent_activation", "inner_activation"), age.recurrent_activation)]
    for keys, default in wanted[: len(cell.activations)]:
        key = next((key for key in keys if key in options), "")
        activation = age.activation(options[key]) if key else default
        if activation is None:
            raise UnknownActivation(f"with the {key} {named(options[key])}")
        if not key:
            notes.append(f"{keys[0]} is not in the file: {activation}, the default of {age}")
            if keys[0] == "recurrent_activation" and age.doubtful:
                notes.append("TensorFlow 1.13 to 1.15 write the same version, and their default is hard_sigmoid")
        found.append(activation)
    return tuple(found), tuple(notes)


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:3])) + ("…" if len(names) > 3 else "")
