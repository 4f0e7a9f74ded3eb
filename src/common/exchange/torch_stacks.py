"""Stacks of recurrent layers by the names that PyTorch gives their weights, whatever stands before them.

    lstm.weight_ih_l0, lstm.bias_hh_l1_reverse    layers of nn.RNN, nn.LSTM or nn.GRU
    decoder.cell.weight_ih                        a cell
    enc_w_ih, enc_b_ih                            the same in short

Which cell it is, is told from its shapes: `weight_hh` has `hidden` rows a gate, and `hidden` columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from rnn_common.cells import CELLS, Cell
from rnn_common.exchange.contents import Array, NotUnderstood
from rnn_common.exchange.description import Activation, Direction, Foreign, Recurrent, default_activations
from rnn_common.packings import unpack_torch
from rnn_common.reader import shown

CELL_OF = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}  # by the number of gates
ASSUMED = "tanh is assumed: relu cannot be told from the weights"

_NAME = re.compile(
    r"(?P<prefix>(?:.*[^a-z0-9])?)(?P<what>weight|w|bias|b)[._]?(?P<of>ih|hh|hr)(?:[._]?l(?P<number>\d{1,4}))?"
    r"(?P<reverse>[._]reverse)?",
    re.IGNORECASE,
)


@dataclass
class Group:
    """One direction of a layer, as the file has it.

    Attributes:
        arrays: by what they are: `"weight_ih"`, `"weight_hh"`, `"bias_ih"`, `"bias_hh"`, `"weight_hr"`.
        names: in the file, likewise.
    """

    arrays: dict[str, Array] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def check(self, what: str, expected: tuple[int | None, ...], why: str) -> None:
        """Refuse an array of another shape; None is any size."""
        shape = self.arrays[what].shape
        if len(shape) != len(expected) or any(
            size not in (None, got) for size, got in zip(expected, shape, strict=True)
        ):
            wanted = str(expected).replace("None", "…")
            raise NotUnderstood(f"{shown(self.names[what])} should have shape {wanted}, {why}, got {shape}")

    @property
    def output(self) -> int:
        """The width of what it gives."""
        return int(self.arrays["weight_hh"].shape[1])


@dataclass(frozen=True)
class Stack:
    """The layers that one prefix has: of each number the forward group and, where there is one, the backward group."""

    prefix: str
    layers: Mapping[int, tuple[Group, ...]]

    @property
    def arrays(self) -> tuple[str, ...]:
        return tuple(name for groups in self.layers.values() for group in groups for name in group.names.values())

    def described(self, config: Mapping[str, Any]) -> list[Recurrent | Foreign]:
        """The layers in order.

        Args:
            config: what the file says besides, where a whole model says which activation an nn.RNN has.

        Raises:
            NotUnderstood: arrays do not fit one another.
        """
        found = [self._layer(number, groups, config) for number, groups in self.layers.items()]
        for before, number in pairwise(self.layers):
            if number == before + 1:
                width = sum(group.output for group in self.layers[before])
                for group in self.layers[number]:
                    group.check("weight_ih", (None, width), "as wide as what the layer before it gives")
        return found

    def _layer(self, number: int, groups: tuple[Group, ...], config: Mapping[str, Any]) -> Recurrent | Foreign:
        count, *_ = [_gates(group) for group in groups]
        _check_alike(groups)
        cell = CELLS.get(CELL_OF.get(count, ""))
        name = self.prefix.rstrip("._/-: ") or (cell.name if cell else "recurrent")
        name += f", layer {number + 1}" if len(self.layers) > 1 else ""
        names = tuple(each for group in groups for each in group.names.values())
        if "weight_hr" in groups[0].arrays:
            return Foreign(name, f"LSTM with a projection, proj_size {groups[0].output}", arrays=names)
        if cell is None:
            return Foreign(name, f"recurrent layer of {count} gates", arrays=names)
        activations, notes = _activations(cell, self.prefix, config)
        directions = tuple(Direction(unpack_torch(cell, group.arrays, suffix=""), activations) for group in groups)
        return Recurrent(name, cell, directions, "torch", arrays=names, notes=notes)


def stacks(arrays: Mapping[str, Array]) -> Iterator[Stack]:
    """The stacks among arrays. A layer of which `weight_ih` or `weight_hh` is missing is none, or goes by other names.

    Raises:
        NotUnderstood: two arrays are the same of the same layer.
    """
    found: dict[str, dict[tuple[int, bool], Group]] = {}
    for name, array in arrays.items():
        if (match := _NAME.fullmatch(name)) is None:
            continue
        what = f"{'weight' if match['what'][0] in 'wW' else 'bias'}_{match['of'].lower()}"
        place = int(match["number"] or 0), match["reverse"] is not None
        group = found.setdefault(match["prefix"], {}).setdefault(place, Group())
        if what in group.arrays:
            raise NotUnderstood(
                f"{shown(name)} should be the one {what} of its layer, but {shown(group.names[what])} is too"
            )
        group.arrays[what], group.names[what] = array, name
    for prefix, groups in found.items():
        whole = {place: group for place, group in groups.items() if {"weight_ih", "weight_hh"} <= group.arrays.keys()}
        numbers = sorted(number for number, reverse in whole if not reverse)
        if numbers:
            yield Stack(
                prefix,
                {
                    number: tuple(whole[number, reverse] for reverse in (False, True) if (number, reverse) in whole)
                    for number in numbers
                },
            )


def _gates(group: Group) -> int:
    """The number of gates of a layer whose arrays fit one another."""
    group.check("weight_hh", (None, None), "rows of each gate, and columns")
    rows, columns = group.arrays["weight_hh"].shape
    if "weight_hr" in group.arrays:
        group.check("weight_hr", (columns, rows // 4), "as weight_hh says")
    elif not columns or rows % columns or not rows:
        raise NotUnderstood(
            f"{shown(group.names['weight_hh'])} should have 1, 3 or 4 times as many rows as columns, got ({rows}, {columns})"
        )
    group.check("weight_ih", (rows, None), "with the rows of weight_hh")
    for what, other in (("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")):
        if what in group.arrays:
            group.check(what, (rows,), "the rows of weight_hh")
            if other not in group.arrays:
                raise NotUnderstood(f"{other} should be there, as {shown(group.names[what])} is, but it is not")
    dtype = group.arrays["weight_hh"].dtype
    for what, array in group.arrays.items():
        if array.dtype.kind != "f" or array.dtype != dtype:
            expected = dtype if dtype.kind == "f" else "floating-point numbers"
            raise NotUnderstood(f"{shown(group.names[what])} should be {expected}, got {array.dtype}")
    return 4 if "weight_hr" in group.arrays else rows // columns


def _check_alike(groups: tuple[Group, ...]) -> None:
    """Refuse two directions of different shapes."""
    forward = groups[0]
    for group in groups[1:]:
        if group.arrays.keys() != forward.arrays.keys():
            (what, *_) = sorted(group.arrays.keys() ^ forward.arrays.keys())
            name = (group.names | forward.names)[what]
            raise NotUnderstood(f"{shown(name)} should be there of both directions or of neither")
        for what, array in forward.arrays.items():
            group.check(what, array.shape, f"as {shown(forward.names[what])} has")
            if group.arrays[what].dtype != array.dtype:
                raise NotUnderstood(
                    f"{shown(group.names[what])} should be {array.dtype}, got {group.arrays[what].dtype}"
                )


def _activations(cell: Cell, prefix: str, config: Mapping[str, Any]) -> tuple[tuple[Activation, ...], tuple[str, ...]]:
    """Those of a cell, and what is to be said of them: of a whole model it is in the file, of weights alone it is not."""
    if cell.name != "SimpleRNN":
        return default_activations(cell), ()
    says = {config.get(f"{prefix}mode"), config.get(f"{prefix}nonlinearity")}
    if says & {"RNN_RELU", "relu"}:
        return (Activation("relu"),), ()
    return default_activations(cell), () if says & {"RNN_TANH", "tanh"} else (ASSUMED,)
