"""The catalogue, faults of weights: gates, matrices, biases, forms of a cell, directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, permutations

import numpy as np

from rnn_common.cells import CELLS, Cell
from rnn_common.doctor.faults import Fault
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Recurrent
from rnn_common.packings import merged

Weights = dict[str, Array]


def of_weights_of(layer: Recurrent, change: Callable[[Cell, Weights], Weights]) -> Recurrent:
    """A layer with the weights of each direction changed."""
    directions = (replace(each, weights=change(layer.cell, dict(each.weights))) for each in layer.directions)
    return replace(layer, directions=tuple(directions))


def _of_weights(change: Callable[[Cell, Weights], Weights]) -> Callable[[Recurrent], Recurrent]:
    """The change of a layer that changes the weights of each direction."""
    return partial(of_weights_of, change=change)


def _names(cell: Cell, gate: str, kinds: Iterable[str]) -> list[str]:
    """The names of a gate's weights: of its `matrices` and of its `biases`, both apart."""
    named = {
        "matrices": [cell.input_weight(gate), cell.recurrent_weight(gate)],
        "biases": [cell.bias(gate), f"b_h{gate}"],
    }
    return [name for kind in kinds for name in named[kind]]


def _reordered(source: Mapping[str, str], kinds: tuple[str, ...]) -> Callable[[Cell, Weights], Weights]:
    """Each gate has the weights of another: `source[gate]`."""

    def change(cell: Cell, weights: Weights) -> Weights:
        moved = dict(weights)
        for gate, other in source.items():
            for name, from_name in zip(_names(cell, gate, kinds), _names(cell, other, kinds), strict=True):
                moved.pop(name, None)
                if from_name in weights:
                    moved[name] = weights[from_name]
        return moved

    return change


SCOPES = {
    ("matrices", "biases"): "",
    ("matrices",): " in the matrices alone",
    ("biases",): " in the biases alone",
}


def _gates(layer: Recurrent) -> Iterator[Fault]:
    """The gates' blocks in another order."""
    cell = layer.cell
    order = cell.orders.get("torch", ())
    for other in permutations(order):
        if other == order:
            continue
        moved = [(gate, source) for gate, source in zip(order, other, strict=True) if gate != source]
        what = (
            f"{moved[0][0]} and {moved[1][0]} exchanged"
            if len(moved) == 2
            else f"the gates {' '.join(order)} taken as {' '.join(other)}"
        )
        places = ", ".join(str(other.index(gate)) for gate in order)
        for kinds, where in SCOPES.items():
            yield Fault(
                f"{what}{where}",
                "gates",
                "gates",
                f"put the gates' blocks in order{where}: np.concatenate([np.split(a, {len(order)}, axis)[i] for i in "
                f"({places})], axis), axis 0 of PyTorch's arrays and -1 of Keras's",
                _of_weights(_reordered(dict(zip(order, other, strict=True)), kinds)),
            )


def _each_matrix(names: str, change: Callable[[Array], Array]) -> Callable[[Cell, Weights], Weights]:
    """Every input or every recurrent matrix changed."""

    def changed(cell: Cell, weights: Weights) -> Weights:
        return weights | {name: change(weights[name]) for name in getattr(cell, names)}

    return changed


def _stacked(names: str, order: str, change: Callable[[Array], Array]) -> Callable[[Cell, Weights], Weights]:
    """All input or all recurrent matrices in one array `(gates · hidden, …)`, in the order of a packing's gates, changed."""

    def changed(cell: Cell, weights: Weights) -> Weights:
        kind = cell.input_weight if names == "input_matrices" else cell.recurrent_weight
        stacked = [kind(gate) for gate in cell.orders[order]]
        blocks = np.split(change(np.concatenate([weights[name] for name in stacked])), len(stacked))
        return weights | dict(zip(stacked, blocks, strict=True))

    return changed


def _orders(cell: Cell) -> dict[str, str]:
    """The packings whose gates are in another order, with words for it."""
    torch, keras = cell.orders["torch"], cell.orders["keras"]
    return (
        {"torch": ""}
        if torch == keras
        else {each: f", gates {' '.join(cell.orders[each])}" for each in ("torch", "keras")}
    )


def _into_columns(array: Array) -> Array:
    """What is read from PyTorch's array that was brought into Keras's shape by reshape."""
    return array.reshape(array.shape[::-1]).T


def _into_rows(array: Array) -> Array:
    """What is read from Keras's array that was brought into PyTorch's shape by reshape."""
    return np.ascontiguousarray(array.T).reshape(array.shape)


def _matrices(layer: Recurrent) -> Iterator[Fault]:
    """Matrices transposed, or reshaped where they should have been."""
    if not layer.cell.gates:
        return
    square = layer.input_size == layer.hidden_size
    for names, what, is_square in (
        ("recurrent_matrices", "the recurrent kernel", True),
        ("input_matrices", "the kernel", square),
    ):
        if is_square:
            yield Fault(
                f"{what} transposed gate by gate",
                what,
                "gates",
                f"transpose {what} of each gate: W_g.T",
                _of_weights(_each_matrix(names, np.transpose)),
            )
        elif len(layer.cell.gates) > 1:
            for how, reread in (
                ("as CuDNN has it", lambda W: W.T.reshape(W.shape)),
                ("as if CuDNN had it so", lambda W: W.reshape(W.shape[::-1]).T),
            ):
                yield Fault(
                    f"{what} of each gate in the other order of memory, {how}",
                    what,
                    "gates",
                    f"read {what} of each gate in the other order: W_g.reshape(W_g.shape, order='F')",
                    _of_weights(_each_matrix(names, reread)),
                )
        if is_square and len(layer.cell.gates) == 1:
            continue  # a square of one gate that is reshaped is transposed
        for from_what, to_what, reread in (
            ("PyTorch", "Keras", _into_columns),
            ("Keras", "PyTorch", _into_rows),
        ):
            for order, gates in _orders(layer.cell).items():
                yield Fault(
                    f"{what} brought from {from_what}'s shape into {to_what}'s by reshape{gates}",
                    what,
                    "gates",
                    f"transpose {what}, do not reshape it: array.T",
                    _of_weights(_stacked(names, order, reread)),
                )


def _bias_names(cell: Cell) -> tuple[list[str], list[str]]:
    """Input and recurrent biases, gate by gate."""
    return [cell.bias(gate) for gate in cell.gates], [f"b_h{gate}" for gate in cell.gates]


def _only(wanted: int) -> Callable[[Cell, Weights], Weights]:
    """One of the two kinds of biases alone: 0 the input's, 1 the recurrent."""

    def change(cell: Cell, weights: Weights) -> Weights:
        others = _bias_names(cell)[1 - wanted]
        return {name: 0 * array if name in others else array for name, array in weights.items()}

    return change


def _copied(source: int) -> Callable[[Cell, Weights], Weights]:
    """One of the two kinds of biases in both places."""

    def change(cell: Cell, weights: Weights) -> Weights:
        names = _bias_names(cell)
        pairs = zip(names[1 - source], names[source], strict=True)
        return weights | {name: weights[other] for name, other in pairs if other in weights}

    return change


def _all_biases(change: Callable[[Array], Array]) -> Callable[[Cell, Weights], Weights]:
    def changed(cell: Cell, weights: Weights) -> Weights:
        names = [*chain(*_bias_names(cell))]
        return {name: change(array) if name in names else array for name, array in weights.items()}

    return changed


def _no_biases(cell: Cell, weights: Weights) -> Weights:
    names = [*chain(*_bias_names(cell))]
    return {name: array for name, array in weights.items() if name not in names}


def _candidate(b_n: Callable[[Array, Array], Array], b_hn: Callable[[Array, Array], Array]) -> Callable[..., Weights]:
    """A GRU's candidate with other biases, from its own two."""

    def change(cell: Cell, weights: Weights) -> Weights:
        if "b_n" not in weights:
            return weights
        pair = weights["b_n"], weights.get("b_hn", np.zeros_like(weights["b_n"]))
        return weights | {"b_n": b_n(*pair), "b_hn": b_hn(*pair)}

    return change


def _offset(name: str, by: float) -> Callable[[Cell, Weights], Weights]:
    def change(cell: Cell, weights: Weights) -> Weights:
        hidden = len(weights[cell.input_matrices[0]])
        return weights | {name: weights.get(name, np.zeros(hidden)) + by}

    return change


def _biases(layer: Recurrent) -> Iterator[Fault]:
    if not layer.cell.gates:
        return
    one = "bias = bias_ih + bias_hh, and of a GRU the two rows apart"
    of_two = (
        ("the input biases alone, without the recurrent ones", _only(0)),
        ("the recurrent biases alone, without the input ones", _only(1)),
        ("the input biases in the place of the recurrent ones, too", _copied(0)),
        ("the recurrent biases in the place of the input ones, too", _copied(1)),
    )
    two = f"b_h{layer.cell.gates[0]}" in layer.directions[0].weights
    for name, change in (
        ("no biases", _no_biases),
        *(of_two if two else ()),
        ("the biases twice", _all_biases(lambda b: 2 * b)),
        ("half of the biases", _all_biases(lambda b: b / 2)),
    ):
        yield Fault(name, "biases", "biases", one, _of_weights(change))
    if layer.cell.name == "GRU":
        for name, change in (
            ("b_hn left out", _candidate(lambda b, _: b, lambda _, b: 0 * b)),
            ("b_hn outside of the reset gate, added to b_n", _candidate(lambda b, c: b + c, lambda _, c: 0 * c)),
            ("b_n inside of the reset gate, added to b_hn", _candidate(lambda b, _: 0 * b, lambda b, c: b + c)),
            ("b_n and b_hn exchanged", _candidate(lambda _, c: c, lambda b, _: b)),
        ):
            yield Fault(
                name, "biases", "biases", "row 0 of Keras's bias is bias_ih, row 1 bias_hh", _of_weights(change)
            )
    if layer.cell.name == "LSTM":
        for by in (1.0, -1.0):
            yield Fault(
                f"{by:+g} on the forget gate's bias",
                "forget bias",
                "forget bias",
                f"fold what is added at run time into the weights: b_f {-by:+g}",
                _of_weights(_offset("b_f", by)),
            )


def _negated(cell: Cell, gate: str, other: str) -> Callable[[Cell, Weights], Weights]:
    """A gate that is 1 − another, or 1 − itself: since 1 − σ(a) = σ(−a), the other's weights negated."""

    def change(cell: Cell, weights: Weights) -> Weights:
        names = zip(
            _names(cell, gate, ("matrices", "biases")), _names(cell, other, ("matrices", "biases")), strict=True
        )
        return weights | {name: -weights[from_name] for name, from_name in names if from_name in weights}

    return change


def _forms(layer: Recurrent) -> Iterator[Fault]:
    """Other forms of the cell."""
    cell = layer.cell
    if "z" in cell.gates:
        yield Fault(
            "z in the place of 1 − z",
            "form",
            "gru form",
            "negate z's weights and biases",
            _of_weights(_negated(cell, "z", "z")),
        )
    if cell.name == "LSTM":
        for gate, other in (("f", "i"), ("i", "f")):
            yield Fault(
                f"{gate} coupled to {other}: {gate} = 1 − {other}",
                "form",
                "gru form",
                "not an LSTM: make it of a cell of your own",
                _of_weights(_negated(cell, gate, other)),
            )
    if cell.name == "GRU":
        fix = "GRU(..., reset_after=True) in Keras, rnn_torch.GRU or nn.GRU"
        name = "the reset gate before the recurrent product (reset_after=False)"
        yield Fault(name, "form", "gru form", fix, _third_form(False))
        yield Fault(f"{name}, b_hn added to b_n", "form", "gru form", fix, _third_form(True))
    if cell.name == "GRU v3":
        fix = "GRU(..., reset_after=False) in Keras or rnn_torch"
        name = "the reset gate after the recurrent product (reset_after=True)"
        yield Fault(name, "form", "gru form", fix, _first_form(False))
        if "b_hn" in layer.directions[0].weights:
            yield Fault(f"{name}, b_hn inside of the reset gate", "form", "gru form", fix, _first_form(True))


def _first_form(apart: bool) -> Callable[[Recurrent], Recurrent]:
    """The weights of a GRU's third form in its first, with both biases of the candidate apart or as one."""

    def changed(layer: Recurrent) -> Recurrent:
        layer = layer if apart else _of_weights(merged)(layer)
        return replace(layer, cell=CELLS["GRU"])

    return changed


def _third_form(added: bool) -> Callable[[Recurrent], Recurrent]:
    """A GRU's weights in its third form, with `b_hn` added to `b_n` or lost."""
    lost = _candidate(lambda b, c: b + c if added else b, lambda _, c: 0 * c)

    def changed(layer: Recurrent) -> Recurrent:
        layer = _of_weights(lost)(layer)
        return replace(layer, cell=CELLS["GRU v3"])

    return changed


def of_directions(layer: Recurrent) -> Iterator[Fault]:
    """Weights of one direction in the place of the other's."""
    if len(layer.directions) == 1:
        return
    yield Fault(
        "the directions' weights exchanged",
        "directions' weights",
        "backward outputs",
        "the forward direction's weights come first, in PyTorch those without _reverse",
        lambda layer: replace(layer, directions=layer.directions[::-1]),
    )
    for n, name in enumerate(("forward", "backward")):
        yield Fault(
            f"the {name} direction's weights in both directions",
            "directions' weights",
            "backward outputs",
            "give each direction its own weights",
            partial(_one_for_both, n),
        )


def _one_for_both(direction: int, layer: Recurrent) -> Recurrent:
    return replace(layer, directions=(layer.directions[direction],) * 2)


def of_weights(layer: Recurrent) -> list[Fault]:
    """What can be wrong with weights, in every direction alike."""
    return [*_gates(layer), *_matrices(layer), *_biases(layer), *_forms(layer)]
