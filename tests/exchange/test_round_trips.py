"""Generated models from file to file and back: what is read computes what was written, or it is refused for a known reason.

Hypothesis draws them, and two kinds of file: into the one, from there into the other, and back into the first. Each step writes
with its own proof, reads again, and holds what was read against what was written: what it says, its weights, what it computes.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from rnn_common import exchange, twins
from rnn_common.exchange import arrays_write, convert, proof
from rnn_common.exchange.description import LINEAR, NAMED, SOFTMAX, Dense, Embedding, Recurrent, default_activations
from tests.exchange.generated import models

ARRAYS, KERAS = (".npz", ".safetensors", ".pt"), (".keras", ".weights.h5")
NETWORKS = (*KERAS, ".onnx")
QUICK = tuple(kind for kind in (*ARRAYS, ".onnx") if kind != ".pt" or "torch" in twins.installed())
UNIT = float(np.finfo(np.float32).eps)


# What is refused, and nothing else


class Refusal(NamedTuple):
    """A reason for which a model is refused.

    Attributes:
        targets: the kinds of file that cannot hold it.
        of: the layers that are the reason, the first of which is named.
        says: what it is refused with; `{}` is the layer's name.
    """

    targets: tuple[str, ...]
    of: Callable[..., Iterable]
    says: str


def recurrent_layers(condition):
    return lambda found: [layer for layer in found.recurrent if condition(layer)]


REFUSALS = [
    Refusal(ARRAYS, recurrent_layers(lambda layer: layer.cell.name == "GRU v3"), "{} should be .* of the form GRU v3"),
    Refusal(ARRAYS, recurrent_layers(lambda layer: layer.backwards), "{} should be .* that runs backwards"),
    Refusal(ARRAYS, recurrent_layers(lambda layer: layer.merge != "concat"), "{} should be .* merges its directions"),
    Refusal(
        ARRAYS,
        recurrent_layers(
            lambda layer: any(each.activations != default_activations(layer.cell) for each in layer.directions)
        ),
        "{} should be .* with the activations",
    ),
    Refusal(NETWORKS, lambda found: found.in_the_way, "has {}, .*, too: name one layer"),
    Refusal(
        NETWORKS,
        lambda found: found.ours[:1] if not found.chain and len(found.ours) > 1 else (),
        "does not say which layer reads which",
    ),
    Refusal(
        (".onnx",),
        lambda found: [layer for layer in found.ours if isinstance(layer, (Embedding, Recurrent)) and layer.masks],
        "'{}' (skips symbol 0|can skip steps): write it with lengths",
    ),
    Refusal(
        KERAS,
        recurrent_layers(lambda layer: layer.backwards and not layer.flipped and layer.returns_sequences is not False),
        "{} should hand on its outputs in the order in which it runs",
    ),
    Refusal(
        KERAS,
        lambda found: [layer for layer in found.ours if not set(activations(layer)) <= {*NAMED.values(), SOFTMAX}],
        "{}: activation should be one of",
    ),
]


def activations(layer):
    if isinstance(layer, Recurrent):
        return [each for direction in layer.directions for each in direction.activations]
    return [layer.activation] if isinstance(layer, Dense) else []


def expected_refusals(found, kind):
    """What it may be refused with."""
    return [
        refusal.says.format(re.escape(layer.name))
        for refusal in REFUSALS
        if kind in refusal.targets
        for layer in refusal.of(found)
    ]


# What a file says of a layer, and what is held against it


def kept(layer, kind, alone):
    """What is read of a recurrent layer that was written; `alone` says that it is the only one of its stack."""
    name, _ = arrays_write.place(layer.name)
    if kind in ARRAYS:
        return replace(layer, name=name if alone else layer.name, returns_sequences=None, masks=None)
    if kind == ".onnx":
        return replace(layer, flipped=layer.flipped and layer.returns_sequences is not False, masks=False)
    if kind == ".keras":
        return replace(layer, name=layer.name.replace("/", "_"), flipped=layer.backwards)
    directions = tuple(replace(each, activations=default_activations(layer.cell)) for each in layer.directions)
    silent = {"backwards": False, "flipped": False, "merge": "concat", "returns_sequences": None, "masks": None}
    return replace(layer, directions=directions, **silent)


def said(layer, kind):
    names = ("name", "backwards", "flipped", "merge", "returns_sequences", "masks", "bias", "input_size", "hidden_size")
    about = {name: getattr(layer, name) for name in names} | {"activations": activations(layer)}
    about |= {"cell": layer.cell.name, "directions": len(layer.directions)}
    if (
        kind == ".weights.h5"
    ):  # Keras numbers the layers anew; without a bias both forms of the GRU have the same arrays
        about |= {"name": "", "cell": about["cell"] if layer.bias else about["cell"].removesuffix(" v3")}
    return about


def check_same(found, again, kind):
    """Hold what was read again against what was written."""
    stacks = Counter(arrays_write.place(layer.name)[0] for layer in found.recurrent)
    for layer, other in zip(found.recurrent, again.recurrent, strict=True):
        expected = kept(layer, kind, stacks[arrays_write.place(layer.name)[0]] == 1)
        masks = other.masks if layer.masks is None else expected.masks  # what was not known may be known now
        sequences = other.returns_sequences if layer.returns_sequences is None else expected.returns_sequences
        expected = replace(expected, masks=masks, returns_sequences=sequences)
        assert said(other, kind) == said(expected, kind)
        for direction in range(len(layer.directions)):
            check_close(other.parameters(direction), layer.parameters(direction))
        if kind not in (".keras", ".onnx"):  # which are run as a whole
            x = proof.probe(layer)
            expected = replace(expected, returns_sequences=None, cell=other.cell)
            other = replace(other, returns_sequences=None)
            assert proof.prove(layer.name, kind, [expected], x, exchange.run_chain([other], x)).holds
    others = {layer.name: layer for layer in again.ours}
    for layer in found.ours:
        other = others.get(layer.name)
        if isinstance(layer, Dense) and isinstance(other, Dense):
            check_close({"W": other.W, "b": other.b}, {"W": layer.W, "b": layer.b})
            assert other.said == (kind not in ARRAYS)
            assert other.activation == (layer.activation if other.said else LINEAR)
        elif isinstance(layer, Embedding) and kind != ".weights.h5":
            check_close({"E": other.E}, {"E": layer.E})
            assert other.masks == (None if kind in ARRAYS else bool(layer.masks))
    if kind in (".keras", ".onnx"):
        assert again.is_network
        assert [layer.name for layer in again.ours] == [
            layer.name.replace("/", "_" if kind == ".keras" else "/") for layer in found.ours
        ]
        x = padded(found.ours[0])
        assert proof.prove("network", kind, found.layers, x, exchange.run_chain(again.layers, x)).holds


def padded(first):
    """A probe; of symbols some are padding, in front, between and behind, and none of a sequence is all of it."""
    x = proof.probe(first)
    return np.where(np.arange(x.size).reshape(x.shape) % 3 == 1, 0, x) if isinstance(first, Embedding) else x


def check_close(got, expected):
    """The same numbers, but for float64's rounding to float32, and that of two biases that were added."""
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert (got[name] is None) == (array is None), name
        if array is not None:
            np.testing.assert_allclose(got[name], array, rtol=UNIT, atol=UNIT / 2, err_msg=name)


def step(found, kind):
    """Into a file and out of it again; None of what is refused for a known reason."""
    reasons = expected_refusals(found, kind)
    with tempfile.TemporaryDirectory() as folder:
        target, refused = Path(folder) / f"target{kind}", ""
        try:
            proofs = convert.write(found, target).proofs
        except ValueError as error:
            refused = str(error)
        assert bool(refused) == bool(reasons), refused or f"it should have been refused: {reasons}"
        if refused:
            assert any(re.search(reason, refused) for reason in reasons), f"a new refusal: {refused}"
            assert not list(Path(folder).iterdir())
            return None
        assert all(each.holds for each in proofs)
        again = exchange.read(target)
    check_same(found, again, kind)
    return again


def go(found, *kinds):
    for kind in kinds:
        found = step(found, kind) or found


@settings(max_examples=80)
@given(models(plain=True), st.sampled_from(QUICK), st.sampled_from(QUICK))
def test_what_all_files_hold(found, a, b):
    go(found, a, b, a)


def held_by(kind):
    """Models that a kind of file holds."""
    return models().filter(lambda found: not expected_refusals(found, kind))


@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(held_by(".onnx"), st.sampled_from(QUICK))
def test_through_onnx(found, other):
    go(found, ".onnx", other, ".onnx")


@pytest.mark.skipif("tf" not in twins.installed(), reason="needs Keras")
@settings(max_examples=8, suppress_health_check=[HealthCheck.filter_too_much])
@given(held_by(".keras"), st.sampled_from(QUICK))
def test_through_keras(found, other):
    go(found, ".keras", other, ".keras")


@pytest.mark.skipif("tf" not in twins.installed(), reason="needs Keras")
@settings(max_examples=6)
@given(models(plain=True), st.sampled_from(QUICK))
def test_through_the_weights_of_keras(found, other):
    go(found, other, ".weights.h5", other)


@pytest.mark.parametrize("index", range(len(REFUSALS)))
def test_each_refusal_happens(index):
    """A model that there is that reason for and no other."""
    refusal = REFUSALS[index]
    kind = refusal.targets[0]
    if convert.FRAMEWORKS.get(kind, "torch") not in twins.installed():
        pytest.skip(f"needs {convert.FRAMEWORKS[kind]}")

    def alone(found):
        return any(refusal.of(found)) and all(
            other is refusal or kind not in other.targets or not any(other.of(found)) for other in REFUSALS
        )

    first = settings(max_examples=2000, phases=[Phase.generate])
    assert step(find(models(), alone, settings=first), kind) is None
