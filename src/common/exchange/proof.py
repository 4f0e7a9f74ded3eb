"""A proof that what was written computes what was read: a probe, run by whoever the file is for, beside the equations.

The bound is measured on the network at hand, as how far a right run in float32 is from one in float64: trained weights may
amplify rounding a hundredfold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Embedding, Found, Recurrent
from rnn_common.exchange.forward import run_chain
from rnn_common.parity.contract import deviation

Run = Callable[[Array], Array]

BATCH, TIME, LARGEST = 3, 7, 3.0  # unlike each other and, mostly, unlike sizes; inputs that bend the activations
FACTOR = 8.0  # how many times as far as the equations in float32 another order of sums may be
UNIT = float(np.finfo(np.float32).eps)
BY = {"torch": "PyTorch", "tf": "Keras"}  # who runs a twin's layers
# Of what rounds coarser than float32: TF32 is what a GPU may multiply float32 in.
UNITS = {"float16": 2.0**-10, "tf32": 2.0**-10, "bfloat16": 2.0**-7}


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


def prove(
    name: str, by: str, expected: Callable[[Any], Array], got: Array, scale: float = 0.0, dtype: str = "float32"
) -> Proof:
    """Hold what came of a probe against the equations.

    Args:
        name, by: see `Proof`.
        expected: the equations on that probe, in the arithmetic of the dtype that it is given.
        got: what came.
        scale: the least that counts as the largest output. Default 0.
        dtype: in which it was computed: a coarser one than float32 may be as much farther as it is coarser. Default `"float32"`.
    """
    exact = expected(np.float64)
    rounding = deviation(expected(np.float32).astype(np.float64), exact, scale)
    bound = (FACTOR * rounding + 4 * UNIT) * UNITS.get(dtype, UNIT) / UNIT
    return Proof(name, by, deviation(got.astype(np.float64), exact, scale), bound)


def of_network(found: Found, by: str, run: Run) -> list[Proof]:
    """That a whole network computes what was found."""
    x = probe(found.ours[0])
    return [
        prove(found.path.name, by, lambda dtype: run_chain(found.layers, x, dtype=dtype), run(x), scale(found.ours[-1]))
    ]


def scale(last: Recurrent | Embedding | Dense) -> float:
    """The least that counts as the largest output of what ends with a layer.

    What is right of numbers from 0 to 1 is not their logarithm: ONNX Runtime's σ is 1e-8 off, however small it is.
    """
    return 1.0 if isinstance(last, Dense) and last.activation.name in ("sigmoid", "hard_sigmoid", "softmax") else 0.0


def of_layers(layers: Sequence[Recurrent], by: str, run: Callable[[int, Array], Array]) -> list[Proof]:
    """That each of some recurrent layers does by itself: `run` is given its place among them and its input."""
    proofs = []
    for n, layer in enumerate(layers):
        x = probe(layer)
        expected = partial(_alone, layer, x)
        proofs.append(prove(layer.name, by, expected, run(n, x)))
    return proofs


def _alone(layer: Recurrent, x: Array, dtype: DTypeLike) -> Array:
    return run_chain([layer], x, dtype=dtype)


def probe(layer: Recurrent | Embedding | Dense, seed: int = 0) -> Array:
    """What a layer is run on: features up to 3 in float32, or symbols."""
    random = np.random.default_rng(seed)
    if isinstance(layer, Embedding):
        return random.integers(min(1, len(layer.E) - 1), len(layer.E), (BATCH, TIME))
    width = layer.input_size if isinstance(layer, Recurrent) else layer.W.shape[1]
    return random.uniform(-LARGEST, LARGEST, (BATCH, TIME, width)).astype(np.float32)
