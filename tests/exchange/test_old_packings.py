"""The packings that Keras has given up: gate by gate, and each there and back."""

import numpy as np
import pytest

from rnn_common import packings
from rnn_common.cells import CELLS
from rnn_common.old_packings import KERAS_1, pack_cudnn, pack_keras_1, unpack_cudnn, unpack_keras_1
from rnn_common.weights import initialise

H, I = 5, 3


def with_both_biases(cell, seed=0):
    """Weights with a recurrent bias of every gate."""
    p = initialise("GRU v3" if cell == "GRU" else cell, I, H, seed=seed)
    return dict(p) | {f"b_h{gate}": p[p.cell.bias(gate)] + 1 for gate in p.cell.gates}


def equal(a, b):
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_cudnn_there_and_back(cell):
    weights = with_both_biases(cell)
    arrays = pack_cudnn(cell, weights)
    gates = len(CELLS[cell].gates)
    assert [array.shape for array in arrays] == [(I, gates * H), (H, gates * H), (2 * gates * H,)]
    found = unpack_cudnn(cell, arrays)
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)
    again = pack_cudnn(cell, found)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, again, strict=True))


def test_cudnn_arrangement():
    """A gate's block is `(hidden, input)` in rows, folded into `(input, hidden)`; the recurrent one is not transposed."""
    kernel = np.concatenate([10 * gate + np.array([[0, 3, 1], [4, 2, 5]]) for gate in range(4)], axis=1)
    recurrent = np.concatenate([100 * gate + np.arange(9).reshape(3, 3) for gate in range(4)], axis=1)
    found = unpack_cudnn("LSTM", [kernel, recurrent, np.arange(24)])
    for at, gate in enumerate("ifco"):
        assert np.array_equal(found[f"W_i{gate}"].T, 10 * at + np.array([[0, 1, 2], [3, 4, 5]]))
        assert np.array_equal(found[f"W_h{gate}"], 100 * at + np.arange(9).reshape(3, 3))
        assert np.array_equal(found[f"b_{gate}"], 3 * at + np.arange(3))
        assert np.array_equal(found[f"b_h{gate}"], 12 + 3 * at + np.arange(3))
    gru = unpack_cudnn("GRU", [kernel[:, :9], recurrent[:, :9], np.arange(18)])
    assert [int(gru[f"W_i{gate}"][0, 0]) for gate in "zrn"] == [0, 10, 20]
    assert [int(gru[f"b_h{gate}"][0]) for gate in "zrn"] == [9, 12, 15]


@pytest.mark.parametrize("cell", KERAS_1)
def test_keras_1_there_and_back(cell):
    weights = initialise(cell, I, H)
    arrays = pack_keras_1(cell, weights)
    assert len(arrays) == 3 * len(CELLS[cell].gates)
    assert equal(unpack_keras_1(cell, arrays), dict(weights))
    again = pack_keras_1(cell, unpack_keras_1(cell, arrays))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, again, strict=True))


@pytest.mark.parametrize(("cell", "order"), [("LSTM", "icfo"), ("GRU v3", "zrn")])
def test_keras_1_order(cell, order):
    arrays = [np.full(shape, at) for at in range(len(order)) for shape in ((I, H), (H, H), (H,))]
    found = unpack_keras_1(cell, arrays)
    for at, gate in enumerate(order):
        for name in (f"W_i{gate}", f"W_h{gate}", f"b_{gate}"):
            assert found[name].shape == CELLS[cell].shapes(I, H)[name]
            assert (found[name] == at).all()


@pytest.mark.parametrize("cell", KERAS_1)
def test_keras_1_of_three_arrays_is_keras_2s(cell):
    weights = initialise(cell, I, H)
    found = unpack_keras_1(cell, packings.pack_keras(cell, weights))
    assert found.keys() == dict(weights).keys()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)


def test_absent_biases_are_zero_and_two_are_added():
    without = initialise("LSTM", I, H, bias=False)
    assert not unpack_cudnn("LSTM", pack_cudnn("LSTM", without))["b_hf"].any()
    assert not pack_keras_1("LSTM", without)[2].any()
    both = with_both_biases("LSTM")
    assert np.array_equal(pack_keras_1("LSTM", both)[2], both["b_i"] + both["b_hi"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: unpack_cudnn("GRU v3", a), "cell should be one of LSTM, GRU in this packing, got GRU v3"),
        (lambda a: unpack_keras_1("GRU", a), "cell should be one of SimpleRNN, LSTM, GRU v3 in this packing, got GRU"),
        (lambda a: unpack_cudnn("LSTM", a[:2]), "got 2 arrays"),
        (lambda a: unpack_cudnn("LSTM", [a[0], a[1], a[2][:20]]), r"bias should have shape \(40,\), got \(20,\)"),
        (
            lambda a: unpack_cudnn("LSTM", [a[0][:, :19], *a[1:]]),
            r"kernel should have shape \(input, 20\), got \(3, 19\)",
        ),
        (lambda a: unpack_cudnn("LSTM", [a[0], a[1].T, a[2]]), r"recurrent_kernel should have shape .*, got \(20, 5\)"),
        (lambda a: unpack_cudnn("LSTM", [a[0], np.float32(1), a[2]]), r"recurrent_kernel .*, got \(\)"),
        (lambda a: unpack_keras_1("LSTM", a * 2), "arrays of LSTM should be 3 or 12, got 6"),
        (lambda a: unpack_keras_1("LSTM", a * 4), r"W_ii? should have shape \(20, 3\)|should have shape"),
    ],
)
def test_what_is_no_such_packing_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(pack_cudnn("LSTM", with_both_biases("LSTM")))
