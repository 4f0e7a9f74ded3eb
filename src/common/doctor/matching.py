"""How one layer's description becomes another's: weights matched by content, configuration compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rnn_common.doctor import in_precision
from rnn_common.doctor.calls import UNITS, Call
from rnn_common.doctor.catalogue import catalogue
from rnn_common.doctor.faults import Fault
from rnn_common.doctor.in_configuration import (
    activation_fault,
    dense_activation_fault,
    merge_fault,
    sequences_fault,
    with_activation,
)
from rnn_common.doctor.in_weights import of_directions, of_weights
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Embedding, Layer, Recurrent
from rnn_common.packings import merged

NO_CALL = Call(np.zeros((1, 1, 1)))
DEPTH, BEAM = 4, 8  # as many faults of weights at once, as many ways to go on from


@dataclass(frozen=True)
class Differences:
    """What makes one layer of another.

    Attributes:
        faults: in the order in which they are made.
        instead: other faults of weights, as few, that make the same of these weights.
        strange: the names of weights that no fault makes; with these the layers have different weights.
        related: for each of them the weight of the other layer that correlates most, and how much.
        equal: how many of all weights are explained.
        of: how many there are.
    """

    faults: tuple[Fault, ...] = ()
    instead: tuple[tuple[Fault, ...], ...] = ()
    strange: tuple[str, ...] = ()
    related: dict[str, tuple[str, float]] | None = None
    equal: int = 0
    of: int = 0


def differences(a: Layer, b: Layer, dtype: str = "float32") -> Differences:
    """By which faults `b` differs from `a`.

    Args:
        a, b: two layers of one kind and, of the input and of the state, one size.
        dtype: the coarser of theirs, to whose rounding weights are equal.

    Raises:
        ValueError: they are not.
    """
    if isinstance(a, Recurrent) and isinstance(b, Recurrent):
        return _of_recurrent(a, b, dtype)
    if isinstance(a, Dense) and isinstance(b, Dense):
        return _of_dense(a, b, dtype)
    if isinstance(a, Embedding) and isinstance(b, Embedding):
        return _of_embedding(a, b, dtype)
    raise ValueError(f"b should be a layer as {a.name} is, got {b.name}")


def but_for_rounding(a: Layer, b: Layer, dtype: str) -> Differences | None:
    """By which faults `b` differs from `a` if its weights are those of `a`, rounded; None if they are not."""
    for fault in in_precision.faults():
        rounded = fault.layer(a)
        if isinstance(rounded, Recurrent) and isinstance(b, Recurrent) and not _each_is_there(rounded, b, dtype):
            continue
        found = differences(rounded, b, dtype)
        if not found.strange:
            return replace(found, faults=(fault, *found.faults))
    return None


def _each_is_there(a: Recurrent, b: Recurrent, dtype: str) -> bool:
    """Whether each matrix of `b` is one of `a`, as it is or transposed: so much can be told at once."""
    mine = [each for W in _blocks(a).values() if W.ndim == 2 for each in (W, W.T)]
    theirs = [W for W in _blocks(b).values() if W.ndim == 2]
    return all(any(_same(each, W, dtype) for each in mine) for W in theirs)


def _of_recurrent(a: Recurrent, b: Recurrent, dtype: str) -> Differences:
    if len(a.directions) != len(b.directions):
        raise ValueError(f"b should have {len(a.directions)} directions, got {len(b.directions)}")
    if a.cell is not b.cell and {a.cell.name, b.cell.name} != {"GRU", "GRU v3"}:
        raise ValueError(f"b should be of {a.cell.name} as a is, got {b.cell.name}")
    if (a.input_size, a.hidden_size) != (b.input_size, b.hidden_size):
        raise ValueError(f"b should be of {_sizes(a)} as a is, got {_sizes(b)}")
    ways, best = _ways(a, b, dtype)
    configured = tuple(_configuration(best, b))
    total = len(_blocks(b))
    if ways:
        first, *instead = ways
        return Differences((*first, *configured), tuple(map(tuple, instead)), equal=total, of=total)
    mine, theirs = _blocks(best), _blocks(b)
    strange = [name for name in theirs if name not in mine or not _same(mine[name], theirs[name], dtype)]
    related = {name: _most_related(theirs[name], _blocks(a)) for name in strange if theirs[name].ndim == 2}
    return Differences(configured, (), tuple(strange), related, total - len(strange), total)


def _sizes(layer: Recurrent) -> str:
    return f"{layer.input_size} → {layer.hidden_size}"


# Weights


def _blocks(layer: Recurrent) -> dict[str, Array]:
    """The weights of each direction as the equations have them, by name."""
    tails = ("", "") if len(layer.directions) == 1 else (", forward", ", backward")
    return {
        name + tail: array
        for each, tail in zip(layer.directions, tails, strict=False)
        for name, array in _with_biases(layer, merged(layer.cell, each.weights)).items()
    }


def _with_biases(layer: Recurrent, weights: dict[str, Array]) -> dict[str, Array]:
    """A bias that is not there is 0."""
    hidden = np.zeros(layer.hidden_size)
    return {name: weights.get(name, hidden) for name in layer.cell.roles}


def _same(a: Array, b: Array, dtype: str) -> bool:
    """Equal to the dtype's rounding of their largest, and of what they are sums of."""
    scale = max(float(np.abs(a).max(initial=0)), float(np.abs(b).max(initial=0)), 1e-30)
    return a.shape == b.shape and float(np.abs(a - b).max(initial=0)) <= 4 * UNITS[dtype] * scale


def _ways(a: Recurrent, b: Recurrent, dtype: str) -> tuple[list[tuple[Fault, ...]], Recurrent]:
    """The shortest ways from one's weights to the other's, and the layer at the end of the first, or of the nearest.

    Faults that bring more of the weights into place are gone on from, best first.
    """
    theirs = _blocks(b)
    start: tuple[tuple[Fault, ...], Recurrent] = ((), a)
    frontier, nearest = [start], a
    most = _in_place(a, theirs, dtype)
    if a.cell is b.cell and most == len(theirs):
        return [()], a
    for _ in range(DEPTH):
        reached: list[tuple[int, tuple[Fault, ...], Recurrent]] = []
        for faults, layer in frontier:
            before = _in_place(layer, theirs, dtype)
            for fault in _steps(layer, a, {each.group for each in faults}):
                changed = fault.layer(layer)
                count = _in_place(changed, theirs, dtype)
                if count > before or (count == before and changed.cell is b.cell is not layer.cell):
                    reached.append((count, (*faults, fault), changed))
        reached.sort(key=lambda each: -each[0])
        arrived = [each for each in reached if each[0] == len(theirs) and each[2].cell is b.cell]
        if arrived:
            return [faults for _, faults, _ in arrived], arrived[0][2]
        if reached and reached[0][0] > most:
            most, nearest = reached[0][0], reached[0][2]
        frontier = [(faults, layer) for _, faults, layer in reached[:BEAM]]
    return _pairs(a, b, dtype), nearest


def _pairs(a: Recurrent, b: Recurrent, dtype: str) -> list[tuple[Fault, ...]]:
    """Two faults in any order of which the second brings nothing into place without the first, nor the first by itself."""
    theirs = _blocks(b)
    found: list[tuple[Fault, ...]] = []
    for first in of_weights(a):
        changed = first.layer(a)
        for second in of_weights(changed):
            if second.group == first.group:
                continue
            layer = second.layer(changed)
            mine = _blocks(layer)
            if layer.cell is b.cell and all(_same(mine[name], block, dtype) for name, block in theirs.items()):
                found.append((first, second))
    return found


def _in_place(layer: Recurrent, theirs: dict[str, Array], dtype: str) -> int:
    mine = _blocks(layer)
    return sum(name in mine and _same(mine[name], block, dtype) for name, block in theirs.items())


def _steps(layer: Recurrent, a: Recurrent, groups: set[str]) -> Iterator[Fault]:
    """Faults of weights that are not about what others are already; of two directions, of both and of each alone."""
    for fault in (*of_weights(layer), *of_directions(layer)):
        if fault.group in groups:
            continue
        yield fault
        if len(layer.directions) == 2 and fault.group != "directions' weights" and fault.row != "gru form":
            yield from (_in_one(fault, n) for n in range(2))


def _in_one(fault: Fault, direction: int) -> Fault:
    """A fault of one direction alone."""
    name = ("forward", "backward")[direction]

    def changed(layer: Recurrent) -> Recurrent:
        directions = list(layer.directions)
        directions[direction] = fault.layer(layer).directions[direction]
        return replace(layer, directions=tuple(directions))

    return replace(fault, name=f"{fault.name}, in the {name} direction alone", layer=changed)


def _most_related(block: Array, blocks: dict[str, Array]) -> tuple[str, float]:
    """The block that correlates most with another, and its correlation."""
    found = {name: _correlation(block, each) for name, each in blocks.items() if each.shape == block.shape}
    name = max(found, key=lambda each: abs(found[each]))
    return name, found[name]


def _correlation(a: Array, b: Array) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


# Configuration


def _configuration(a: Recurrent, b: Recurrent) -> Iterator[Fault]:
    for place in range(max(len(a.activations), len(b.activations))):
        yield from _of_activation(a, b, place)
    if a.backwards != b.backwards or a.flipped != b.flipped:
        words = [
            "forwards" if not each.backwards else "backwards, outputs in running order" if each.flipped else "backwards"
            for each in (b, a)
        ]
        yield Fault(
            f"{words[0]}, not {words[1]}",
            "direction",
            "backward outputs",
            f"go_backwards={a.backwards} in Keras; in PyTorch flip x, and outputs[:, ::-1]",
            lambda layer: replace(layer, backwards=b.backwards, flipped=b.flipped),
        )
    if a.merge != b.merge and len(a.directions) == 2:
        yield merge_fault(a, b.merge)
    if None not in (a.returns_sequences, b.returns_sequences) and a.returns_sequences != b.returns_sequences:
        yield sequences_fault(bool(b.returns_sequences))


def _of_activation(a: Recurrent, b: Recurrent, place: int) -> Iterator[Fault]:
    pairs = [
        (_activation(first.activations, place), _activation(second.activations, place))
        for first, second in zip(a.directions, b.directions, strict=True)
    ]
    if all(first == second for first, second in pairs):
        return
    n = next(n for n, (first, second) in enumerate(pairs) if first != second)
    whose = replace(a, directions=(a.directions[n],))
    fault = activation_fault(whose, place, pairs[n][1])
    if len({second for _, second in pairs}) == 1 == len({first for first, _ in pairs}):
        yield fault
        return
    found = [second for _, second in pairs]
    yield replace(
        fault,
        name=f"{fault.name}, in the {('forward', 'backward')[n]} direction",
        layer=lambda layer: replace(
            layer,
            directions=tuple(
                with_activation(place, each)(replace(layer, directions=(direction,))).directions[0]
                for each, direction in zip(found, layer.directions, strict=True)
            ),
        ),
    )


def _activation(activations: Sequence[Any], place: int) -> Any:
    """That at a place; an LSTM's of c_t is its first where no other is named."""
    return activations[place] if place < len(activations) else activations[0]


# Other layers


def _of_arrays(pairs: Sequence[tuple[str, Array, Array]], faults: Sequence[Fault], dtype: str) -> Differences:
    strange = tuple(name for name, a, b in pairs if not _same(a, b, dtype))
    related = {name: (name, _correlation(a, b)) for name, a, b in pairs if name in strange and a.shape == b.shape}
    return Differences(tuple(faults), (), strange, related, len(pairs) - len(strange), len(pairs))


def _explained(a: Any, b: Any, faults: Sequence[Fault], same: Callable[[Any, Any], bool]) -> tuple[Any, list[Fault]]:
    """The layer with the first fault, or none, that makes `a` the same as `b`."""
    if same(a, b):
        return a, []
    for fault in faults:
        if same(changed := fault.layer(a), b):
            return changed, [fault]
    return a, []


def _of_dense(a: Dense, b: Dense, dtype: str) -> Differences:
    def arrays(layer: Dense) -> tuple[Array, Array]:
        return layer.W, np.zeros(len(layer.W)) if layer.b is None else layer.b

    def same(a: Dense, b: Dense) -> bool:
        return all(_same(first, second, dtype) for first, second in zip(arrays(a), arrays(b), strict=True))

    changed, faults = _explained(
        a, b, [each for each in catalogue(a, NO_CALL) if each.group != "dense activation"], same
    )
    if a.activation != b.activation:
        faults.append(dense_activation_fault(a, b.activation))
    pairs = [(name, mine, theirs) for name, mine, theirs in zip(("W", "b"), arrays(changed), arrays(b), strict=True)]
    return _of_arrays(pairs, faults, dtype)


def _of_embedding(a: Embedding, b: Embedding, dtype: str) -> Differences:
    def same(a: Embedding, b: Embedding) -> bool:
        return _same(a.E, b.E, dtype)

    faults_of = catalogue(a, NO_CALL)
    changed, faults = _explained(a, b, [each for each in faults_of if each.group != "mask"], same)
    faults += [each for each in faults_of if each.group == "mask" and _unlike(a.masks, b.masks)]
    return _of_arrays([("E", changed.E, b.E)], faults, dtype)


def _unlike(a: bool | None, b: bool | None) -> bool:
    """Whether the two say different things; what weights alone do not say is not another."""
    return None not in (a, b) and a != b
