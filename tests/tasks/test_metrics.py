"""Measures and the n-gram model against answers worked out by hand."""

import math

import numpy as np
import pytest

from rnn_common.tasks import metrics
from rnn_common.tasks.ngram import InterpolatedNgram
from rnn_common.training.run import Figures, figures


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
    from rnn_common.data import pad
    from rnn_common.networks import Network, Stack

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


def test_balanced_accuracy_is_the_mean_of_the_classes_that_occur():
    assert metrics.balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 2]) == 0.5
    assert metrics.balanced_accuracy([0, 0, 5], [[1, 0], [0, 1], [0, 1]]) == 0.25


def test_error_rates_take_the_nearest_reference():
    references = [[("T", "UW"), ("T", "AH", "M", "EY")], [("B", "AW", "T")], [("K", "AE", "T")]]
    answers = [("T", "AH", "M", "AA"), ("B", "AW", "T"), ()]
    phonemes, words = metrics.error_rates(references, answers)
    assert phonemes == pytest.approx((1 + 0 + 3) / (4 + 3 + 3))
    assert words == pytest.approx(2 / 3)


@pytest.mark.parametrize("targets", [[], [0], [0, 1, 2]])
@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "mean_absolute_error", "root_mean_squared_error"])
def test_answers_have_to_fit_targets(name, targets):
    with pytest.raises(ValueError, match="answers should"):
        getattr(metrics, name)(targets, [0, 1])


def test_shapes_have_to_fit():
    with pytest.raises(ValueError, match="answers should have shape"):
        metrics.accuracy([[0, 1]], [[0, 1]])
    with pytest.raises(ValueError, match="answers should have the shape"):
        metrics.mean_absolute_error([1.0, 2.0], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="scores should have shape"):
        metrics.cross_entropy([0.0, 1.0], [0, 1])
    with pytest.raises(ValueError, match="targets should be from 0 to 1, got 2 to 2"):
        metrics.cross_entropy([[0.0, 1.0]], [2])
    with pytest.raises(ValueError, match="targets should be from 0 to 1, got -1"):
        metrics.cross_entropy([[0.0, 1.0]], [-1])


@pytest.mark.parametrize(("references", "answers"), [([], []), ([["a"]], ["a", "b"]), ([[]], ["a"]), ([[""]], ["a"])])
def test_error_rates_refuse_what_they_cannot_count(references, answers):
    with pytest.raises(ValueError, match=r"(answers|references) should"):
        metrics.error_rates(references, answers)


def test_ngram_counts_nothing_across_sequences():
    apart = InterpolatedNgram(2, 2).fit([np.array([0, 0]), np.array([1, 1])])
    joined = InterpolatedNgram(2, 2).fit([np.array([0, 0, 1, 1])])
    assert apart.log2_probability(np.array([0, 1]))[1] < joined.log2_probability(np.array([0, 1]))[1]


def test_ngram_knows_what_it_has_read():
    text = np.tile([0, 1, 2, 3], 50)
    model = InterpolatedNgram(5, 4).fit([text])
    assert -model.log2_probability(text)[4:].mean() < 0.05
    assert InterpolatedNgram(3, 4).fit([]).log2_probability(text) == pytest.approx(-2)


def test_cross_entropy_of_scores_far_apart():
    assert metrics.cross_entropy(np.float32([[1e4, 0], [-1e4, -2e4]]), [0, 1]) == pytest.approx(5000)
    assert metrics.cross_entropy(np.float32([[1e30, -1e30]]), [0]) == 0
    with pytest.raises(ValueError, match="targets should be from 0 to 1, got -1"):
        metrics.cross_entropy([[0.0, 1.0]], [-1])
