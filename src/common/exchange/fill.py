"""Live networks of either framework, filled with what was found in a file, and proven."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rnn_common import copying, exchange, twins
from rnn_common.cells import Cell
from rnn_common.exchange import proof
from rnn_common.exchange.arrays_write import place
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import LINEAR, Activation, Dense, Embedding, Found, Recurrent
from rnn_common.exchange.proof import Proof, ProofFailed
from rnn_common.twins import Part

Filler = Recurrent | Embedding | Dense
KINDS: dict[type[Filler], str] = {Recurrent: "recurrent", Embedding: "embedding", Dense: "dense"}
# What would work, where an option of a live layer is not that of the layer in the file.
WAYS_OUT = {
    "order of outputs": "have it hand on the last output alone, or make it both ways",
    "symbols": "make it for as many: num_embeddings in PyTorch, input_dim in Keras",
    "width": "make it with it: embedding_dim in PyTorch, output_dim in Keras",
    "masking": "mask_zero in Keras says whether symbol 0 is padding",
    "input size": "make it for inputs of that width",
    "output size": "make it with it: out_features in PyTorch, units in Keras",
    "activation": "Keras's Dense takes it by name; PyTorch's Linear has none, and it is put behind",
}


@dataclass(frozen=True, eq=False)
class Live:
    """A layer of a live network that can be filled.

    Attributes:
        name: its own: `"encoder.lstm"` in PyTorch, `"encoder/lstm"` in Keras; of several layers in one `"lstm, layer 2"`.
        kind: what fills it.
        layer: what runs it: the module, of several layers that of all of them.
        parts: of a recurrent layer its directions.
        odd: why it cannot be filled. Default empty: it can.
        bias: of a dense layer, whether there is one.
        options: all else that decides the function, by name, see `Part`.
    """

    name: str
    kind: type[Filler]
    layer: Any
    parts: list[Part] = field(default_factory=list)
    bias: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    odd: str = ""


Pair = tuple[Live, Filler]


def of_recurrent(name: str, layer: Any, parts: Callable[[], list[list[Part]]], flipped: bool | None) -> list[Live]:
    """A live recurrent layer, or the several that are in one.

    Args:
        name: of it.
        layer: see `Live`.
        parts: gives its directions, layer by layer; raises TypeError if it is no recurrent layer, ValueError if it computes
            something of its own.
        flipped: whether it hands on every output, and that in the order in which it ran backwards; None where either is not so.
    """
    try:
        found = parts()
    except TypeError:
        return []
    except ValueError as error:
        return [Live(name, Recurrent, layer, odd=str(error))]
    names = [name] if len(found) == 1 else [f"{name}, layer {n + 1}" for n in range(len(found))]
    options = {"order of outputs": _order(flipped)}
    return [
        Live(each, Recurrent, layer, directions, options=options) for each, directions in zip(names, found, strict=True)
    ]


def _order(flipped: bool | None) -> str | None:
    return None if flipped is None else "last step first" if flipped else "first step first"


def fill(
    twin: str,
    model: Any,
    source: Found | Path | str,
    match: Mapping[str, str] | None = None,
    cells: Sequence[Cell | str] = (),
) -> list[Proof]:
    """Give the layers of a live network the weights of those that were found in a file; see `rnn_torch.fill`, `rnn_tf.fill`."""
    found = source if isinstance(source, Found) else exchange.read(source, cells)
    framework, page, live_page = twins.get(twin), twins.page(twin), twins.page(twin, "live")
    lives = live_page.inside(model)
    pairs = _pairs(lives, found, match)
    for live, layer in pairs:
        _require_same_function(f"{live.name} (from {layer.name})", live, layer)
    _require_whole(lives, pairs)
    values = [value for live, layer in pairs for value in _values(framework, page, live, layer)]
    copying.require_one_value_each([(framework, *value) for value in values])
    before = [(variable, framework.current(variable)) for variable, _ in values]
    try:
        for variable, value in values:
            framework.put(variable, value)
        proofs = list(_proofs(live_page.alone, proof.BY[twin], pairs))
        if failed := [each for each in proofs if not each.holds]:
            worst = max(failed, key=lambda each: each.deviation)
            raise ProofFailed(
                f"{worst.name} should compute what was found in {found.path.name}, but run by {worst.by} it is "
                f"{worst.deviation:.1e} off, bound {worst.bound:.1e}; the weights are what they were"
            )
    except BaseException:
        for variable, value in before:
            framework.put(variable, value)
        raise
    return proofs


# Which layer fills which


def _pairs(lives: list[Live], found: Found, match: Mapping[str, str] | None) -> list[Pair]:
    """Each layer that is to be filled with what fills it."""
    pairs = _in_order(lives, found) if match is None else _by_name(lives, found, match)
    if not pairs:
        where = "match should name" if match is not None else "model should hold"
        raise ValueError(f"{where} at least one recurrent layer, embedding or dense layer, got none")
    return pairs


def _in_order(lives: list[Live], found: Found) -> list[Pair]:
    """The layers of each kind in their order, if there are as many in the network as in the file."""
    pairs: list[Pair] = []
    for kind, word in KINDS.items():
        takers = [live for live in lives if live.kind is kind]
        givers = [layer for layer in found.ours if isinstance(layer, kind)]
        if len(takers) != len(givers):
            expected, got = (f"{len(each)} ({_names(each)})" for each in (givers, takers))
            raise ValueError(
                f"model should have as many {word} layers as {found.path.name}, {expected}, got {got}: "
                "say by match which is filled with which"
            )
        pairs += zip(takers, givers, strict=True)
    return pairs


def _by_name(lives: list[Live], found: Found, match: Mapping[str, str]) -> list[Pair]:
    takers, givers = {live.name: live for live in lives}, {layer.name: layer for layer in found.ours}
    pairs: list[Pair] = []
    for taker, giver in match.items():
        for what, name, among in (("", taker, lives), (f" of {found.path.name}", giver, found.ours)):
            count = sum(each.name == name for each in among)
            if count != 1:
                whose = "the model's layers" if not what else f"the layers{what}"
                raise ValueError(
                    f"match should name one of {whose} ({_names(among)}), got {name}" + " twice" * (count > 1)
                )
        live, layer = takers[taker], givers[giver]
        if not isinstance(layer, live.kind):
            kinds = [word for kind, word in KINDS.items() if isinstance(layer, kind)]
            raise ValueError(
                f"match should give {taker} a layer of its kind, {KINDS[live.kind]}, got {giver}, which is {kinds[0]}"
            )
        pairs.append((live, layer))
    return sorted(pairs, key=lambda pair: lives.index(pair[0]))


def _names(layers: Sequence[Live | Filler]) -> str:
    return "; ".join(layer.name for layer in layers) or "none"


def _require_whole(lives: list[Live], pairs: list[Pair]) -> None:
    """Refuse to fill one layer of several in one module: it could not be run by itself."""
    filled = {live.name for live, _ in pairs}
    for live, _ in pairs:
        if left := [each.name for each in lives if each.layer is live.layer and each.name not in filled]:
            raise ValueError(f"match should name all layers of one module, got {live.name} without {'; '.join(left)}")


# Whether it computes the same


def _require_same_function(name: str, live: Live, layer: Filler) -> None:
    """Refuse a live layer that with what was found computes another function."""
    if live.odd:
        raise ValueError(f"{name}: {live.odd}")
    if isinstance(layer, Recurrent):
        givers = [_part(layer, n) for n in range(len(layer.directions))]
        copying.require_same_layers(name, [givers], [live.parts])
        words = ["", ""] if len(givers) == 1 else [", forward", ", backward"]
        for word, giver, taker in zip(words, givers, live.parts, strict=False):
            copying.require_same_function(name + word, giver, taker)
    copying.require_same_options(name, _options(layer), live.options, WAYS_OUT)
    if isinstance(layer, Dense):
        copying.require_place(name, layer.b is not None, live.bias)


def _part(layer: Recurrent, n: int) -> Part:
    """A direction of what was found as the checks of `copy_weights` take it."""
    direction, cell = layer.directions[n], layer.cell
    hidden, width = direction.weights[cell.input_matrices[0]].shape
    options = {"input size": width, "hidden size": hidden, "projection": 0, "go_backwards": layer.backwards or n == 1}
    options |= dict(zip(("activation", "recurrent_activation"), direction.activations, strict=False))
    options |= {"merge_mode": layer.merge} if len(layer.directions) == 2 else {}
    return Part(layer, None, cell, any(name in direction.weights for name in cell.biases), options)


def _options(layer: Filler) -> dict[str, Any]:
    """What decides a layer's function beside the directions of a recurrent one."""
    if isinstance(layer, Embedding):
        return {"symbols": layer.E.shape[0], "width": layer.E.shape[1], "masking": layer.masks}
    if isinstance(layer, Dense):
        sizes = {"input size": layer.W.shape[1], "output size": layer.W.shape[0]}
        return sizes | {"activation": layer.activation if layer.said else None}
    ordered = layer.backwards and layer.returns_sequences is not False
    return {"order of outputs": _order(layer.flipped if ordered else None)}


def _values(framework: Any, page: Any, live: Live, layer: Filler) -> Iterator[tuple[Any, Any]]:
    """Each variable of a live layer with the value that it is to have."""
    if isinstance(layer, Recurrent):
        for n, part in enumerate(live.parts):
            weights = copying.filling(layer.name, _part(layer, n), layer.directions[n].weights, part.bias)
            yield from framework.pack(part, weights)
        return
    if isinstance(layer, Dense) and layer.b is None and live.bias:
        layer = replace(layer, b=np.zeros(len(layer.W), layer.W.dtype))
    yield from framework.values(live.layer, copying.finite(layer.name, page.arrays(layer)))


# The proof


def _proofs(alone: Callable[[Any, Array], tuple[Array, str]], by: str, pairs: list[Pair]) -> Iterator[Proof]:
    """Each filled layer run by itself, beside the equations with what was found; several layers in one as one."""
    runs: dict[int, list[Pair]] = {}
    for live, layer in pairs:
        runs.setdefault(id(live.layer), []).append((live, layer))
    for stack in runs.values():
        live = stack[-1][0]
        if callable(live.options.get("activation")) and not isinstance(live.options["activation"], Activation):
            continue  # a function of the user's own, which no equation here has
        x = proof.probe(stack[0][1])
        got, dtype = alone(live.layer, x)
        layers = [_alone(*pair, every=pair[0] is not live or got.ndim == 3) for pair in stack]
        name = live.name if len(stack) == 1 else place(live.name)[0]
        yield proof.prove(name, by, layers, x, got, dtype)


def _alone(live: Live, layer: Filler, every: bool) -> Filler:
    """What was found as a live layer is run: what is not decided there is as it is, and it hands on what it does."""
    if isinstance(layer, Recurrent):
        layer = replace(layer, returns_sequences=every)
        by_hand = live.parts[0].options["go_backwards"] is None
        return replace(layer, backwards=False, flipped=False) if by_hand else layer
    if isinstance(layer, Dense):
        return replace(layer, activation=live.options["activation"] or LINEAR)
    return replace(layer, masks=False)
