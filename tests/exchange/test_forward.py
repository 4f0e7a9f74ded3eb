"""What was found, run in NumPy: against the oracle, and what directions, merging and chains are made of."""

import numpy as np
import pytest

from rnn_common import equations
from rnn_common.cells import CELLS
from rnn_common.exchange.description import (
    HARD_SIGMOID,
    HARD_SIGMOID_KERAS_2,
    LINEAR,
    TANH,
    Activation,
    Dense,
    Direction,
    Embedding,
    Foreign,
    Recurrent,
    default_activations,
)
from rnn_common.exchange.forward import run_chain, run_layer
from rnn_common.weights import initialise

X = np.random.default_rng(0).standard_normal((3, 5, 2))
LENGTHS = np.array([5, 2, 1])


def layer(cell="GRU", directions=1, width=2, hidden=4, activations=None, **options):
    each = [
        Direction(dict(initialise(cell, width, hidden, seed=seed)), activations or default_activations(CELLS[cell]))
        for seed in range(directions)
    ]
    return Recurrent("a", CELLS[cell], tuple(each), "torch", **options)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("cell", CELLS)
def test_one_direction_is_the_oracle(cell, lengths):
    expected = equations.unroll(initialise(cell, 2, 4, seed=0), X, None, lengths)
    ran = run_layer(layer(cell), X, lengths=lengths)
    np.testing.assert_array_equal(ran.outputs, expected.outputs)
    np.testing.assert_array_equal(ran.last, expected.final[0])
    np.testing.assert_array_equal(ran.final[0], expected.final)


def test_both_biases_of_a_gate_are_added():
    one = layer("LSTM")
    weights = dict(one.directions[0].weights)
    apart = weights | {"b_i": weights["b_i"] - 2, "b_hi": np.full(4, 2.0)}
    other = Recurrent("a", one.cell, (Direction(apart, one.activations),), "torch")
    np.testing.assert_allclose(run_layer(other, X).outputs, run_layer(one, X).outputs, rtol=1e-14)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_backwards_is_a_sequence_turned_round(lengths):
    """Its outputs in the order of the input or, flipped, the whole axis of time from its end, padding too, as Keras has it."""
    ends = [5, 5, 5] if lengths is None else lengths
    turned = X.copy()
    for row, end in zip(turned, ends, strict=True):
        row[:end] = row[:end][::-1].copy()
    expected = run_layer(layer(), turned, lengths=lengths)
    ran = run_layer(layer(backwards=True), X, lengths=lengths)
    flipped = run_layer(layer(backwards=True, flipped=True), X, lengths=lengths)
    np.testing.assert_array_equal(flipped.outputs, ran.outputs[:, ::-1])
    np.testing.assert_array_equal(flipped.last, expected.last)
    for row, other, end in zip(ran.outputs, expected.outputs, ends, strict=True):
        np.testing.assert_array_equal(row[:end], other[:end][::-1])
        assert not row[end:].any()


@pytest.mark.parametrize(
    ("merge", "of"),
    [
        ("concat", lambda a, b: np.concatenate([a, b], -1)),
        ("sum", lambda a, b: a + b),
        ("mul", lambda a, b: a * b),
        ("ave", lambda a, b: a / 2 + b / 2),
    ],
)
def test_two_directions(merge, of):
    both = layer("LSTM", 2, merge=merge)
    forward = Recurrent("f", both.cell, both.directions[:1], "torch")
    backward = Recurrent("b", both.cell, both.directions[1:], "torch", backwards=True)
    ran, one, other = (run_layer(each, X, lengths=LENGTHS) for each in (both, forward, backward))
    np.testing.assert_allclose(ran.outputs, of(one.outputs, other.outputs), rtol=1e-15)
    np.testing.assert_allclose(ran.last, of(one.last, other.last), rtol=1e-15)
    np.testing.assert_array_equal(ran.final, [one.final[0], other.final[0]])


def test_an_initial_state_of_each_direction():
    states = [(np.full((3, 4), 0.5),), (np.full((3, 4), -0.5),)]
    ran = run_layer(layer(directions=2), X, states)
    assert not np.allclose(ran.outputs, run_layer(layer(directions=2), X).outputs)
    expected = equations.unroll(initialise("GRU", 2, 4, seed=0), X, states[0])
    np.testing.assert_array_equal(ran.outputs[..., :4], expected.outputs)


def test_activations_are_what_they_say():
    a = np.array([-4.0, -2.0, 0.0, 1.0, 2.75])
    np.testing.assert_allclose(HARD_SIGMOID_KERAS_2(a), [0, 0.1, 0.5, 0.7, 1])
    np.testing.assert_allclose(HARD_SIGMOID(a), [0, 1 / 6, 0.5, 2 / 3, 2.75 / 6 + 0.5])
    np.testing.assert_allclose(Activation("leaky_relu", 0.1)(a), [-0.4, -0.2, 0, 1, 2.75])
    np.testing.assert_allclose(Activation("softmax")(a).sum(), 1)
    assert str(HARD_SIGMOID_KERAS_2) == "hard_sigmoid 0.2·a + 0.5"


def test_other_activations_than_the_cells_own():
    """By hand: one step of an LSTM of one unit whose gates are clipped lines."""
    weights = {name: np.full((1, 1), 2.0) for name in ("W_ii", "W_if", "W_ic", "W_io", "W_hi", "W_hf", "W_hc", "W_ho")}
    one = Recurrent("a", CELLS["LSTM"], (Direction(weights, (LINEAR, HARD_SIGMOID_KERAS_2)),), "keras")
    ran = run_layer(one, np.array([[[0.5]]]), [(np.zeros((1, 1)), np.full((1, 1), 3.0))])
    c = 0.7 * 3 + 0.7 * 1.0
    np.testing.assert_allclose([ran.final[0][1], ran.final[0][0]], [[[c]], [[0.7 * c]]])


def test_a_chain():
    table, head = np.random.default_rng(1).standard_normal((7, 2)), np.ones((1, 8))
    chain = [
        Embedding("e", table),
        Foreign("dropout", "Dropout", changes=False),
        layer(directions=2, returns_sequences=False),
        Dense("d", head, np.array([1.0]), TANH),
    ]
    symbols = np.array([[1, 2, 3], [4, 5, 6]])
    last = run_layer(layer(directions=2), table[symbols]).last
    np.testing.assert_allclose(run_chain(chain, symbols), np.tanh(last.sum(-1, keepdims=True) + 1))
    with pytest.raises(ValueError, match="got conv, a Conv1D"):
        run_chain([Foreign("conv", "Conv1D")], X)


def test_padding_is_skipped_wherever_it_is():
    table = np.random.default_rng(1).standard_normal((7, 2))
    steps, last = layer(), layer(returns_sequences=False)
    alone = np.array([[3, 5, 2]])
    for padded in ([[3, 5, 2, 0, 0]], [[0, 0, 3, 5, 2]], [[3, 0, 5, 0, 2]]):
        symbols = np.array(padded)
        chain = [Embedding("e", table, masks=True)]
        outputs = run_chain([*chain, steps], symbols)
        np.testing.assert_array_equal(outputs[symbols != 0], run_layer(steps, table[alone]).outputs[0])
        assert not outputs[symbols == 0].any()
        np.testing.assert_array_equal(run_chain([*chain, last], symbols), run_layer(last, table[alone]).last)


def test_float32_is_computed_in_float32():
    assert run_layer(layer(), X, dtype=np.float32).outputs.dtype == np.float32
