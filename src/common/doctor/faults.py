"""The catalogue: what goes wrong between two recurrent layers that should be equal, each as a change of one of them.

A fault of the weights or of the configuration changes the layer's description; one of the call changes how it is run. Which of
them two layers differ by is found by `matching` from weights, and by `search` from outputs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.cells import CELLS, Cell
from rnn_common.doctor.calls import Call, Run, Seen, by_equations, rounding, seen
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import (
    LINEAR,
    NAMED,
    SOFTMAX,
    TANH,
    Activation,
    Dense,
    Direction,
    Embedding,
    Layer,
    Merge,
    Recurrent,
)
from rnn_common.exchange.forward import Ran, merge

Weights = dict[str, Array]


def same_layer(layer: Any) -> Any:
    return layer


def same_run(run: Run) -> Run:
    return run


@dataclass(frozen=True)
class Fault:
    """One thing that one layer does otherwise than another.

    Attributes:
        name: what it does, in words.
        group: what it is about; two faults of one group are one fault of it.
        row: the key of its row in `rnn_common.differences`.
        fix: what mends it, in words or a line of code.
        layer: the description that it makes of a right one. Default the same.
        run: the run that it makes of a right one. Default the same.
    """

    name: str
    group: str
    row: str
    fix: str
    layer: Callable[[Any], Any] = same_layer
    run: Callable[[Run], Run] = same_run


class At(NamedTuple):
    """A fault of one of some layers: of that at a place among them."""

    place: int
    fault: Fault


@dataclass(frozen=True)
class Suspect:
    """Some faults at once, in the order in which they are made."""

    faults: tuple[At, ...]

    def layers(self, layers: Sequence[Layer]) -> tuple[Layer, ...]:
        """The layers with these faults of description."""
        changed = list(layers)
        for place, fault in self.faults:
            changed[place] = fault.layer(changed[place])
        return tuple(changed)

    def runs(self) -> dict[int, Run]:
        """How those are run whose faults are of the call."""
        runs: dict[int, Run] = {}
        for place, fault in self.faults:
            if fault.run is not same_run:
                runs[place] = fault.run(runs.get(place, by_equations))
        return runs

    def seen(self, layers: Sequence[Layer], call: Call, dtype: DTypeLike = np.float64) -> Seen:
        return seen(self.layers(layers), call, dtype, self.runs())

    def rounding(self, layers: Sequence[Layer], call: Call, dtype: str) -> float:
        return rounding(self.layers(layers), call, dtype, self.runs())


# Weights


def _of_weights(change: Callable[[Cell, Weights], Weights]) -> Callable[[Recurrent], Recurrent]:
    """The change of a layer that changes the weights of each direction."""

    def changed(layer: Recurrent) -> Recurrent:
        return replace(
            layer,
            directions=tuple(
                replace(each, weights=change(layer.cell, dict(each.weights))) for each in layer.directions
            ),
        )

    return changed


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


def _stacked(names: str, change: Callable[[Array], Array]) -> Callable[[Cell, Weights], Weights]:
    """All input or all recurrent matrices in one array `(gates · hidden, …)`, in the order of PyTorch's gates, changed."""

    def changed(cell: Cell, weights: Weights) -> Weights:
        kind = cell.input_weight if names == "input_matrices" else cell.recurrent_weight
        order = [kind(gate) for gate in cell.orders["torch"]]
        blocks = np.split(change(np.concatenate([weights[name] for name in order])), len(order))
        return weights | dict(zip(order, blocks, strict=True))

    return changed


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
            yield Fault(
                f"{what} brought from {from_what}'s shape into {to_what}'s by reshape",
                what,
                "gates",
                f"transpose {what}, do not reshape it: array.T",
                _of_weights(_stacked(names, reread)),
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
        yield Fault(name, "form", "gru form", fix, lambda layer: replace(layer, cell=CELLS["GRU"]))


def _third_form(merged: bool) -> Callable[[Recurrent], Recurrent]:
    """A GRU's weights in its third form, with `b_hn` added to `b_n` or lost."""
    lost = _candidate(lambda b, c: b + c if merged else b, lambda _, c: 0 * c)

    def changed(layer: Recurrent) -> Recurrent:
        layer = _of_weights(lost)(layer)
        return replace(layer, cell=CELLS["GRU v3"])

    return changed


# Activations

ARGUMENTS = ("activation", "recurrent_activation")


def with_activation(place: int, activation: Activation) -> Callable[[Recurrent], Recurrent]:
    """Another function in the place of tanh (0), of σ (1), or of an LSTM's tanh of c_t (2)."""

    def changed(layer: Recurrent) -> Recurrent:
        def of(direction: Direction) -> Direction:
            found = list(direction.activations)
            if place == 2 and len(found) < 3:
                found.append(found[0])
            found[place] = activation
            return replace(direction, activations=tuple(found))

        return replace(layer, directions=tuple(map(of, layer.directions)))

    return changed


def activation_fault(layer: Recurrent, place: int, activation: Activation) -> Fault:
    """A layer's activation that is another."""
    hard = "hard_sigmoid" in (activation.name, getattr(layer.activations[min(place, 1)], "name", ""))
    now = layer.activations[place] if place < len(layer.activations) else layer.activations[0]
    if place == 2:
        return Fault(
            f"{activation} of c_t, not {now}",
            "activation of c",
            "activations",
            f"h_t = o_t ⊙ {now}(c_t)",
            with_activation(2, activation),
        )
    names = [name for name, each in NAMED.items() if each == now]
    named = f"rnn_tf.{names[0]}" if names == ["hard_sigmoid_keras2"] else repr(names[0] if names else str(now))
    return Fault(
        f"{ARGUMENTS[place]} {activation}, not {now}",
        ARGUMENTS[place],
        "hard_sigmoid" if hard else "activations",
        f"{layer.cell.layer_class}(..., {ARGUMENTS[place]}={named})",
        with_activation(place, activation),
    )


def _activations(layer: Recurrent) -> Iterator[Fault]:
    if not layer.cell.gates:
        return
    now = layer.activations
    for place in range(len(layer.cell.activations)):
        yield from (activation_fault(layer, place, each) for each in NAMED.values() if each != now[place])
    if layer.cell.name == "LSTM" and len(now) == 2:
        yield from (activation_fault(layer, 2, each) for each in (TANH, LINEAR, NAMED["relu"]) if each != now[0])
    if len(now) > 1 and now[0] != now[1]:
        yield Fault(
            "activation and recurrent_activation exchanged",
            "both activations",
            "activations",
            "give each to its own argument",
            lambda layer: with_activation(1, now[0])(with_activation(0, now[1])(layer)),
        )


# Directions and outputs


def _directions(layer: Recurrent) -> Iterator[Fault]:
    if len(layer.directions) == 1:
        yield from _single_direction(layer)
        return
    yield Fault(
        "the backward half's outputs in running order",
        "order of outputs",
        "go_backwards",
        "flip the outputs of the backward half: outputs[:, ::-1]",
        lambda layer: replace(layer, flipped=not layer.flipped),
    )
    yield Fault(
        "both halves forwards",
        "direction",
        "go_backwards",
        "run the second half from the last step to the first",
        run=_second_half_forwards,
    )
    yield from of_directions(layer)
    if layer.merge == "concat":
        yield Fault(
            "the halves of the outputs exchanged",
            "halves",
            "merge",
            "forward first: concatenate([forward, backward], -1)",
            run=_halves_exchanged,
        )
    merges: tuple[Merge, ...] = ("concat",) if layer.merge == "concat" else ("sum", "mul", "ave")
    for how in merges:
        if how != layer.merge:
            yield merge_fault(layer, how)


def of_directions(layer: Recurrent) -> Iterator[Fault]:
    """Weights of one direction in the place of the other's."""
    if len(layer.directions) == 1:
        return
    yield Fault(
        "the directions' weights exchanged",
        "directions' weights",
        "go_backwards",
        "the forward direction's weights come first, in PyTorch those without _reverse",
        lambda layer: replace(layer, directions=layer.directions[::-1]),
    )
    for n, name in enumerate(("forward", "backward")):
        yield Fault(
            f"the {name} direction's weights in both directions",
            "directions' weights",
            "go_backwards",
            "give each direction its own weights",
            partial(_one_for_both, n),
        )


def _one_for_both(direction: int, layer: Recurrent) -> Recurrent:
    return replace(layer, directions=(layer.directions[direction],) * 2)


def sequences_fault(every: bool) -> Fault:
    """What a layer hands on: every output, or the last."""
    return Fault(
        "every output handed on, not the last alone" if every else "the last output alone handed on, not every one",
        "what comes back",
        "what comes back",
        f"return_sequences={not every} in Keras; outputs[:, -1] in PyTorch",
        lambda layer: replace(layer, returns_sequences=every),
    )


def merge_fault(layer: Recurrent, how: Merge) -> Fault:
    return Fault(
        f"the two directions merged by {how}, not {layer.merge}",
        "merge",
        "merge",
        f"Bidirectional(..., merge_mode={layer.merge!r}); in PyTorch cut the outputs in two and merge",
        lambda layer: replace(layer, merge=how),
    )


def _single_direction(layer: Recurrent) -> Iterator[Fault]:
    yield Fault(
        "forwards, not backwards" if layer.backwards else "backwards, not forwards",
        "direction",
        "go_backwards",
        f"go_backwards={layer.backwards} in Keras; in PyTorch flip x",
        lambda layer: replace(layer, backwards=not layer.backwards),
    )
    yield Fault(
        "outputs in the order of the input, not in running order"
        if layer.backwards and layer.flipped
        else "outputs from the last step to the first",
        "order of outputs",
        "go_backwards",
        "flip the outputs: outputs[:, ::-1]",
        run=_outputs_flipped,
    )
    yield Fault(
        "the sequences of the batch from the last to the first",
        "order of the batch",
        "axes",
        "reverse the axis of time, not that of the batch",
        run=_batch_reversed,
    )


def _outputs_flipped(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        ran = run(layer, call, dtype)
        return ran._replace(outputs=ran.outputs[:, ::-1])

    return changed


def _batch_reversed(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        return run(layer, call._replace(x=call.x[::-1]), dtype)

    return changed


def _second_half_forwards(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        halves = [
            run(
                replace(layer, directions=(each,)),
                call._replace(state=None if call.state is None else (call.state[n],)),
                dtype,
            )
            for n, each in enumerate(layer.directions)
        ]
        return _both(layer, halves)

    return changed


def _both(layer: Recurrent, halves: list[Ran]) -> Ran:
    forward, backward = halves
    return Ran(
        merge(layer.merge, forward.outputs, backward.outputs),
        merge(layer.merge, forward.last, backward.last),
        forward.final + backward.final,
    )


def _halves_exchanged(run: Run) -> Run:
    def exchanged(array: Array) -> Array:
        return np.concatenate(np.split(array, 2, -1)[::-1], -1)

    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        ran = run(layer, call, dtype)
        return ran._replace(outputs=exchanged(ran.outputs), last=exchanged(ran.last))

    return changed


def _last(layer: Recurrent) -> Iterator[Fault]:
    """Of a layer that hands on its last output alone: which is taken for it."""
    if layer.returns_sequences is not False:
        return
    if len(layer.directions) == 2:
        yield Fault(
            "outputs[:, -1], which holds the backward half's first step, not its last",
            "last output",
            "last output",
            "torch.cat([h_n[-2], h_n[-1]], -1)",
            run=_taken(-1),
        )
    else:
        yield Fault(
            "the output at the end of the time axis, not at each sequence's own end",
            "last output",
            "padded final state",
            "take h_n, or outputs[range(batch), lengths - 1]",
            run=_taken(-1),
        )
    yield Fault("the first output, not the last", "last output", "last output", "outputs[:, -1]", run=_taken(0))


def _taken(step: int) -> Callable[[Run], Run]:
    def wrapped(run: Run) -> Run:
        def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
            ran = run(layer, call, dtype)
            return ran._replace(last=ran.outputs[:, step])

        return changed

    return wrapped


# Calls


def _of_call(change: Callable[[Call], Call]) -> Callable[[Run], Run]:
    def wrapped(run: Run) -> Run:
        return lambda layer, call, dtype: run(layer, change(call), dtype)

    return wrapped


def _states(layer: Recurrent, call: Call) -> Iterator[Fault]:
    if call.state is None:
        return
    yield Fault(
        "an initial state of zeros, not the one that it is given",
        "initial state",
        "state",
        "pass the state: layer(x, state) in PyTorch, layer(x, initial_state=state) in Keras",
        run=_of_call(lambda call: call._replace(state=None)),
    )
    if len(layer.cell.states) == 2:
        yield Fault(
            "h and c of the initial state exchanged",
            "order of the state",
            "state",
            "(h, c), in this order",
            run=_of_call(lambda call: call._replace(state=tuple(each[::-1] for each in call.state or ()))),
        )
    if len(layer.directions) == 2:
        yield Fault(
            "the initial states of the two directions exchanged",
            "order of the state",
            "state",
            "the forward direction's state first",
            run=_of_call(lambda call: call._replace(state=(call.state or ())[::-1])),
        )


def _lengths(layer: Recurrent, call: Call) -> Iterator[Fault]:
    if call.lengths is None:
        return
    fix = "pack_padded_sequence(x, lengths, ...) in PyTorch, mask=tf.sequence_mask(lengths) in Keras"
    for name, row, change in (
        ("the lengths ignored: runs on through the padding", "padded final state", lambda n, time: None),
        ("the lengths a step too short", "padded final state", lambda n, time: np.maximum(n - 1, 1)),
        ("the lengths a step too long", "padded final state", lambda n, time: np.minimum(n + 1, time)),
        ("the lengths frozen at the longest", "padded final state", lambda n, time: np.full_like(n, n.max())),
    ):
        if "frozen" in name and call.lengths.max() == call.x.shape[1]:
            continue  # which is to ignore them
        yield Fault(name, "lengths", row, fix, run=_of_call(_with_lengths(change)))
    yield Fault("the padding taken to be in front", "lengths", "padding in front", fix, run=_padded_in_front)
    if len(layer.directions) == 2:
        yield Fault(
            "the backward half started in the padding",
            "lengths",
            "backward padding",
            fix,
            run=_backward_without_lengths,
        )


def _with_lengths(change: Callable[[Array, int], Array | None]) -> Callable[[Call], Call]:
    def changed(call: Call) -> Call:
        return (
            call if call.lengths is None else call._replace(lengths=change(np.asarray(call.lengths), call.x.shape[1]))
        )

    return changed


def _padded_in_front(run: Run) -> Run:
    """The last `length` steps are the sequence: they are brought to the front, and their outputs back."""

    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        if call.lengths is None:
            return run(layer, call, dtype)
        time = call.x.shape[1]
        places = (np.arange(time) + time - np.asarray(call.lengths)[:, None]) % time
        ran = run(layer, call._replace(x=np.take_along_axis(call.x, places[..., None], 1)), dtype)
        outputs = np.zeros_like(ran.outputs)
        np.put_along_axis(outputs, places[..., None], ran.outputs, 1)
        return ran._replace(outputs=outputs)

    return changed


def _backward_without_lengths(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        states = call.state or (None, None)
        forward = run(
            replace(layer, directions=layer.directions[:1]),
            call._replace(state=None if states[0] is None else (states[0],)),
            dtype,
        )
        backward = run(
            replace(layer, directions=layer.directions[1:], backwards=True),
            call._replace(state=None if states[1] is None else (states[1],), lengths=None),
            dtype,
        )
        return _both(layer, [forward, backward])

    return changed


def _axes(layer: Recurrent, call: Call) -> Iterator[Fault]:
    """Batch and time exchanged; no state or length has the right shape then."""
    batch, time, _ = call.x.shape
    if call.lengths is not None or (call.state is not None and batch != time):
        return
    fix = "batch_first=True in PyTorch, x.transpose(0, 1) and not x.view"
    yield Fault("the axes of batch and time exchanged", "axes", "axes", fix, run=_transposed)
    yield Fault(
        "x brought into (time, batch, …) by view, not by transpose", "axes", "axes", fix, run=_viewed(as_input=True)
    )
    yield Fault(
        "outputs brought from (time, batch, …) by view, not by transpose",
        "axes",
        "axes",
        fix,
        run=_viewed(as_input=False),
    )
    yield Fault(
        "each step by itself, from the initial state",
        "axes",
        "axes",
        "call the layer on the whole sequence, or hand the state on",
        run=_each_step_alone,
    )


def _transposed(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        state = call.state if call.x.shape[0] == call.x.shape[1] else None
        ran = run(layer, Call(call.x.swapaxes(0, 1), state), dtype)
        return ran._replace(outputs=ran.outputs.swapaxes(0, 1))

    return changed


def _viewed(as_input: bool) -> Callable[[Run], Run]:
    """A layer over `(time, batch, …)` whose input, or whose output, was reshaped."""

    def wrapped(run: Run) -> Run:
        def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
            batch, time, _ = call.x.shape
            if as_input:
                x = call.x.reshape(time, batch, -1).swapaxes(0, 1)
                return run(layer, call._replace(x=x), dtype)
            ran = run(layer, call, dtype)
            viewed = np.ascontiguousarray(ran.outputs.swapaxes(0, 1)).reshape(ran.outputs.shape)
            return ran._replace(outputs=viewed)

        return changed

    return wrapped


def _each_step_alone(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        steps = [run(layer, call._replace(x=call.x[:, t : t + 1]), dtype) for t in range(call.x.shape[1])]
        return steps[-1]._replace(outputs=np.concatenate([each.outputs for each in steps], 1))

    return changed


# Other layers


def dense_activation_fault(layer: Dense, activation: Activation) -> Fault:
    return Fault(
        f"activation {activation}, not {layer.activation}",
        "dense activation",
        "activations",
        f"{layer.activation} behind the layer; a loss on logits has it inside",
        lambda layer: replace(layer, activation=activation),
    )


def _dense(layer: Dense) -> Iterator[Fault]:
    for each in (LINEAR, SOFTMAX, *(NAMED[name] for name in ("sigmoid", "relu", "tanh"))):
        if each != layer.activation:
            yield dense_activation_fault(layer, each)
    if layer.b is not None:
        yield Fault("no bias", "dense bias", "biases", "copy the bias, too", lambda layer: replace(layer, b=None))
    if layer.W.shape[0] == layer.W.shape[1]:
        yield Fault(
            "the matrix transposed",
            "dense matrix",
            "gates",
            "kernel = weight.T",
            lambda layer: replace(layer, W=layer.W.T),
        )


def _embedding(layer: Embedding) -> Iterator[Fault]:
    for name, by in (("the next symbol's", -1), ("the symbol's before", 1)):
        yield Fault(
            f"each symbol's row is {name}",
            "symbols",
            "embedding",
            "number the symbols alike: with a symbol for padding in front all others move by one",
            partial(_rolled, by),
        )
    yield Fault(
        "row 0 is zeros",
        "padding symbol",
        "embedding",
        "padding_idx=0 zeroes the row when the layer is made: copy it after that",
        lambda layer: replace(layer, E=np.concatenate([0 * layer.E[:1], layer.E[1:]])),
    )
    yield Fault(
        "symbol 0 read, not skipped" if layer.masks else "symbol 0 skipped as padding",
        "mask",
        "padding",
        f"Embedding(..., mask_zero={layer.masks}) in Keras, lengths in PyTorch",
        lambda layer: replace(layer, masks=not layer.masks),
    )


def _rolled(by: int, layer: Embedding) -> Embedding:
    return replace(layer, E=np.roll(layer.E, by, 0))


# All of them


def of_weights(layer: Recurrent) -> list[Fault]:
    """What can be wrong with weights, one direction's or both's."""
    return [*_gates(layer), *_matrices(layer), *_biases(layer), *_forms(layer)]


def catalogue(layer: Layer, call: Call) -> list[Fault]:
    """All that can be wrong with a layer on such a call."""
    if isinstance(layer, Dense):
        return list(_dense(layer))
    if isinstance(layer, Embedding):
        return list(_embedding(layer))
    if not isinstance(layer, Recurrent):
        return []
    return [
        *of_weights(layer),
        *_activations(layer),
        *_directions(layer),
        *_last(layer),
        *_states(layer, call),
        *_lengths(layer, call),
        *_axes(layer, call),
    ]
