"""Layers of cells of the user's own, by the names that the cell gives its weights: `lstm.W_ii_l0`, `lstm.p_i_l1_reverse`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from rnn_common.cells import Cell, cell_of
from rnn_common.exchange.contents import Array, NotUnderstood
from rnn_common.exchange.description import Direction, Recurrent, default_activations
from rnn_common.reader import shown

BY_NAME = "by name"  # the packing

Names = Mapping[str, str]  # of a direction's arrays in the file, by the cell's names of them


def own(cells: Sequence[Cell | str]) -> tuple[Cell, ...]:
    """Cells of the user's own.

    Raises:
        ValueError: one is none, or is of the table, which files are searched for in any case.
    """
    found = tuple(map(cell_of, cells))
    if others := [cell.name for cell in found if cell.in_table or cell.gates]:
        raise ValueError(f"cells should be of your own, path/to/file.py:NAME, got {others[0]}")
    return found


def layers(arrays: Mapping[str, Array], cells: Sequence[Cell]) -> Iterator[Recurrent]:
    """The layers among arrays that are of one of the cells; an array is of that which has the most weights.

    Raises:
        NotUnderstood: the arrays of a layer do not fit one another; names the one that does not.
    """
    rest = dict(arrays)
    for cell in sorted(cells, key=lambda cell: len(cell.roles), reverse=True):
        for prefix, numbered in _stacks(rest, cell).items():
            for number, directions in numbered.items():
                name = prefix.rstrip("._/-: ") or cell.name
                name += f", layer {number + 1}" if len(numbered) > 1 else ""
                yield _layer(name, cell, directions, rest)
                for names in directions:
                    for each in names.values():
                        del rest[each]


def _stacks(arrays: Mapping[str, Array], cell: Cell) -> dict[str, dict[int, list[Names]]]:
    """The arrays of a cell's layers, by what stands before their names and by number: forward and, if there, backward ones."""
    weights = "|".join(map(re.escape, cell.roles))
    pattern = re.compile(rf"(?P<prefix>(?:.*[./])?)(?P<what>{weights})_l(?P<number>\d{{1,4}})(?P<reverse>_reverse)?")
    groups: dict[str, dict[tuple[int, bool], dict[str, str]]] = {}
    for name in arrays:
        if match := pattern.fullmatch(name):
            place = int(match["number"]), match["reverse"] is not None
            groups.setdefault(match["prefix"], {}).setdefault(place, {})[match["what"]] = name
    needed = set(cell.roles) - set(cell.biases)
    found: dict[str, dict[int, list[Names]]] = {}
    for prefix, group in groups.items():
        whole = {place: names for place, names in group.items() if needed <= set(names)}
        for number in sorted(number for number, reverse in whole if not reverse):
            both = [whole[number, reverse] for reverse in (False, True) if (number, reverse) in whole]
            found.setdefault(prefix, {})[number] = [
                {what: names[what] for what in cell.roles if what in names} for names in both
            ]
    return found


def _layer(name: str, cell: Cell, directions: Sequence[Names], arrays: Mapping[str, Array]) -> Recurrent:
    first = arrays[directions[0][cell.input_matrices[0]]]
    if first.ndim != 2 or not first.size:
        of_first = shown(directions[0][cell.input_matrices[0]])
        raise NotUnderstood(f"{of_first} should have shape (hidden, input), got {first.shape}")
    shapes = cell.shapes(first.shape[1], first.shape[0])
    biased = any(bias in names for names in directions for bias in cell.biases)
    for names in directions:
        if missing := [bias for bias in cell.biases if bias not in names and biased]:
            raise NotUnderstood(
                f"{shown(name)} should have all its biases in every direction or none, lacks {missing[0]}"
            )
        for what, each in names.items():
            array = arrays[each]
            if array.shape != shapes[what]:
                raise NotUnderstood(f"{shown(each)} should have shape {shapes[what]}, got {array.shape}")
            if array.dtype.kind != "f" or array.dtype != first.dtype:
                expected = first.dtype if first.dtype.kind == "f" else "floating-point numbers"
                raise NotUnderstood(f"{shown(each)} should be {expected}, got {array.dtype}")
    found = [
        Direction({what: arrays[each] for what, each in names.items()}, default_activations(cell))
        for names in directions
    ]
    read = tuple(each for names in directions for each in names.values())
    return Recurrent(name, cell, tuple(found), BY_NAME, arrays=read)
