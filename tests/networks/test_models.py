"""Networks as plain data: what they refuse, their weights' names and what these are at the start."""

import json

import numpy as np
import pytest

from rnn_common import networks
from rnn_common.networks import EncoderDecoder, Network, Stack, initial_weights, shapes

MODEL = Network(Stack("LSTM", 3, 40, bidirectional=True), 2, "sequence")


def test_models_as_plain_data():
    for model in (
        MODEL,
        EncoderDecoder(Stack("GRU v3", 5, 4, embedding=2), Stack("GRU", 6, 4, embedding=3)),
    ):
        assert networks.from_dict(json.loads(json.dumps(networks.to_dict(model)))) == model
    for bad in ({}, {"kind": "Network"}, {"kind": "Other"}, networks.to_dict(MODEL) | {"extra": 1}):
        with pytest.raises(ValueError, match="should be"):
            networks.from_dict(bad)


def test_weights_have_the_documents_names():
    network = Network(Stack("SimpleRNN", 9, 4, embedding=3, layers=2), 5, "steps")
    assert shapes(network) == {
        "E": (9, 3),
        "layer1/forward/W_xh": (4, 3),
        "layer1/forward/W_hh": (4, 4),
        "layer1/forward/b_h": (4,),
        "layer2/forward/W_xh": (4, 4),
        "layer2/forward/W_hh": (4, 4),
        "layer2/forward/b_h": (4,),
        "W_hy": (5, 4),
        "b_y": (5,),
    }


def test_weights_at_the_start():
    weights = initial_weights(MODEL, seed=1)
    for name, array in weights.items():
        last = name.rpartition("/")[2]
        if last == "b_f":
            np.testing.assert_array_equal(array, 1)
        elif last.startswith("b_"):
            np.testing.assert_array_equal(array, 0)
        elif last in ("W_hi", "W_hf", "W_hc", "W_ho"):
            np.testing.assert_allclose(array @ array.T, np.eye(40), atol=1e-12)
        else:
            bound = np.sqrt(6 / sum(array.shape))
            assert 0.8 * bound < np.abs(array).max() <= bound
    again = initial_weights(MODEL, seed=1, dtype="float32")
    assert all(np.array_equal(weights[name].astype("float32"), again[name]) for name in weights)
    assert not np.array_equal(weights["W_hy"], initial_weights(MODEL, seed=2)["W_hy"])


def test_biases_for_a_memory():
    """Forget gates of a length: σ(b_f) = 1 − 1/T for some T from 2 to the length, and i = 1 − f."""
    weights = initial_weights(MODEL, memory=100)
    for direction in ("forward", "backward"):
        b_f = weights[f"layer1/{direction}/b_f"]
        np.testing.assert_array_equal(weights[f"layer1/{direction}/b_i"], -b_f)
        steps = np.exp(b_f) + 1
        assert 2 <= steps.min() < 20
        assert 70 < steps.max() <= 100
    gru = initial_weights(Network(Stack("GRU", 3, 40), 2, "sequence"), memory=100)
    assert 70 < np.exp(gru["layer1/forward/b_z"]).max() + 1 <= 100
    np.testing.assert_array_equal(gru["layer1/forward/b_r"], 0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Stack("Elman", 3, 4), "cell should be one of"),
        (lambda: Stack("GRU", 0, 4), "inputs should be at least 1"),
        (lambda: Stack("GRU", 3, 4, layers=0), "layers should be at least 1"),
        (lambda: Stack("GRU", 3, 4, dropout=1.0), "dropout should be at least 0 and below 1"),
        (lambda: Network(Stack("GRU", 3, 4), 2, "vote"), "head should be one of"),
        (lambda: Network(Stack("GRU", 3, 4), 0, "steps"), "outputs should be at least 1"),
        (lambda: EncoderDecoder(Stack("GRU", 3, 4), Stack("GRU", 3, 4)), "should embed symbols"),
        (
            lambda: EncoderDecoder(Stack("GRU", 3, 4, 2, bidirectional=True), Stack("GRU", 3, 4, 2)),
            "decoder should be of cell, layers, hidden",
        ),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_weights_that_are_not_the_models(twin):
    weights = initial_weights(MODEL)
    for bad, said in (
        ({k: v for k, v in weights.items() if k != "b_y"}, "lacking"),
        (weights | {"W_xy": np.zeros(2)}, "unknown"),
        (weights | {"b_y": np.zeros(3)}, "b_y should have shape"),
        (weights | {"b_y": np.array([0, np.inf])}, "b_y should be finite"),
    ):
        with pytest.raises(ValueError, match=said):
            twin.build(MODEL, bad)
