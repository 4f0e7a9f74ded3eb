"""Weights in numbers of fewer bits: named where they are known, and said of a function that is off by as much."""

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import rnn_torch
from rnn_common.doctor import diagnose

ROOT = Path(__file__).parents[2]

KINDS = {
    "float16": lambda W: W.half().float(),
    "bfloat16": lambda W: W.bfloat16().float(),
    "int8": lambda W: (W * 127 / W.abs().max()).round() * (W.abs().max() / 127) if W.dim() == 2 else W,
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def pair(kind, layer=torch.nn.LSTM, **options):
    """A layer, and one with its weights rounded."""
    torch.manual_seed(0)
    right = layer(5, 8, batch_first=True, **options)
    rounded = copy.deepcopy(right)
    with torch.no_grad():
        for weight in rounded.parameters():
            weight.copy_(KINDS[kind](weight))
    return right, rounded


@each_kind
@pytest.mark.parametrize("layer", [torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}], ids=["one way", "both ways"])
def test_rounded_weights_are_named(kind, layer, options):
    right, rounded = pair(kind, layer, **options)
    for a, b, whose in ((right, rounded, "b"), (rounded, right, "a")):
        report = diagnose(a, b)
        assert report.verdict == "explained", report
        assert [(cause.name, cause.side) for cause in report.causes] == [(f"weights in {kind}", whose)]
        assert report.proof is None or report.proof.deviation <= report.bound


@each_kind
def test_beside_another_fault(kind):
    right, rounded = pair(kind)
    with torch.no_grad():
        for weight in rounded.parameters():
            weight.copy_(weight.reshape(4, -1)[[1, 0, 2, 3]].reshape(weight.shape))
    report = diagnose(right, rounded)
    assert report.verdict == "explained", report
    assert [cause.name for cause in report.causes] == [f"weights in {kind}", "i and f exchanged"]


@each_kind
def test_a_function_is_said_to_be_off_by_as_much(kind):
    right, rounded = pair(kind)
    with torch.no_grad():
        report = diagnose(right, lambda x: rounded(torch.from_numpy(np.float32(x)))[0].numpy())
    assert (report.verdict, report.status) == ("unexplained", 3)
    (said,) = [note for note in report.notes if "coarser numbers" in note]
    assert f" in {kind} " in said


def test_a_cell_without_recurrent_matrices():
    torch.manual_seed(0)
    layer = rnn_torch.layer_of(f"{ROOT}/examples/min_gru.py:MIN_GRU")(5, 8, batch_first=True)
    rounded = copy.deepcopy(layer)
    with torch.no_grad():
        for weight in rounded.parameters():
            weight.copy_(weight.half().float())
        report = diagnose(layer, lambda x: rounded(torch.from_numpy(np.float32(x)))[0].numpy())
    assert "coarser numbers" in " ".join(report.notes)


def test_other_weights_are_not_called_rounded():
    """Off by more than rounding, though they correlate."""
    right, _ = pair("int8")
    other = copy.deepcopy(right)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    assert diagnose(right, other).verdict == "different weights"
