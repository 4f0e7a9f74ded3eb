"""A proof that what was written computes what was read: a probe, run by whoever the file is for, beside the equations.

The bound is measured on the network at hand, as how far a right run in float32 is from one in float64: trained weights may
amplify rounding a hundredfold. In a right run the activations are some units off, too: see `Rough`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Activation, Dense, Embedding, Found, Layer, Recurrent
from rnn_common.exchange.forward import run_chain
from rnn_common.parity.contract import deviation

Run = Callable[[Array], Array]

BATCH, TIME, LARGEST = 3, 7, 3.0  # unlike each other and, mostly, unlike sizes; inputs that bend the activations
FACTOR = 8.0  # how many times as far as the equations in float32 another order of sums may be
UNIT = float(np.finfo(np.float32).eps)


class Proof(NamedTuple):
    """How far one is from the equations.

    Attributes:
        name: of the layer, or of the whole network.
        by: who ran it.
        deviation: max|a − b| / max|b| from the equations in float64.
        bound: how far it may be.
    """

    name: str
    by: str
    deviation: float
    bound: float

    @property
    def holds(self) -> bool:
        """Where the equations overflow in float32 there is no bound, and so no proof."""
        return self.deviation <= self.bound < np.inf


class ProofFailed(Exception):
    """What was written does not compute what was read; nothing was left behind."""


@dataclass(frozen=True)
class Rough(Activation):
    """An activation as a library may compute it: a unit in the last place off.

    Those that are computed out of numbers around 1, as e^a − 1 is, are a unit of 1 off, however small they are: ONNX Runtime's
    tanh of 1e-3 is 1e-7 off.
    """

    def __call__(self, a: Array) -> Array:
        exact = super().__call__(a)
        of_1 = self.name not in ("relu", "linear", "leaky_relu", "softsign")
        return exact + exact.dtype.type(UNIT) * (exact + of_1)


def prove(name: str, by: str, layers: Sequence[Layer], x: Array, got: Array) -> Proof:
    """Hold what came of a probe against the equations.

    Args:
        name, by: see `Proof`.
        layers: one after the other, see `run_chain`.
        x: the probe.
        got: what came.
    """
    exact = run_chain(layers, x)
    rough = run_chain([*map(_rough, layers)], x, dtype=np.float32)
    # Outputs that are 0, as behind a relu, are not off by a multiple of themselves.
    rounding, off = (deviation(each.astype(np.float64), exact, scale=UNIT) for each in (rough, got))
    return Proof(name, by, off, FACTOR * rounding + 4 * UNIT)


def _rough(layer: Layer) -> Layer:
    if isinstance(layer, Dense):
        return replace(layer, activation=Rough(**vars(layer.activation)))
    if isinstance(layer, Recurrent):
        roughly = (
            replace(each, activations=tuple(Rough(**vars(one)) for one in each.activations))
            for each in layer.directions
        )
        return replace(layer, directions=tuple(roughly))
    return layer


def of_network(found: Found, by: str, run: Run) -> list[Proof]:
    """That a whole network computes what was found."""
    x = probe(found.ours[0])
    return [prove(found.path.name, by, found.layers, x, run(x))]


def of_layers(layers: Sequence[Recurrent], by: str, run: Callable[[int, Array], Array]) -> list[Proof]:
    """That each of some recurrent layers does by itself: `run` is given its place among them and its input."""
    probes = [probe(layer) for layer in layers]
    return [
        prove(layer.name, by, [layer], x, run(n, x)) for n, (layer, x) in enumerate(zip(layers, probes, strict=True))
    ]


def probe(layer: Recurrent | Embedding | Dense, seed: int = 0) -> Array:
    """What a layer is run on: features up to 3 in float32, or symbols."""
    random = np.random.default_rng(seed)
    if isinstance(layer, Embedding):
        return random.integers(min(1, len(layer.E) - 1), len(layer.E), (BATCH, TIME))
    width = layer.input_size if isinstance(layer, Recurrent) else layer.W.shape[1]
    return random.uniform(-LARGEST, LARGEST, (BATCH, TIME, width)).astype(np.float32)
