"""Keras's files of weights alone: what the names and shapes of arrays say of the layers that they are of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rnn_common.exchange.contents import Array, Contents
from rnn_common.exchange.description import Dense, Embedding, Foreign, Layer, Recurrent
from rnn_common.exchange.keras_ages import Age
from rnn_common.exchange.keras_arrays import groups
from rnn_common.exchange.keras_recurrent import GATES, direction, gates_of

RECURRENT = re.compile(r"/recurrent_kernel(_\d+)?(:\d+)?$|_U(:\d+)?$|/cell(/cells/[^/]+)?/vars/1$")
OLD = re.compile(r"_[WUb](_[a-z])?(:\d+)?$")  # Keras 1's names
KERNEL, OLD_KERNEL = re.compile(r"/kernel(_\d+)?(:\d+)?$"), re.compile(r"_W(:\d+)?$")
TABLE = re.compile(r"/embeddings(_\d+)?(:\d+)?$")


def guessed(contents: Contents, age: Age) -> tuple[Layer, ...]:
    """The layers in the file's order, as far as arrays tell."""
    names = (contents.config or {}).get("names", {})
    return tuple(
        _layer(_called(group, names), group, arrays, contents, age) for group, arrays in groups(contents).items()
    )


def _called(group: str, names: Mapping[str, str]) -> str:
    """The layer's own name, where the file has it besides the path."""
    return str(names.get(group) or group)


def _layer(name: str, group: str, names: tuple[str, ...], contents: Contents, age: Age) -> Layer:
    arrays = [contents.arrays[each] for each in names]
    for parts in (1, 2):
        found = _recurrent(name, names, arrays, parts, contents, age)
        if found:
            return found
    kind = group.rpartition("/")[2]
    matrix = bool(arrays) and arrays[0].ndim == 2 and all(array.dtype.kind == "f" for array in arrays)
    if matrix and len(arrays) == 1 and (TABLE.search(names[0]) or kind.startswith("embedding")):
        return Embedding(name, arrays[0], masks=None, arrays=names)
    dense = (OLD_KERNEL if age.version < (2,) else KERNEL).search(names[0]) or re.match(r"dense|time_distributed", kind)
    if matrix and dense and [array.shape for array in arrays[1:]] in ([], [arrays[0].shape[1:]]):
        return Dense(name, arrays[0].T, arrays[1] if len(arrays) == 2 else None, arrays=names, said=False)
    shapes = " and ".join(str(array.shape) for array in arrays[:4]) + ("…" if len(arrays) > 4 else "")
    return Foreign(name, f"arrays of {shapes}", arrays=names)


def _recurrent(
    name: str, names: tuple[str, ...], arrays: Sequence[Array], parts: int, contents: Contents, age: Age
) -> Recurrent | None:
    """A recurrent layer of one or two directions, if that is what the arrays are."""
    each, rest = divmod(len(names), parts)
    kind = _kind(names[:each], arrays[:each])
    if rest or kind is None:
        return None
    options: dict[str, Any] = {"use_bias": each != 2}
    halves = [names[start : start + each] for start in range(0, len(names), each)]
    if any(_kind(half, [contents.arrays[one] for one in half]) != kind for half in halves):
        return None
    cudnn = {"LSTM": "CuDNNLSTM", "GRU": "CuDNNGRU"}.get(kind)
    if cudnn and each == 3 and arrays[2].shape == (2 * arrays[1].shape[1],):
        kind, notes = cudnn, ["activations are not in the file: tanh and sigmoid, the only ones that CuDNN has"]
    else:
        notes = []
    found = [direction(kind, options, half, contents, age) for half in halves]
    notes += dict.fromkeys(note for _, _, _, more in found for note in more)
    notes.append(
        "how two directions become one output is not in the file: one beside the other is taken"
        if parts == 2
        else "whether it runs backwards is not in the file: forwards is taken"
    )
    directions = tuple(each for _, each, _, _ in found)
    return Recurrent(name, found[0][0], directions, found[0][2], arrays=names, notes=tuple(notes))


def _kind(names: Sequence[str], arrays: Sequence[Array]) -> str | None:
    """Which recurrent layer has such arrays; None if none has."""
    if any(array.dtype.kind != "f" for array in arrays):
        return None
    if len(names) in (9, 12):
        inner = [array.shape for array in arrays]
        hidden = inner[1][-1:] * 2
        fits = len(hidden) == 2 and all(
            inner[at : at + 3] == [inner[0], hidden, hidden[:1]] for at in range(0, len(inner), 3)
        )
        old = all(OLD.search(name) for name in names) and inner[0][1:] == hidden[:1]
        return {9: "GRU", 12: "LSTM"}[len(names)] if fits and old else None
    if len(names) not in (2, 3) or not RECURRENT.search(names[1]):
        return None
    gates, wide = gates_of(arrays), arrays[1].shape[-1]
    biases: tuple[tuple[int, ...], ...] = ((wide,),)
    if gates in (GATES["GRU"], GATES["LSTM"]):
        biases = ((wide,), (2 * wide,), *(((2, wide),) if gates == GATES["GRU"] else ()))
    if len(names) == 3 and arrays[2].shape not in biases:
        return None
    return next((kind for kind, count in GATES.items() if count == gates), None)
