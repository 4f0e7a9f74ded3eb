"""What a user may hand to the doctor by mistake: an error that says what is wrong, and nothing of theirs changed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn

from rnn_common.doctor import Seen, Side, diagnose

X = np.random.default_rng(0).uniform(-3, 3, (3, 6, 5)).astype(np.float32)


def _layer(kind: Any = nn.LSTM, input_size: int = 5, hidden_size: int = 7, **options: Any) -> Any:
    torch.manual_seed(3)
    return kind(input_size, hidden_size, batch_first=True, **options)


def _not_a_number() -> nn.Module:
    layer = _layer()
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = float("nan")
    return layer


def _keras_symbols(**options: Any) -> Any:
    return keras.Sequential([keras.Input((None,)), keras.layers.Embedding(11, 5, **options), keras.layers.LSTM(7)])


def _raises(x: Any) -> Any:
    raise KeyError("theirs")


BAD: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "NaN among the weights": (_not_a_number, {}, "b should have finite weights, got W_hi of b with NaN or infinity"),
    "meta device": (lambda: _layer(device="meta"), {}, "should hold numbers, got one on the meta device"),
    "not built": (lambda: keras.layers.LSTM(7), {}, "should have been built"),
    "a cell of Keras": (lambda: keras.layers.LSTMCell(7), {}, "b should hold a recurrent layer, got LSTMCell"),
    "a cell of PyTorch": (lambda: nn.LSTMCell(5, 7), {}, "b should hold a recurrent layer, got LSTMCell"),
    "another input": (lambda: _layer(input_size=6), {}, "x should be .batch, time, 6. for b, got .3, 6, 5."),
    "a name for what is no file": (_layer, {"layer_b": "lstm"}, "layer_b should be given for a file, got it for LSTM"),
    "a name that is no string": (_layer, {"layer_b": 3}, "layer_b should be what names of layers begin with, got int"),
    "x of two axes": (_layer, {"x": X[0]}, "x should be .batch, time, 5. for a, got .6, 5."),
    "x of another width": (_layer, {"x": X[..., :4]}, "x should be .batch, time, 5. for a, got .3, 6, 4."),
    "x of integers": (_layer, {"x": np.ones((3, 6, 5), int)}, "x should hold floating-point numbers for a, got int64"),
    "x of complex numbers": (_layer, {"x": X + 1j}, "x should hold floating-point numbers or symbols, got complex64"),
    "x of words": (_layer, {"x": "x"}, "x should hold floating-point numbers or symbols, got <U1"),
    "x with NaN": (_layer, {"x": X * np.nan}, "x should be finite, got NaN or infinity"),
    "x without sequences": (_layer, {"x": X[:0]}, "not empty, got .0, 6, 5."),
    "x without steps": (_layer, {"x": X[:, :0]}, "not empty, got .3, 0, 5."),
    "a length of 0": (_layer, {"lengths": [6, 0, 1]}, "lengths should be from 1 to 6, got 0 to 6"),
    "a length too long": (_layer, {"lengths": [7, 1, 1]}, "lengths should be from 1 to 6, got 1 to 7"),
    "too few lengths": (_layer, {"lengths": [1, 2]}, r"lengths should have shape \(3,\), got \(2,\)"),
    "lengths that are no integers": (_layer, {"lengths": [1.5, 2, 3]}, "lengths should be integers, got float64"),
    "seconds of a word": (_layer, {"seconds": "soon"}, "seconds should be a number, got str"),
    "seconds below 0": (_layer, {"seconds": -1}, "seconds should be at least 0, got -1"),
    "a function that raises": (lambda: _raises, {}, "x should be what b takes, got float32 .3, 6, 5.: KeyError"),
    "a function of nothing": (
        lambda: lambda x: None,
        {},
        "b should give floating-point outputs of 2 or 3 axes, got object",
    ),
    "a function of integers": (
        lambda: lambda x: x.astype(int),
        {},
        "b should give floating-point outputs .* got int64",
    ),
    "a side of lists": (
        lambda: Side("b", lambda call: Seen([[1]])),
        {},
        "b should give floating-point outputs .* got int64",
    ),  # type: ignore[arg-type]
    "a side of a dtype that is none": (
        lambda: Side("b", lambda call: Seen(call.x), dtype="int8"),
        {},
        "dtype of b should be one of float64, float32, float16, bfloat16, got 'int8'",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_named(what: str) -> None:
    b, options, message = BAD[what]
    if "lengths" in options:
        options = {"x": X} | options
    with pytest.raises((TypeError, ValueError), match=message):
        diagnose(_layer(), b(), **options)


@pytest.mark.parametrize(
    ("options", "x", "message"),
    [
        ({}, [[1, 20]], "x should hold symbols from 0 to 10 for a, got 1 to 20"),
        ({}, [[1, -2]], "x should hold symbols from 0 to 10 for a, got -2 to 1"),
        ({}, [[1.0, 2.0]], "x should hold symbols, which are integers, for a, got float64"),
        ({"mask_zero": True}, [[1, 2], [0, 0]], "x should have other symbols than 0, which a skips, in every sequence"),
    ],
)
def test_bad_symbols_are_named(options: dict[str, Any], x: Any, message: str) -> None:
    model = _keras_symbols(**options)
    with pytest.raises((TypeError, ValueError), match=message):
        diagnose(model, model, x=x)


@pytest.mark.parametrize(
    ("a", "b", "note"),
    [
        (_layer(), _layer(nn.GRU), "b should be of LSTM as a is, got GRU."),
        (_layer(), _layer(hidden_size=8), "b should be of 5 → 7 as a is, got 5 → 8."),
        (_layer(), _layer(bidirectional=True), "b should have 1 directions, got 2."),
        (_layer(), _layer(num_layers=2), "a is LSTM, b is LSTM → LSTM."),
    ],
    ids=["cell", "hidden size", "directions", "layers"],
)
def test_what_cannot_be_equal_is_said_to_be_something_else(a: Any, b: Any, note: str) -> None:
    report = diagnose(a, b, seconds=1)
    assert report.verdict == "unexplained"
    assert note in report.notes
    assert str(report)


def test_a_model_in_training_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.LSTM(5, 7, batch_first=True))
    a = deepcopy(model).eval()
    before, random = deepcopy(model.state_dict()), torch.get_rng_state()
    assert diagnose(a, model, seconds=1).verdict != "equal"
    assert all(each.training for each in model.modules())
    assert not a.training
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not any(each._forward_hooks for each in model.modules())


def test_a_keras_model_that_draws_or_keeps_a_state_is_left_as_it_was() -> None:
    layers = [keras.Input(batch_shape=(3, None, 5)), keras.layers.LSTM(7, stateful=True, return_sequences=True)]
    model = keras.Sequential(layers)

    class Drawing(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.dropout = model, keras.layers.Dropout(0.5)

        def call(self, x: Any) -> Any:
            return self.dropout(self.model(x), training=True)

    drawing = Drawing()
    drawing(X)
    before = [keras.ops.convert_to_numpy(each) for each in drawing.variables]
    assert diagnose(drawing, drawing, x=X, seconds=1).verdict != "equal"
    assert all(
        (keras.ops.convert_to_numpy(each) == old).all() for each, old in zip(drawing.variables, before, strict=True)
    )
    assert "call" not in vars(layers[1])


def test_networks_that_are_no_chain() -> None:
    """A flattened output, several heads, a layer that is called in a loop: what goes on is not the whole output."""
    flat = keras.Input((9, 5))
    several = keras.Input((None, 5))
    y = keras.layers.LSTM(7)(several)
    sequence = keras.layers.LSTM(7, return_sequences=True)(flat)
    models = [
        keras.Model(flat, keras.layers.Dense(2)(keras.layers.Flatten()(sequence))),
        keras.Model(several, [y, keras.layers.Dense(2)(y)]),
    ]

    class Loop(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = keras.layers.LSTM(7, return_sequences=True, return_state=True)
            self.head = keras.layers.Dense(5)

        def call(self, x: Any) -> Any:
            y, *state = self.recurrent(x)
            steps = [self.head(y[:, -1:])]
            for _ in range(2):
                y, *state = self.recurrent(steps[-1], initial_state=state)
                steps.append(self.head(y))
            return tf.concat(steps, 1)

    models.append(loop := Loop())
    x = np.concatenate([X, X[:, :3]], 1)
    loop(x)
    for model in models:
        assert diagnose(model, model, x=x, seconds=1).verdict == "equal"


def test_functions_of_the_users_own_for_activations_and_cells() -> None:
    def steeper(x: Any) -> Any:
        return tf.tanh(2 * x)

    keras.utils.set_random_seed(0)
    a, b = (keras.layers.LSTM(7, return_sequences=True, activation=each) for each in ("tanh", steeper))
    for each in (a, b):
        each.build((None, None, 5))
    b.set_weights(a.get_weights())
    report = diagnose(a, b, seconds=5)
    assert (report.verdict, [cause.name for cause in report.causes]) == ("explained", ["activation steeper, not tanh"])
    assert diagnose(b, b, seconds=0).verdict == "equal"


def test_a_long_sequence_ends_in_time() -> None:
    layer = _layer(num_layers=2, bidirectional=True)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 60, 5)).astype(np.float32)
    report = diagnose(layer, deepcopy(layer), x=x, seconds=0.2)
    assert report.verdict == "equal"
    assert "the time ended before it was known of them" in report.blind[-1]


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        diagnose(_layer(), tmp_path / "none.pt")
