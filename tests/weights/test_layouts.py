"""Gate-named weights to and from the packings of PyTorch, Keras and ONNX."""

import warnings

import numpy as np
import pytest

from rnn_common import packings
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.equations import unroll
from rnn_common.packings import MergedBiasesWarning
from rnn_common.weights import initialise

LAYOUTS = {
    "torch": (packings.to_torch, packings.from_torch),
    "keras": (packings.to_keras, packings.from_keras),
    "onnx": (packings.to_onnx, packings.from_onnx),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_there_and_back_is_exact(layout, cell, bias, dtype):
    to, back = LAYOUTS[layout]
    p = initialise(cell, 3, 5, bias=bias, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        q = back(cell, to(p))
    assert list(q) == list(p)
    assert q.dtype == dtype
    assert q.cell is p.cell
    assert all(np.array_equal(p[name], q[name]) for name in p)


def blocks(array, gates, axis=0):
    return np.split(np.asarray(array), gates, axis)


def test_torch_gate_order():
    p = initialise("LSTM", 3, 5)
    state = packings.to_torch(p)
    assert list(state) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    for gate, W, R, b in zip("ifco", *(blocks(a, 4) for a in list(state.values())[:3]), strict=True):
        assert np.array_equal(W, p[f"W_i{gate}"])
        assert np.array_equal(R, p[f"W_h{gate}"])
        assert np.array_equal(b, p[f"b_{gate}"])
    assert not state["bias_hh_l0"].any()
    gru = initialise("GRU", 3, 5)
    state = packings.to_torch(gru, "")
    assert [np.array_equal(W, gru[f"W_i{g}"]) for g, W in zip("rzn", blocks(state["weight_ih"], 3), strict=True)] == [
        True
    ] * 3
    assert np.array_equal(state["bias_hh"], np.concatenate([np.zeros(10), gru["b_hn"]]))


def test_keras_gate_order():
    p = initialise("GRU", 3, 5)
    kernel, recurrent, bias = packings.to_keras(p)
    assert (kernel.shape, recurrent.shape, bias.shape) == ((3, 15), (5, 15), (2, 15))
    for gate, W, R, b in zip("zrn", blocks(kernel, 3, 1), blocks(recurrent, 3, 1), blocks(bias[0], 3), strict=True):
        assert np.array_equal(W.T, p[f"W_i{gate}"])
        assert np.array_equal(R.T, p[f"W_h{gate}"])
        assert np.array_equal(b, p[f"b_{gate}"])
    assert packings.to_keras(initialise("GRU v3", 3, 5))[2].shape == (15,)


def test_onnx_gate_order():
    p = initialise("LSTM", 3, 5)
    tensors = packings.to_onnx(p)
    assert {name: array.shape for name, array in tensors.items()} == {"W": (1, 20, 3), "R": (1, 20, 5), "B": (1, 40)}
    for gate, W, b in zip("iofc", blocks(tensors["W"][0], 4), blocks(tensors["B"][0], 8)[:4], strict=True):
        assert np.array_equal(W, p[f"W_i{gate}"])
        assert np.array_equal(b, p[f"b_{gate}"])


def test_two_biases_become_one_and_the_function_stays(cell):
    """Reading a packing with two biases keeps their sum, says so, and writing it again gives the same function."""
    p = initialise(cell, 3, 5, seed=1)
    other = initialise(cell, 3, 5, seed=2)
    state = packings.to_torch(p)
    recurrent = packings.to_torch(other)["bias_ih_l0"]
    if "b_hn" in p:  # that one stays apart
        recurrent[10:] = state["bias_hh_l0"][10:]
    state["bias_hh_l0"] = recurrent
    with pytest.warns(MergedBiasesWarning, match="were added into one"):
        merged = packings.from_torch(cell, state)
    for gate in p.cell.gates:
        apart = gate in p.cell.apart
        expected = p[f"b_{gate}"] if apart else p[f"b_{gate}"] + other[f"b_{gate}"]
        assert np.array_equal(merged[f"b_{gate}"], expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = packings.from_torch(cell, packings.to_torch(merged))
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    assert np.array_equal(unroll(merged, x).outputs, unroll(again, x).outputs)


def test_keras_and_onnx_merge_too():
    p = initialise("GRU", 3, 5)
    kernel, recurrent, bias = packings.to_keras(p)
    bias[1, :5] = 1.0
    with pytest.warns(MergedBiasesWarning):
        assert np.array_equal(packings.from_keras("GRU", [kernel, recurrent, bias])["b_z"], p["b_z"] + 1)
    tensors = packings.to_onnx(p)
    tensors["B"][0, 15:20] = 1.0
    with pytest.warns(MergedBiasesWarning):
        assert np.array_equal(packings.from_onnx("GRU", tensors)["b_z"], p["b_z"] + 1)


def apart(cell, seed=0):
    """Weights with both biases of every gate, and an LSTM's projection."""
    p = initialise("GRU v3" if cell == "GRU" else cell, 3, 5, seed=seed)
    weights = dict(p) | {f"b_h{gate}": p[p.cell.bias(gate)] + 1 for gate in p.cell.gates}
    return weights | ({"projection": np.ones((2, 5))} if cell == "LSTM" else {})


@pytest.mark.parametrize("cell", IN_BOTH)
def test_both_biases_there_and_back(cell):
    """In PyTorch, and in Keras where its packing has two; it has no projection."""
    weights = apart(cell)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [packings.unpack_torch(cell, packings.pack_torch(cell, weights))]
        if cell == "GRU":
            found.append(packings.unpack_keras(cell, packings.pack_keras(cell, weights)))
    for each in found:
        assert set(each) == set(weights)
        assert all(np.array_equal(each[name], weights[name]) for name in weights)


@pytest.mark.parametrize("cell", [name for name, row in CELLS.items() if not row.apart])
def test_one_bias_in_keras_is_the_sum_of_both(cell):
    weights = apart(cell)
    with pytest.warns(MergedBiasesWarning, match=f"two biases of this {cell} were added into one"):
        found = packings.unpack_keras(cell, packings.pack_keras(cell, weights))
    kind = CELLS[cell]
    for gate in kind.gates:
        assert np.array_equal(found[kind.bias(gate)], weights[kind.bias(gate)] + weights[f"b_h{gate}"])


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda p: packings.from_torch("LSTM", without(packings.to_torch(p), "weight_hh_l0")), "lacks weight_hh_l0"),
        (lambda p: packings.from_torch("LSTM", without(packings.to_torch(p), "bias_hh_l0")), "lacks bias_hh_l0"),
        (
            lambda p: packings.from_torch("LSTM", packings.to_torch(p) | {"weight_ih_l0": np.zeros((18, 3))}),
            "multiple of 4",
        ),
        (
            lambda p: packings.from_torch("LSTM", packings.to_torch(p) | {"weight_ih_l0": np.zeros(20)}),
            "have 2 dimensions",
        ),
        (
            lambda p: packings.from_torch("LSTM", packings.to_torch(p) | {"bias_ih_l0": np.full(20, np.nan)}),
            "should be finite",
        ),
        (lambda p: packings.from_keras("LSTM", packings.to_keras(p)[:1]), "got 1 arrays"),
        (lambda p: packings.from_keras("GRU", packings.to_keras(p)), "multiple of 3"),
        (lambda p: packings.from_keras("LSTM", [*packings.to_keras(p)[:2], np.zeros(18)]), "multiple of 4"),
        (
            lambda p: packings.from_keras("GRU", [np.zeros((3, 15)), np.zeros((5, 15)), np.zeros((3, 15))]),
            r"shape \(2, 3",
        ),
        (lambda p: packings.from_onnx("LSTM", without(packings.to_onnx(p), "R")), "lacks R"),
        (lambda p: packings.from_onnx("LSTM", packings.to_onnx(p) | {"W": np.zeros((2, 20, 3))}), "one direction"),
        (lambda p: packings.from_torch("Elman", packings.to_torch(p)), "cell should be one of"),
    ],
)
def test_refused(read, message):
    with pytest.raises(ValueError, match=message):
        read(initialise("LSTM", 3, 5))
