"""Networks within a network of Keras's: their layers are the network's own, where it can be told whose each array is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rnn_common.exchange.keras_ages import ACTIVATION_LAYERS
from rnn_common.exchange.keras_network import NETWORKS, Configured, layer, network_of
from rnn_common.exchange.keras_recurrent import CELL_LAYERS, LAYERS, flag

# What leaves numbers as they are out of training. A mask goes through them.
UNCHANGED = (
    "InputLayer",
    "Dropout",
    "SpatialDropout1D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
    "Masking",
)
WITHOUT_ARRAYS = (*UNCHANGED, *ACTIVATION_LAYERS, "Flatten", "Reshape", "Permute", "RepeatVector")
DEEPEST = 8  # networks within one another
Held = tuple[Configured, tuple[str, ...]]


def expanded(held: Sequence[Held], chain: bool, depth: int = 0) -> tuple[list[Held], bool]:
    """Layers and the names of their arrays, with the layers of networks among them in the place of these.

    A network that holds a layer of which it cannot be told how many arrays it has stays as it is.

    Args:
        held: the layers, each with its arrays' names in Keras's order.
        chain: whether each reads what the one before it gives.
        depth: how deep in others this network is. Default not at all.
    """
    found: list[Held] = []
    for each, names in held:
        inner = None if each.own or each.kind not in NETWORKS or depth == DEEPEST else _inner(each, names)
        if inner is None:
            found.append((each, names))
        else:
            more, one_way = expanded(*inner, depth + 1)
            chain = chain and one_way
            found += [(replace(layer, name=f"{each.name}/{layer.name}"), arrays) for layer, arrays in more]
    return found, chain


def _inner(each: Configured, names: Sequence[str]) -> tuple[list[Held], bool] | None:
    """A network's layers with their arrays, which follow one another in the order in which the layers are listed."""
    layers, listed, chain = network_of(each)
    counts = {layer.name: _count(layer) for layer in listed}
    if None in counts.values() or sum(filter(None, counts.values())) != len(names) or len(counts) != len(listed):
        return None
    parts: dict[str, tuple[str, ...]] = {}
    start = 0
    for name, count in counts.items():
        parts[name] = tuple(names[start : start + (count or 0)])
        start += count or 0
    return [(layer, parts[layer.name]) for layer in layers], chain


def _count(each: Configured, depth: int = 0) -> int | None:
    """How many arrays a layer of Keras 2 or newer has; None if it cannot be told."""
    options = each.options
    if each.own or depth > DEEPEST:
        return None
    if each.kind in (*LAYERS, *CELL_LAYERS):
        return 2 + flag(options, "use_bias", True)
    if each.kind == "Dense":
        return 1 + flag(options, "use_bias", True)
    if each.kind == "Embedding":
        return 1
    if each.kind in WITHOUT_ARRAYS:
        return 0
    held = _held(each)
    if not held:
        return None
    counts = [_count(layer, depth + 1) for layer in held]
    if None in counts:
        return None
    return sum(filter(None, counts)) * (2 if each.kind == "Bidirectional" else 1)


def _held(each: Configured) -> list[Configured]:
    """The layers or cells that a wrapper, a stack of cells or a network is of."""
    said: dict[str, Any] = {
        "Bidirectional": "layer",
        "TimeDistributed": "layer",
        "RNN": "cell",
        "StackedRNNCells": "cells",
    }
    if each.kind in NETWORKS:
        return list(network_of(each)[1])
    inner = each.options.get(said.get(each.kind, ""))
    return [layer(one) for one in (inner if isinstance(inner, list) else [inner]) if isinstance(one, Mapping)]
