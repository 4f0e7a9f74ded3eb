"""The container of weights: what it refuses, and the initialisation."""

import numpy as np
import pytest

from rnn_common.cells import CELLS
from rnn_common.weights import Parameters, initialise


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("SimpleRNN", ["W_xh", "W_hh", "b_h"]),
        ("LSTM", ["W_ii", "W_if", "W_ic", "W_io", "W_hi", "W_hf", "W_hc", "W_ho", "b_i", "b_f", "b_c", "b_o"]),
        ("GRU", ["W_ir", "W_iz", "W_in", "W_hr", "W_hz", "W_hn", "b_r", "b_z", "b_n", "b_hn"]),
    ],
)
def test_names_and_sizes(cell, names):
    p = initialise(cell, 3, 5)
    assert list(p) == names
    assert (p.input_size, p.hidden_size, p.bias, p.dtype) == (3, 5, True, np.float64)


def test_the_third_form_has_no_recurrent_bias():
    assert "b_hn" not in initialise("GRU v3", 3, 5)


def test_without_bias():
    p = initialise("LSTM", 3, 5, bias=False)
    assert not p.bias
    assert all(name.startswith("W") for name in p)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(W_hh=None), ValueError, "weights of SimpleRNN lack W_hh"),
        (dict(W_ii=np.zeros((2, 3))), ValueError, "weights of SimpleRNN should be W_xh, W_hh, b_h, got W_ii"),
        (dict(W_xh=np.zeros(3)), ValueError, r"W_xh should have shape \(hidden, input\), got \(3,\)"),
        (dict(W_hh=np.zeros((2, 3))), ValueError, r"W_hh should have shape \(2, 2\), got \(2, 3\)"),
        (dict(b_h=np.zeros((2, 1))), ValueError, r"b_h should have shape \(2,\), got \(2, 1\)"),
        (dict(b_h=np.array([1.0, np.nan])), ValueError, "b_h should be finite"),
        (dict(W_hh=np.full((2, 2), np.inf)), ValueError, "W_hh should be finite"),
        (dict(b_h=np.zeros(2, np.float32)), TypeError, "b_h should be float64 as W_xh is, got float32"),
        (dict(b_h=np.zeros(2, int)), TypeError, "b_h should be of a floating-point dtype, got int64"),
    ],
)
def test_refused(change, error, message):
    weights = dict(W_xh=np.zeros((2, 3)), W_hh=np.zeros((2, 2)), b_h=np.zeros(2)) | change
    with pytest.raises(error, match=message):
        Parameters("SimpleRNN", {name: array for name, array in weights.items() if array is not None})


def test_some_biases_are_not_enough():
    weights = dict(initialise("LSTM", 3, 5))
    del weights["b_f"]
    with pytest.raises(ValueError, match="weights of LSTM lack b_f"):
        Parameters("LSTM", weights)


def test_unknown_cell():
    with pytest.raises(ValueError, match="cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 'Elman'"):
        initialise("Elman", 3, 5)


@pytest.mark.parametrize("sizes", [(0, 5), (3, 0), (3, -1)])
def test_sizes_below_one(sizes):
    with pytest.raises(ValueError, match="should be at least 1, got"):
        initialise("GRU", *sizes)


def test_initialise_is_uniform_in_its_range_and_seeded():
    p = initialise("LSTM", 30, 64, seed=3)
    values = np.concatenate([array.ravel() for array in p.values()])
    assert np.abs(values).max() <= 1 / 8
    # The standard deviation of U(−k, k) is k/√3; its estimate from n draws has a relative error of √(0.2/n), here 0.3 %.
    assert values.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.015)
    assert all(np.array_equal(p[name], initialise("LSTM", 30, 64, seed=3)[name]) for name in p)
    assert not np.array_equal(p["W_ii"], initialise("LSTM", 30, 64, seed=4)["W_ii"])


def test_astype():
    p = initialise("GRU v3", 3, 5).astype(np.float32)
    assert p.dtype == np.float32
    assert p.cell is CELLS["GRU v3"]
