"""What Keras's files say, of all ages: from the configuration and the arrays to layers, in the network's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rnn_common.cells import Cell
from rnn_common.exchange.contents import Contents, NotUnderstood
from rnn_common.exchange.description import LINEAR, Dense, Direction, Embedding, Foreign, Layer, Recurrent
from rnn_common.exchange.keras_ages import ACTIVATION_LAYERS, Age, named
from rnn_common.exchange.keras_arrays import by_layer, stacked_cells
from rnn_common.exchange.keras_nested import UNCHANGED, Held, expanded
from rnn_common.exchange.keras_network import NETWORKS, Configured, layer, network_of
from rnn_common.exchange.keras_recurrent import CELL_LAYERS, LAYERS, UnknownActivation, direction, flag
from rnn_common.exchange.keras_weights import guessed
from rnn_common.reader import shown

ALONE = "of weights alone: the order of the layers, what dense layers' activations are, and masks are not in the file"
MERGES = ("concat", "sum", "mul", "ave")


def find(contents: Contents) -> tuple[tuple[Layer, ...], bool, tuple[str, ...]]:
    """The layers in the network's order, whether each reads what the one before it gives, and what holds of the whole file.

    Args:
        contents: what `hdf5_file.read` or `keras_file.read` gave.

    Raises:
        NotUnderstood: the configuration is none, or the arrays are not those of its layers.
        ValueError: an option is of another type than Keras's.
    """
    age = Age.of(contents)
    model = (contents.config or {}).get("model")
    kind = model.get("class_name") if isinstance(model, Mapping) else None
    if model is not None and kind in NETWORKS:
        layers, listed, chain = network_of(layer(model, "model"))
        arrays = by_layer(contents, layers, listed)
        held, chain = expanded(list(zip(layers, arrays, strict=True)), chain)
        return _Reading(contents, age, chain).layers(held), chain, contents.notes
    notes = (*contents.notes, ALONE)
    if kind is not None:
        notes = (*notes, f"the network is of the class {shown(kind)}, whose program is not in the file")
    return guessed(contents, age), False, notes


class _Reading:
    """A network's layers, one after the other: what has gone before decides whether steps can be skipped."""

    def __init__(self, contents: Contents, age: Age, chain: bool) -> None:
        self.contents, self.age, self.chain = contents, age, chain
        self.masked: bool | None = False

    def layers(self, held: Sequence[Held]) -> tuple[Layer, ...]:
        masking = any(each.kind == "Masking" or each.options.get("mask_zero") for each, _ in held)
        if masking and not self.chain:
            self.masked = None
        found: list[Layer] = []
        for each, names in held:
            last = found[-1] if found and self.chain else None
            merged = self._activated(last, each)
            if merged is not None:
                found[-1] = merged
            else:
                found += self._layer(each, names)
        return tuple(found)

    def _activated(self, last: Layer | None, each: Configured) -> Dense | None:
        """A dense layer with the activation that follows it, if that is what follows it."""
        while each.kind == "TimeDistributed":
            each = layer(each.options.get("layer"))
        if each.own or each.kind not in ACTIVATION_LAYERS or not isinstance(last, Dense) or last.activation != LINEAR:
            return None
        activation = self.age.layer(each.kind, each.options)
        return None if activation is None else replace(last, activation=activation)

    def _layer(self, each: Configured, names: Sequence[str]) -> list[Layer]:
        inner = each
        while inner.kind == "TimeDistributed" and not inner.own:
            inner = layer(inner.options.get("layer"))
        if inner.own:
            return [self._foreign(each, names, inner.kind)]
        if inner is each and inner.kind in (*LAYERS, "RNN", "Bidirectional"):
            return self._recurrent(each, names)
        if inner.kind in ("Dense", "TimeDistributedDense"):
            return [self._dense(each, inner, names)]
        if inner.kind == "Embedding" and inner is each:
            return [self._embedding(each, names)]
        if inner.kind in UNCHANGED and not names:
            if inner.kind == "Masking" and self.chain:
                self.masked = True
            return [Foreign(each.name, inner.kind, changes=inner.kind == "Masking" and inner is not each)]
        if inner.kind == "Activation" and self.age.layer(inner.kind, inner.options) == LINEAR:
            return [Foreign(each.name, inner.kind, changes=False)]
        return [self._foreign(each, names, inner.kind)]

    def _foreign(self, each: Configured, names: Sequence[str], kind: str) -> Foreign:
        if self.masked:
            self.masked = None  # whether a mask goes through it, the file does not say
        return Foreign(each.name, kind, arrays=tuple(names))

    def _dense(self, each: Configured, inner: Configured, names: Sequence[str]) -> Layer:
        options = inner.options
        bias = flag(options, "bias" if "bias" in options else "use_bias", True)
        activation = self.age.activation(options.get("activation"))
        arrays = [self.contents.arrays[name] for name in names]
        if activation is None:
            return self._foreign(each, names, f"{inner.kind} with the activation {named(options.get('activation'))}")
        if any(array.dtype.kind != "f" for array in arrays):
            return self._foreign(each, names, f"{inner.kind} of whole numbers")
        shapes = [array.shape for array in arrays]
        if not shapes or len(shapes) != 1 + bias or len(shapes[0]) != 2 or any(s != shapes[0][1:] for s in shapes[1:]):
            raise NotUnderstood(
                f"{shown(each.name)} should be a matrix{' and a bias' if bias else ''}, got shapes {shapes}"
            )
        units = options.get("units", options.get("output_dim"))
        if units is not None and units != shapes[0][1]:
            raise NotUnderstood(f"{shown(names[0])} should have {shown(units)} columns, got shape {shapes[0]}")
        return Dense(each.name, arrays[0].T, arrays[1] if bias else None, activation, tuple(names))

    def _embedding(self, each: Configured, names: Sequence[str]) -> Layer:
        arrays = [self.contents.arrays[name] for name in names]
        if any(array.dtype.kind != "f" for array in arrays):
            return self._foreign(each, names, "Embedding of whole numbers")
        if len(arrays) != 1 or arrays[0].ndim != 2:
            shapes = [array.shape for array in arrays]
            raise NotUnderstood(f"{shown(each.name)} should be one matrix, got shapes {shapes}")
        masks = flag(each.options, "mask_zero", False)
        if self.chain:
            self.masked = masks
        return Embedding(each.name, arrays[0], masks, tuple(names))

    def _recurrent(self, each: Configured, names: Sequence[str]) -> list[Layer]:
        try:
            return self._known(each, names)
        except UnknownActivation as error:
            return [self._foreign(each, names, f"{each.kind} {error}")]

    def _known(self, each: Configured, names: Sequence[str]) -> list[Layer]:
        if each.kind == "Bidirectional":
            return [self._bidirectional(each, names)]
        if cells := stacked_cells(each):
            return self._stack(each, cells, names)
        kind, options = _cell(each)
        if kind is None:
            return [self._foreign(each, names, f"{each.kind} around a cell that is not known here")]
        return [self._single(each, each.name, kind, options, names)]

    def _single(
        self, each: Configured, name: str, kind: str, options: Mapping[str, Any], names: Sequence[str]
    ) -> Recurrent:
        cell, found, packing, notes = direction(kind, options, names, self.contents, self.age)
        backwards = flag(options, "go_backwards", False)
        return self._described(
            Recurrent(name, cell, (found,), packing, backwards, flipped=backwards, arrays=tuple(names), notes=notes),
            options,
        )

    def _described(self, found: Recurrent, options: Mapping[str, Any]) -> Recurrent:
        """With what the options say besides the cell, and the mask taken along."""
        sequences, masked = flag(options, "return_sequences", False), self.masked
        notes = list(found.notes)
        if masked and options.get("zero_output_for_mask"):
            notes.append("outputs of skipped steps are 0")
        if options.get("time_major"):
            notes.append("its input and output are (time, batch, width)")
        if options.get("stateful"):
            notes.append("it keeps its state from one call to the next")
        if self.chain and not sequences:
            self.masked = False
        return replace(found, returns_sequences=sequences, masks=masked, notes=tuple(notes))

    def _stack(self, each: Configured, cells: Sequence[Configured], names: Sequence[str]) -> list[Layer]:
        """The cells as layers of their own: the first of them reads in the order that all of them run in."""
        if any(cell.own or cell.kind not in CELL_LAYERS for cell in cells):
            return [self._foreign(each, names, f"RNN around {', '.join(cell.kind for cell in cells)}")]
        found: list[Layer] = []
        left = list(names)
        for index, cell in enumerate(cells):
            taken = [left.pop(0) for _ in range(min(len(left), 2 + flag(cell.options, "use_bias", True)))]
            whole = {**each.options, **cell.options}
            if index < len(cells) - 1:
                whole["return_sequences"] = True
            if index:
                whole["go_backwards"] = False
            found.append(self._single(each, f"{each.name}, cell {index}", CELL_LAYERS[cell.kind], whole, taken))
        if left:
            raise NotUnderstood(f"{shown(each.name)} should have the arrays of its cells, got {shown(left[0])} besides")
        return found

    def _bidirectional(self, each: Configured, names: Sequence[str]) -> Layer:
        halves = [layer(each.options.get("layer"))]
        back = each.options.get("backward_layer")
        halves.append(halves[0] if back is None else layer(back))
        kinds = [_cell(half) for half in halves]
        merge = each.options.get("merge_mode", "concat")
        runs = [flag(half.options, "go_backwards", False) for half in halves]
        usual = runs == [False, back is not None]
        if (
            merge not in MERGES
            or not usual
            or any(half.own or kind is None for half, (kind, _) in zip(halves, kinds, strict=True))
        ):
            return self._foreign(each, names, _bidirectional_in_words(merge, halves))
        half = len(names) // 2
        if len(names) % 2:
            raise NotUnderstood(
                f"{shown(each.name)} should have as many arrays forwards as backwards, got {len(names)}"
            )
        both: list[tuple[Cell, Direction, str, tuple[str, ...]]] = [
            direction(str(kind), options, part, self.contents, self.age)
            for (kind, options), part in zip(kinds, (names[:half], names[half:]), strict=True)
        ]
        (cell, forward, packing, notes), (other, backward, _, more) = both
        sizes = [matrix.shape for found in (forward, backward) for matrix in (found.weights[cell.input_matrices[0]],)]
        if other is not cell or sizes[0] != sizes[1]:
            return self._foreign(each, names, "Bidirectional around two different layers")
        found = Recurrent(each.name, cell, (forward, backward), packing, merge=merge, arrays=tuple(names))
        return self._described(replace(found, notes=tuple(dict.fromkeys((*notes, *more)))), halves[0].options)


def _cell(each: Configured) -> tuple[str | None, Mapping[str, Any]]:
    """The recurrent layer that it is, or that an `RNN` around a cell is, and its options; None if it is another."""
    if each.own:
        return None, each.options
    if each.kind != "RNN":
        return (each.kind if each.kind in LAYERS else None), each.options
    cell = layer(each.options.get("cell"))
    if cell.own or cell.kind not in CELL_LAYERS:
        return None, each.options
    return CELL_LAYERS[cell.kind], {**each.options, **cell.options}


def _bidirectional_in_words(merge: Any, halves: Sequence[Configured]) -> str:
    if merge not in MERGES:
        return f"Bidirectional with the merge_mode {shown(merge)}"
    return f"Bidirectional around {' and '.join(dict.fromkeys(half.kind for half in halves))}"
