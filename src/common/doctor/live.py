"""A live model as what is found in a file, to be written into one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rnn_common.doctor import network, probe
from rnn_common.doctor.calls import apart, rounding, seen
from rnn_common.doctor.sides import side
from rnn_common.exchange import convert
from rnn_common.exchange.description import Found, Layer, Recurrent
from rnn_common.exchange.proof import Proof


def save(model: Any, path: Path | str) -> list[Proof]:
    """Write a live model into a file of any kind, and prove that it computes the same; see `rnn_torch.save`, `rnn_tf.save`."""
    return convert.write(found(model), Path(path)).proofs


def found(model: Any) -> Found:
    """What a live model is: its layers, and whether they follow each other, which is seen by running it.

    Raises:
        TypeError, ValueError: it holds no recurrent layer, or one that cannot be described; says what.
    """
    whose = side(model, type(model).__name__)
    call = probe.calls(whose, whose)[0]._replace(state=None)
    with whose.untouched():
        outputs = whose.run(call).outputs
        steps = network.steps(whose, call)
    layers, links = network.layers(steps), network.links(steps, outputs)
    said = tuple(_handing_on(layer, link) for layer, link in zip(layers, links, strict=True))
    chain = set(links) <= {network.EVERY, network.LAST}
    if chain:
        given = seen(said, call)
        chain = apart(whose.run(call), given) <= rounding(said, call, whose.dtype)
    return Found(Path(type(model).__name__), whose.framework, said if chain else layers, chain)


def _handing_on(layer: Layer, link: str) -> Layer:
    if not isinstance(layer, Recurrent):
        return layer
    return replace(layer, returns_sequences=link != network.LAST)
