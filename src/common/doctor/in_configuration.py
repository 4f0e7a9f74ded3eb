"""The catalogue, faults of configuration: activations, what is merged and handed on, dense layers and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from rnn_common.doctor.faults import Fault
from rnn_common.exchange.description import (
    LINEAR,
    NAMED,
    SOFTMAX,
    TANH,
    Activation,
    Dense,
    Direction,
    Embedding,
    Merge,
    Recurrent,
)

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
    hard = "hard_sigmoid" in (getattr(activation, "name", ""), getattr(layer.activations[min(place, 1)], "name", ""))
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


def of_activations(layer: Recurrent) -> Iterator[Fault]:
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


def sequences_fault(every: bool) -> Fault:
    """What a layer hands on: every output, or the last."""
    return Fault(
        "every output handed on, not the last alone" if every else "the last output alone handed on, not every one",
        "what comes back",
        "returned",
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


def dense_activation_fault(layer: Dense, activation: Activation) -> Fault:
    return Fault(
        f"activation {activation}, not {layer.activation}",
        "dense activation",
        "activations",
        f"{layer.activation} behind the layer; a loss on logits has it inside",
        lambda layer: replace(layer, activation=activation),
    )


def of_dense(layer: Dense) -> Iterator[Fault]:
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


def of_embedding(layer: Embedding) -> Iterator[Fault]:
    for name, by in (("the next symbol's", -1), ("the symbol's before", 1)):
        yield Fault(
            f"each symbol's row is {name}",
            "symbols",
            "",
            "number the symbols alike: with a symbol for padding in front all others move by one",
            partial(_rolled, by),
        )
    yield Fault(
        "row 0 is zeros",
        "padding symbol",
        "",
        "padding_idx=0 zeroes the row when the layer is made: copy it after that",
        lambda layer: replace(layer, E=np.concatenate([0 * layer.E[:1], layer.E[1:]])),
    )
    yield Fault(
        "symbol 0 read, not skipped" if layer.masks else "symbol 0 skipped as padding",
        "mask",
        "padded state",
        f"Embedding(..., mask_zero={layer.masks}) in Keras, lengths in PyTorch",
        lambda layer: replace(layer, masks=not layer.masks),
    )


def _rolled(by: int, layer: Embedding) -> Embedding:
    return replace(layer, E=np.roll(layer.E, by, 0))
