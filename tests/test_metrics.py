"""Measures and the n-gram model against answers worked out by hand."""

import math

import numpy as np
import pytest

from common import metrics
from common.ngram import InterpolatedNgram
from common.training import Figures, figures


def test_accuracies():
    targets, answers = [0, 0, 0, 1], [0, 0, 1, 1]
    assert metrics.accuracy(targets, answers) == 0.75
    assert metrics.balanced_accuracy(targets, answers) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.accuracy([1, 0], [[0.1, 0.9], [0.2, 0.3]]) == 0.5  # scores


def test_cross_entropy():
    assert metrics.cross_entropy([[0, 0], [0, 0]], [0, 1]) == pytest.approx(math.log(2))
    assert metrics.cross_entropy([[0, math.log(3)]], [1]) == pytest.approx(math.log(4 / 3))
    assert metrics.cross_entropy([[1e4, 0]], [0]) == 0
    assert metrics.bits(math.log(8)) == pytest.approx(3)


def test_forecasts():
    assert metrics.mean_absolute_error([[1, 2]], [[2, 0]]) == 1.5
    assert metrics.root_mean_squared_error([[1, 2]], [[2, 0]]) == pytest.approx(math.sqrt(2.5))


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("abc", "abc", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edit_distance(a, b, distance):
    assert metrics.edit_distance(a, b) == metrics.edit_distance(b, a) == distance


def test_error_rates():
    """The nearest of two pronunciations counts, with its length."""
    phonemes, words = metrics.error_rates([["abcd", "xy"], ["abc"]], ["xz", "abc"])
    assert phonemes == pytest.approx(1 / (2 + 3))
    assert words == 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.accuracy([], []),
        lambda: metrics.accuracy([1, 2], [1]),
        lambda: metrics.cross_entropy([[0, 0]], [2]),
        lambda: metrics.mean_absolute_error([1, 2], [[1], [2]]),
        lambda: metrics.error_rates([["a"], []], ["a", "b"]),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError, match="should"):
        call()


def test_figures_leave_out_steps_without_a_target():
    from common.data import pad
    from common.models import Network, Stack

    model = Network(Stack("GRU", 3, 2, embedding=2), 2, "steps")
    batch = pad([np.array([1, 2, 0]), np.array([1])], [np.array([-1, 0, 1]), np.array([0])])
    outputs = np.zeros((2, 3, 2))
    outputs[0, 2, 1] = math.log(3)
    outputs[:, 0] = [[9, -9], [0, 0]]  # at a step without a target, and at one with
    found, count = figures(model, batch, outputs)
    assert count == 3
    assert found.loss == pytest.approx((2 * math.log(2) + math.log(4 / 3)) / 3)
    assert found.metric == 1
    forecast = Network(Stack("GRU", 1, 2), 1, "forecast")
    batch = pad([np.zeros((2, 1)), np.zeros((1, 1))], np.array([[1.0], [3.0]]))
    assert figures(forecast, batch, np.array([[0.0], [1.0]]))[0] == Figures(2.5, math.sqrt(2.5))


def test_ngrams_by_hand():
    """Of "0 0 1 0 0" over three symbols."""
    model = InterpolatedNgram(2, 3).fit([np.array([0, 0, 1, 0, 0])])

    def unigram(count):  # N = 5, T = 2
        return (count + 2 / 3) / 7

    # After 0: three continuations (0, 1, 0), of two kinds. After 1: one, of one kind.
    expected = [
        unigram(4),
        (2 + 2 * unigram(4)) / 5,
        (1 + 2 * unigram(1)) / 5,
        (1 + unigram(4)) / 2,
        2 * unigram(0) / 5,
    ]
    found = 2 ** model.log2_probability(np.array([0, 0, 1, 0, 2]))
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_ngrams_sum_to_one(order):
    random = np.random.default_rng(0)
    model = InterpolatedNgram(order, 4).fit([random.integers(0, 3, 40), random.integers(0, 4, 15)])
    for _ in range(10):
        context = random.integers(0, 4, order)
        ends = [2 ** model.log2_probability(np.append(context, symbol))[-1] for symbol in range(4)]
        assert sum(ends) == pytest.approx(1)
        assert min(ends) > 0


def test_ngrams_bad_input():
    with pytest.raises(ValueError, match="order and symbols"):
        InterpolatedNgram(0, 3)
    with pytest.raises(ValueError, match="below 2"):
        InterpolatedNgram(30, 100)
    with pytest.raises(ValueError, match="symbols from 0 to 2"):
        InterpolatedNgram(2, 3).fit([np.array([3])])
