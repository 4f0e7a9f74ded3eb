"""The proof of a small network sees what is wrong with the file: planted in what is written, each fault leaves no file.

Of networks with ordinary weights, and with weights so small that a unit of an activation is a ten-thousandth of the outputs.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("onnx")

from rnn_common.exchange import convert, onnx_write
from rnn_common.exchange.description import Dense, Found
from rnn_common.exchange.proof import ProofFailed
from rnn_common.twins import page
from tests.exchange.described import recurrent

ORDINARY, SMALL = 1.0, 1e-3


def network(cell, scale):
    """A recurrent layer and a dense one behind it, their weights times a scale."""
    random = np.random.default_rng(0)
    head = Dense("head", random.uniform(-1, 1, (2, 4)).astype(np.float32), random.uniform(-1, 1, 2).astype(np.float32))
    head = replace(head, W=head.W * np.float32(scale), b=head.b * np.float32(scale * scale))
    layer = with_weights(recurrent(cell), lambda weights: {name: W * np.float32(scale) for name, W in weights.items()})
    return Found(Path("a.h5"), "a test", (layer, head), chain=True)


def with_weights(layer, change):
    (direction,) = layer.directions
    return replace(layer, directions=(replace(direction, weights=change(dict(direction.weights))),))


def nothing(layer, head):
    return layer, head


def bias_of(place):
    """The largest number of the bias at that place, 1 % off."""

    def off(b):
        return np.where(np.abs(b) == np.abs(b).max(), b * np.float32(1.01), b)

    def fault(layer, head):
        name = layer.cell.biases[place]
        return with_weights(layer, lambda weights: weights | {name: off(weights[name])}), head

    return fault


# The bias of a gate that is multiplied with a small state is seen among ordinary weights alone.
A_GATES_BIAS, THE_CANDIDATES_BIAS = bias_of(1), bias_of(2)


def two_gates(layer, head):
    """The blocks of two gates in each other's place, in one matrix."""
    one, other = layer.cell.input_matrices[:2]
    return with_weights(layer, lambda weights: weights | {one: weights[other], other: weights[one]}), head


def scaled(layer, head):
    """Outputs that are a thousandth off."""
    return layer, replace(head, W=head.W * np.float32(1.001), b=head.b * np.float32(1.001))


def plant(fault, kind, monkeypatch):
    """Have what is written be another network than what is proven."""
    if kind == ".onnx":
        right = onnx_write.write
        monkeypatch.setattr(onnx_write, "write", lambda layers, path, **inputs: right(fault(*layers), path, **inputs))
        return
    keras, build = page("tf"), page("tf").model

    def wrong(found, **options):
        return build(replace(found, layers=fault(*found.layers)), **options)

    monkeypatch.setattr(keras, "model", wrong)


FAULTS = {
    "nothing": (nothing, (ORDINARY, SMALL)),
    "a gate's bias": (A_GATES_BIAS, (ORDINARY,)),
    "the candidate's bias": (THE_CANDIDATES_BIAS, (ORDINARY, SMALL)),
    "two gates": (two_gates, (ORDINARY, SMALL)),
    "scaled": (scaled, (ORDINARY, SMALL)),
}


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, (_, scales) in FAULTS.items() for scale in scales])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize("kind", [".onnx", ".keras"])
def test_what_a_proof_sees(kind, cell, name, scale, tmp_path, monkeypatch):
    pytest.importorskip({".onnx": "onnxruntime", ".keras": "keras"}[kind])
    fault, _ = FAULTS[name]
    plant(fault, kind, monkeypatch)
    if fault is nothing:
        convert.write(network(cell, scale), tmp_path / f"b{kind}")
        return
    with pytest.raises(ProofFailed, match=f"b{kind} should compute what a.h5 does"):
        convert.write(network(cell, scale), tmp_path / f"b{kind}")
    assert not list(tmp_path.iterdir())
