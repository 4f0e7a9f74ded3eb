"""Cells of TensorFlow 1 and of Paddle, against the equations as those frameworks compute them, written out here."""

import numpy as np
import pytest

from rnn_common import equations, exchange
from rnn_common.cells import CELLS
from rnn_common.equations import sigmoid
from rnn_common.exchange.contents import NotUnderstood
from rnn_common.old_packings import TF_1, pack_tf1, unpack_tf1
from rnn_common.packings import from_torch
from rnn_common.weights import initialise

I, H, B, T = 3, 5, 2, 4
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((B, T, I))


def numbers(*shape):
    return RANDOM.uniform(-1, 1, shape)


def basic_lstm_cell(x, kernel, bias, forget_bias=1.0):
    """TensorFlow 1's BasicLSTMCell, and its LSTMCell without peepholes."""
    c = h = np.zeros((len(x), len(bias) // 4))
    outputs = []
    for t in range(x.shape[1]):
        i, j, f, o = np.split(np.concatenate([x[:, t], h], 1) @ kernel + bias, 4, axis=1)
        c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        outputs.append(h)
    return np.stack(outputs, 1)


def gru_cell(x, gate_kernel, gate_bias, candidate_kernel, candidate_bias):
    """TensorFlow 1's GRUCell."""
    h = np.zeros((len(x), len(candidate_bias)))
    outputs = []
    for t in range(x.shape[1]):
        r, u = np.split(sigmoid(np.concatenate([x[:, t], h], 1) @ gate_kernel + gate_bias), 2, axis=1)
        c = np.tanh(np.concatenate([x[:, t], r * h], 1) @ candidate_kernel + candidate_bias)
        h = u * h + (1 - u) * c
        outputs.append(h)
    return np.stack(outputs, 1)


def basic_rnn_cell(x, kernel, bias):
    """TensorFlow 1's BasicRNNCell."""
    h = np.zeros((len(x), len(bias)))
    outputs = []
    for t in range(x.shape[1]):
        h = np.tanh(np.concatenate([x[:, t], h], 1) @ kernel + bias)
        outputs.append(h)
    return np.stack(outputs, 1)


LSTM = {"kernel": numbers(I + H, 4 * H), "bias": numbers(4 * H)}
GRU = {
    "gates/kernel": numbers(I + H, 2 * H),
    "gates/bias": numbers(2 * H),
    "candidate/kernel": numbers(I + H, H),
    "candidate/bias": numbers(H),
}
RNN = {"kernel": numbers(I + H, H), "bias": numbers(H)}


def under(scope, arrays, end=""):
    return {f"{scope}/{name}{end}": array for name, array in arrays.items()}


def found(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return exchange.read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("scope", "arrays", "cell", "computed"),
    [
        ("rnn/basic_lstm_cell", LSTM, "LSTM", basic_lstm_cell),
        ("lstm_cell", LSTM, "LSTM", basic_lstm_cell),
        ("decoder/multi_rnn_cell/cell_1/lstm_cell", LSTM, "LSTM", basic_lstm_cell),
        ("rnn/gru_cell", GRU, "GRU v3", gru_cell),
        ("rnn/gru_cell_1", GRU, "GRU v3", gru_cell),
        ("rnn/basic_rnn_cell", RNN, "SimpleRNN", basic_rnn_cell),
    ],
)
@pytest.mark.parametrize("end", ["", ":0"])
def test_what_tensorflow_1_computes(scope, arrays, cell, computed, end, tmp_path):
    others = {"global_step": np.array(7), **under(f"{scope}/kernel", {"Adam": np.ones((2, 2))})}
    (layer,) = found(tmp_path, others | under(scope, arrays, end)).recurrent
    assert (layer.name, layer.cell.name, layer.packing) == (scope, cell, "tf1")
    assert (layer.input_size, layer.hidden_size) == (I, H)
    np.testing.assert_allclose(exchange.run_layer(layer, X).outputs, computed(X, *arrays.values()), rtol=0, atol=1e-14)
    assert any("forget_bias is not in the file" in note for note in layer.notes) == (cell == "LSTM")


def test_two_directions_are_one_layer(tmp_path):
    back = {name: numbers(*array.shape) for name, array in LSTM.items()}
    arrays = under("bidirectional_rnn/bw/lstm_cell", back) | under("bidirectional_rnn/fw/lstm_cell", LSTM)
    (layer,) = found(tmp_path, arrays).recurrent
    assert (layer.name, len(layer.directions)) == ("bidirectional_rnn/lstm_cell", 2)
    expected = [basic_lstm_cell(X, *LSTM.values()), basic_lstm_cell(X[:, ::-1], *back.values())[:, ::-1]]
    np.testing.assert_allclose(exchange.run_layer(layer, X).outputs, np.concatenate(expected, -1), rtol=0, atol=1e-14)


def test_one_that_runs_backwards_alone(tmp_path):
    (layer,) = found(tmp_path, under("bw/gru_cell", GRU)).recurrent
    np.testing.assert_allclose(
        exchange.run_layer(layer, X).outputs, gru_cell(X[:, ::-1], *GRU.values())[:, ::-1], rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(
    "more",
    [
        under("rnn/lstm_cell", {"w_i_diag": numbers(H)}),
        under("rnn/lstm_cell", {"projection/kernel": numbers(H, 2)}),
        under("rnn/lstm_cell", {"recurrent_kernel": numbers(H, 4 * H)}),
    ],
    ids=["peepholes", "projection", "Keras"],
)
def test_what_is_another_layer_is_none_of_these(more, tmp_path):
    assert not found(tmp_path, under("rnn/lstm_cell", LSTM) | more).recurrent


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"kernel": LSTM["kernel"][:H], "bias": LSTM["bias"]}, r"kernel should have shape \(input \+ 5, 20\)"),
        ({"kernel": LSTM["kernel"][:, :-1], "bias": LSTM["bias"]}, r"kernel should have shape"),
        ({"kernel": LSTM["kernel"], "bias": LSTM["bias"][:-1]}, r"bias should have shape \(4 · hidden,\), got \(19,\)"),
        ({"kernel": LSTM["kernel"], "bias": LSTM["bias"].astype("f4")}, "should be floating-point as its layer is"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(arrays, message, tmp_path):
    with pytest.raises(NotUnderstood, match=message) as raised:
        found(tmp_path, under("rnn/lstm_cell", arrays))
    assert "rnn/lstm_cell" in str(raised.value)


@pytest.mark.parametrize("cell", TF_1)
def test_there_and_back(cell):
    weights = initialise(cell, I, H)
    again = unpack_tf1(cell, pack_tf1(cell, weights, 0.5), 0.5)
    assert list(again) == list(weights)
    for name, array in weights.items():
        np.testing.assert_allclose(again[name], array, rtol=0, atol=1e-16)


@pytest.mark.parametrize(
    ("cell", "count", "message"),
    [("GRU", 4, "cell should be one of SimpleRNN, LSTM, GRU v3"), ("LSTM", 3, "arrays of LSTM should be 2, got 3")],
)
def test_what_is_no_such_packing_is_refused(cell, count, message):
    with pytest.raises(ValueError, match=message):
        unpack_tf1(cell, [numbers(2, 2)] * count)


def test_paddles_packing_is_pytorchs():
    """Paddle's LSTMCell and GRUCell: i f c̃ o, and r z ñ with the reset gate after the product."""
    state = {"weight_ih": numbers(4 * H, I), "weight_hh": numbers(4 * H, H), "bias_ih": numbers(4 * H)}
    state["bias_hh"] = np.zeros(4 * H)
    x, h, c = numbers(B, I), numbers(B, H), numbers(B, H)
    gates = x @ state["weight_ih"].T + state["bias_ih"] + h @ state["weight_hh"].T + state["bias_hh"]
    i, f, g, o = np.split(gates, 4, axis=-1)
    after = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    assert_step("LSTM", state, x, (h, c), (sigmoid(o) * np.tanh(after), after))
    state = {name: array[: 3 * H] for name, array in state.items()}
    (x_r, x_z, x_c), (h_r, h_z, h_c) = (
        np.split(a @ state[f"weight_{kind}"].T + state[f"bias_{kind}"], 3, axis=1) for a, kind in ((x, "ih"), (h, "hh"))
    )
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    candidate = np.tanh(x_c + r * h_c)
    assert_step("GRU", state, x, (h,), ((h - candidate) * z + candidate,))


def assert_step(cell, state, x, before, after):
    parameters = from_torch(CELLS[cell], state, suffix="")
    for got, expected in zip(equations.unroll(parameters, x[:, None], before).final, after, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)
