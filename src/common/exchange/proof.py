"""A proof that what was written computes what was read: a probe, run by whoever the file is for, beside the equations.

The bound is measured on the network at hand, as how far a right run in float32 is from one in float64: trained weights may
amplify rounding a hundredfold. In a right run the activations are some units off, too: see `Rough`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.equations.arithmetic import State
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Activation, Dense, Embedding, Found, Layer, Recurrent
from rnn_common.exchange.forward import Ran, run_chain, run_layer
from rnn_common.parity.contract import deviation

Run = Callable[[Array], Array]
Given = TypeVar("Given")

BATCH, TIME, LARGEST = 3, 7, 3.0  # unlike each other and, mostly, unlike sizes; inputs that bend the activations
LENGTHS = (TIME, TIME // 2 + 1, 2)  # of a probe's sequences, where they have several
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
        run: whether it was run; if not its weights are compared with what was found, and the deviation is that of a weight.
            Default True.
        unsaid: what of it the file cannot hold, in words. Default empty.
    """

    name: str
    by: str
    deviation: float
    bound: float
    run: bool = True
    unsaid: str = ""

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
        off = exact if self.name in ("relu", "linear", "leaky_relu", "softsign") else exact + 1
        if self.name == "hard_sigmoid":  # where it is cut off it is so exactly
            off = off * ((exact > 0) & (exact < 1))
        return exact + UNIT * off


class Expected(NamedTuple):
    """What the equations give.

    Attributes:
        exact: in float64.
        rounded: in float32.
        rough: in float64, with activations that are as far off as a library's may be.
    """

    exact: Array
    rounded: Array
    rough: Array

    def bound(self, dtype: str = "float32") -> float:
        """How far a right run may be from `exact`, see `Proof`.

        What activations are off is taken as it is, not `FACTOR` times: all of them are off by the most that they may be, and to
        one side. Else a network of small outputs could be anything.

        Args:
            dtype: see `held`.
        """
        rounding, roughness = (_from(each, self.exact) for each in (self.rounded, self.rough))
        return (FACTOR * rounding + 4 * UNIT) * UNITS.get(dtype, UNIT) / UNIT + 2 * roughness


def _thrice(run: Callable[[Sequence[Layer], DTypeLike], Given], layers: Sequence[Layer]) -> tuple[Given, Given, Given]:
    """What `run` gives of layers and a dtype as `Expected` has it: exact, rounded, rough."""
    return run(layers, np.float64), run(layers, np.float32), run([*map(_rough, layers)], np.float64)


def _from(got: Array, exact: Array) -> float:
    """How far outputs are from the exact ones; those that are 0, as behind a relu, are not off by a multiple of themselves."""
    return deviation(got.astype(np.float64), exact, scale=UNIT)


def prove(name: str, by: str, layers: Sequence[Layer], x: Array, got: Array, dtype: str = "float32") -> Proof:
    """Hold what came of a probe against the equations.

    Args:
        name, by: see `Proof`.
        layers: one after the other, see `run_chain`.
        x: the probe.
        got: what came.
        dtype: see `held`.
    """
    runs = _thrice(lambda each, dtype: run_chain(each, x, dtype=dtype), layers)
    return held(name, by, Expected(*runs), got, dtype)


def held(name: str, by: str, expected: Expected, got: Array, dtype: str = "float32") -> Proof:
    """Hold outputs against those of the equations.

    Args:
        name, by: see `Proof`.
        expected: of the equations.
        got: what came.
        dtype: in which it was computed: a coarser one than float32 may round as much more coarsely. Default `"float32"`.
    """
    return Proof(name, by, _from(got, expected.exact), expected.bound(dtype))


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


def of_weights(name: str, expected: Mapping[str, Array], got: Mapping[str, Array], unsaid: str = "") -> Proof:
    """That a layer's weights are bit for bit what was found, in the dtype in which they are written.

    Args:
        name, unsaid: see `Proof`.
        expected: what was found, by the names of the file's arrays.
        got: all that the file holds.
    """
    off = max(_off(array, got.get(key)) for key, array in expected.items())
    return Proof(name, "its weights read again", off, 0.0, run=False, unsaid=unsaid)


def _off(expected: Array, got: Array | None) -> float:
    """How far one array is from another, infinitely so where they are not to be compared; 0 only of the same bits."""
    if got is None or got.shape != expected.shape or got.dtype.kind != expected.dtype.kind:
        return np.inf
    rounded = expected.astype(got.dtype)
    if np.ascontiguousarray(rounded).tobytes() == np.ascontiguousarray(got).tobytes():
        return 0.0
    far = deviation(got.astype(np.float64), rounded.astype(np.float64))
    return far if far > 0 else np.inf  # NaN, or −0 for 0


def of_graph(
    found: Found,
    by: str,
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    *,
    states: bool = False,
    lengths: bool = False,
) -> list[Proof]:
    """The same of a network with inputs and outputs by the names of `onnx_write.write`, and of every output of it.

    Args:
        found: what was written.
        by: see `Proof`.
        run: what gives its outputs.
        states: from initial states that are not zero. Default False.
        lengths: of sequences of several lengths. Default False.
    """
    given = {"x": probe(found.ours[0])}
    if lengths:
        given["lengths"] = np.array(LENGTHS, np.int32)
    if states:
        given |= _initial(found.recurrent)

    def outputs(layers: Sequence[Layer], dtype: DTypeLike) -> dict[str, Array]:
        initial = _by_layer(found.recurrent, given) if states else None
        y, final = run_with_states(layers, given["x"], initial, given.get("lengths"), dtype)
        return {"y": y} | (_stacked(found.recurrent, final) if states else {})

    got, name = run(given), found.path.name
    runs = _thrice(outputs, found.layers)
    return [
        held(name if each == "y" else f"{each} of {name}", by, Expected(*(ran[each] for ran in runs)), got[each])
        for each in runs[0]
    ]


def run_with_states(
    layers: Sequence[Layer],
    x: Array,
    states: Sequence[Sequence[State]] | None,
    lengths: Array | None = None,
    dtype: DTypeLike = np.float64,
) -> tuple[Array, list[tuple[State, ...]]]:
    """`run_chain` from initial states.

    Args:
        layers, x, lengths, dtype: see `run_chain`.
        states: of each recurrent layer, see `run_layer`. None is zeros.

    Returns:
        The outputs, and of each recurrent layer the final state of its directions.
    """
    final: list[tuple[State, ...]] = []

    def run(layer: Recurrent, x: Array, lengths: Array | None, dtype: DTypeLike) -> Ran:
        ran = run_layer(layer, x, None if states is None else states[len(final)], lengths, dtype)
        final.append(ran.final)
        return ran

    return run_chain(layers, x, lengths, dtype, run), final


def _initial(layers: Sequence[Recurrent], seed: int = 1) -> dict[str, Array]:
    """States to start from, up to 1, of all layers and directions: `h_0` and, where a layer has it, `c_0`."""
    random = np.random.default_rng(seed)
    given = {}
    for part in dict.fromkeys(part for layer in layers for part in layer.cell.states):
        count = sum(len(layer.directions) for layer in layers if part in layer.cell.states)
        size = count, BATCH, layers[0].hidden_size
        given[f"{part}_0"] = random.uniform(-1, 1, size).astype(np.float32)
    return given


def _by_layer(layers: Sequence[Recurrent], given: Mapping[str, Array]) -> list[list[State]]:
    """The states of each layer and direction."""
    rows = {name.removesuffix("_0"): iter(array) for name, array in given.items()}
    return [[tuple(next(rows[part]) for part in layer.cell.states) for _ in layer.directions] for layer in layers]


def _stacked(layers: Sequence[Recurrent], final: Sequence[Sequence[State]]) -> dict[str, Array]:
    """The final states of all layers and directions: `h_n` and, where a layer has it, `c_n`."""
    rows: dict[str, list[Array]] = {}
    for layer, directions in zip(layers, final, strict=True):
        for state in directions:
            for part, h in zip(layer.cell.states, state, strict=True):
                rows.setdefault(f"{part}_n", []).append(h)
    return {name: np.stack(each) for name, each in rows.items()}


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
