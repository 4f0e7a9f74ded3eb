"""Weights in numbers of fewer bits: which there are, and the faults that they are. Not searched for, as a fault of this kind is
told by the weights, or else by how far apart the two are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from rnn_common.cells import Cell
from rnn_common.doctor.calls import Call, apart, layer_in, seen
from rnn_common.doctor.faults import Fault
from rnn_common.doctor.in_weights import Weights, of_weights_of
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Layer, Recurrent

NEAR = 3  # how many times as far apart as rounded weights set them, or as little, is of their level


def _int8(W: Array) -> Array:
    """To one of 255 numbers that are evenly apart, as a matrix is quantized that has one scale."""
    scale = float(np.abs(W).max(initial=0)) / 127
    return np.rint(W / scale) * scale if scale else W


def _matrices_in_int8(cell: Cell, weights: Weights) -> Weights:
    """All input matrices have one scale, and all recurrent ones, as a framework packs them; biases stay."""
    changed = dict(weights)
    for names in filter(None, (cell.input_matrices, cell.recurrent_matrices)):
        blocks = _int8(np.concatenate([weights[name] for name in names]))
        changed |= dict(zip(names, np.split(blocks, len(names)), strict=True))
    return changed


def _in_int8(layer: Layer) -> Layer:
    if isinstance(layer, Recurrent):
        return of_weights_of(layer, _matrices_in_int8)
    return replace(layer, W=_int8(layer.W)) if isinstance(layer, Dense) else layer


# Of the coarsest last. TF32, in which a GPU multiplies float32, has as many bits as float16.
KINDS: dict[str, Callable[[Layer], Layer]] = {
    "float16": partial(layer_in, dtype="float16"),
    "bfloat16": partial(layer_in, dtype="bfloat16"),
    "int8": _in_int8,
}


def faults() -> Iterator[Fault]:
    """Weights that were rounded on the way."""
    for kind, rounded in KINDS.items():
        fix = f"load the weights before they were rounded to {kind}, or compare to the rounding of that"
        yield Fault(f"weights in {kind}", "precision", "", fix, rounded)


def level(layers: Sequence[Layer], call: Call, deviation: float) -> str:
    """In words, which numbers would set layers about so far from what they are; empty where none would."""
    exact = seen(layers, call)
    said = []
    for kind, rounded in KINDS.items():
        off = apart(seen([rounded(layer) for layer in layers], call), exact, call.lengths)
        if off / NEAR <= deviation <= off * NEAR:
            said.append(f"{off:.0e} in {kind}{' (or TF32)' if kind == 'float16' else ''} ")
    return f"It may be no fault, but coarser numbers: these make {'and '.join(said)}of it." if said else ""
