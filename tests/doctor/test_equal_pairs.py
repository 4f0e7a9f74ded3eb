"""Negative controls: two that are equal are never called different, and the least that is wrong is not called equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import rnn_tf
import rnn_torch
from rnn_common.copying import copy_weights
from rnn_common.doctor import Report, diagnose
from tests.doctor.pairs import CLASSES, SIDES, Pair, put

SHAPES = ((1, 1), (2, 1), (1, 2), (2, 2))
ACTIVATIONS = (("relu", "sigmoid"), ("tanh", "hard_sigmoid"), ("tanh", "hard_sigmoid_keras2"))
DTYPES = (
    ("float64", "float64"),
    ("bfloat16", "bfloat16"),
    ("float16", "float16"),
    ("float64", "float32"),
    ("float32", "float64"),
    ("bfloat16", "float32"),
    ("float32", "bfloat16"),
    ("float16", "bfloat16"),
)
UNLIKE = [(a, b) for a, b in product(SIDES, SIDES) if a < b]
BESIDE = cycle(
    [("torch.nn", "keras.layers"), ("keras.layers", "rnn_torch"), ("rnn_tf", "torch.nn"), ("rnn_torch", "rnn_tf")]
)
BESIDE_V3 = cycle([("keras.layers", "rnn_torch"), ("rnn_tf", "keras.layers"), ("rnn_torch", "rnn_tf")])


def _beside(cell: str) -> tuple[str, str]:
    return next(BESIDE_V3 if cell == "GRU v3" else BESIDE)


# Each kind of pair by all cells, a pair of sides for each in turn.
PAIRS = [
    *(Pair(cell, sides) for cell, sides in product(CLASSES, UNLIKE)),
    *(Pair(cell, _beside(cell), *shape) for cell, shape in product(CLASSES, SHAPES)),
    *(Pair(cell, _beside(cell), dtypes=dtypes) for cell, dtypes in product(CLASSES, DTYPES)),
    *(Pair(cell, _beside(cell), scale=scale) for cell, scale in product(CLASSES, (0.1, 4.0, 20.0))),
    *(Pair(cell, _beside(cell), biases=biases) for cell, biases in product(CLASSES, ("none", "zero", "one"))),
    *(Pair(cell, ("keras.layers", "rnn_torch"), activations=each) for cell, each in product(CLASSES, ACTIVATIONS)),
    *(Pair(cell, ("keras.layers", "rnn_torch"), time=1) for cell in CLASSES),
    *(Pair(cell, ("torch.nn", "rnn_torch"), time=200, scale=scale) for cell in CLASSES for scale in (1.0, 4.0)),
    Pair("LSTM", ("keras.layers", "torch.nn"), time=50),
    # Rounding that grows with every step, or overflows: less of the sequence is compared.
    Pair("SimpleRNN", ("torch.nn", "rnn_torch"), scale=4.0, activations=("relu", "sigmoid"), time=200),
    Pair("GRU", ("rnn_torch", "torch.nn"), dtypes=("float16", "float16"), scale=20.0, time=200, seed=930),
    Pair(
        "GRU",
        ("rnn_torch", "rnn_torch"),
        dtypes=("float16", "bfloat16"),
        scale=20.0,
        biases="zero",
        activations=("relu", "hard_sigmoid_keras2"),
        seed=524,
    ),
]


def _named(pair: Pair) -> str:
    return "-".join(
        str(each) for each in (pair.cell, *pair.sides, pair.directions, pair.layers, *pair.dtypes, pair.scale)
    )


def _quickly(a: Any, b: Any, **options: Any) -> Report:
    """What the verdict is, without what the probe could not have shown."""
    return diagnose(a, b, seconds=0, **options)


@pytest.mark.parametrize("pair", [each for each in PAIRS if each.exists], ids=_named)
@pytest.mark.filterwarnings("ignore::rnn_common.packings.MergedBiasesWarning")
def test_equal_pairs_are_equal(pair: Pair) -> None:
    report = _quickly(*pair.build(), x=pair.x)
    assert report.verdict == "equal", str(report)
    assert report.bound < 1


def test_of_layers_that_amplify_rounding_the_first_steps_are_compared() -> None:
    pair = Pair("SimpleRNN", ("torch.nn", "rnn_torch"), scale=4.0, activations=("relu", "sigmoid"), time=200)
    a, b = pair.build()
    report = _quickly(a, b, x=pair.x)
    assert report.verdict == "equal"
    assert "of 200 steps are compared" in " ".join(report.notes)
    put(b.bias_ih_l0, b.bias_ih_l0.detach().numpy() + 1e-3)
    assert _quickly(a, b, x=pair.x).verdict != "equal"


def _bias_a_percent_more(layer: nn.Module) -> None:
    layer.bias_ih_l0[3] *= 1.01


def _bias_a_thousandth_more(layer: nn.Module) -> None:
    layer.bias_ih_l0[8] += 1e-3  # of an LSTM b_f's


def _recurrent_weight_a_percent_off(layer: nn.Module) -> None:
    layer.weight_hh_l0[2, 3] *= 0.99


def _weight_a_percent_off(layer: nn.Module) -> None:
    layer.weight_ih_l0[4, 1] *= 1.01


LEAST = (_bias_a_percent_more, _bias_a_thousandth_more, _recurrent_weight_a_percent_off, _weight_a_percent_off)


@pytest.mark.parametrize("fault", LEAST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "GRU v3"])
@pytest.mark.filterwarnings("ignore::rnn_common.packings.MergedBiasesWarning")
def test_the_least_that_is_wrong_is_not_called_equal(cell: str, dtype: str, fault: Callable[[Any], None]) -> None:
    a, b = Pair(cell, ("keras.layers", "rnn_torch"), dtypes=(dtype, dtype)).build()
    with torch.no_grad():
        fault(b)
    assert _quickly(a, b).verdict == "different weights"


def _networks() -> tuple[Any, Any]:
    """Embedding, both directions of a GRU, a head on the last output: in Keras and in PyTorch."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None,)),
            keras.layers.Embedding(11, 5),
            keras.layers.Bidirectional(keras.layers.GRU(7)),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    embedding, recurrent, head = model.layers

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 5)
            self.recurrent = nn.GRU(5, 7, batch_first=True, bidirectional=True)
            self.head = nn.Linear(14, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            _, h = self.recurrent(self.embedding(x))
            return torch.softmax(self.head(torch.cat([h[0], h[1]], -1)), -1)

    network = Network()
    copy_weights(recurrent, network.recurrent)
    put(network.embedding.weight, np.array(embedding.embeddings))
    put(network.head.weight, np.array(head.kernel).T.copy())
    put(network.head.bias, np.array(head.bias))
    return model, network


def test_networks_files_and_what_is_loaded_of_them_are_equal(tmp_path: Path) -> None:
    model, network = _networks()
    model.save(path := tmp_path / "model.keras")
    torch.save(network.state_dict(), weights := tmp_path / "network.pt")
    loaded = rnn_torch.load(path), rnn_tf.load(path)
    for a, b in ((model, network), (network, model), (path, model), (network, path), loaded):
        report = _quickly(a, b)
        assert report.verdict == "equal", str(report)
    report = _quickly(weights, network)  # which does not say what is behind its last layer, nor whether 0 is padding
    assert [cause.name for cause in report.causes] == ["softmax of the output handed on, not every output"]
    with torch.no_grad():
        network.head.weight[1, 0] += 1e-3
    assert _quickly(model, network).verdict == "different weights"


@pytest.mark.parametrize(
    "pair", [replace(PAIRS[0], dtypes=("float64", "float64")), PAIRS[0]], ids=["float64", "float32"]
)
def test_the_bound_is_near_what_rounding_does(pair: Pair) -> None:
    report = _quickly(*pair.build())
    assert 0 < report.bound < 30 * {"float64": 2.0**-52, "float32": 2.0**-23}[pair.dtypes[0]]
