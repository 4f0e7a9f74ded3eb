"""The shared data module."""

import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from rnn_common.data import Batch, Sequences, adding, batches, gaussian, japanese_vowels, load, pad


def test_japanese_vowels_is_the_published_set():
    pytest.importorskip("aeon")
    train, test = japanese_vowels("train"), japanese_vowels("test")
    assert (len(train), len(test), train.features) == (270, 370, 12)
    lengths = np.concatenate([train.lengths, test.lengths])
    assert (lengths.min(), lengths.max()) == (7, 29)
    assert Counter(train.targets.tolist()) == dict.fromkeys(range(9), 30)
    # Utterances a speaker in the test set, from the data set's own description.
    assert [Counter(test.targets.tolist())[k] for k in range(9)] == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert train.sequences[0][0].tolist()[:3] == [1.860936, -0.207383, 0.261557]


def test_japanese_vowels_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "aeon", None)
    monkeypatch.setitem(sys.modules, "aeon.datasets", None)
    with pytest.raises(ModuleNotFoundError, match="come with the package aeon, which is not installed"):
        japanese_vowels()


def test_gaussian():
    data = gaussian(500, 3, min_length=2, max_length=5, seed=1)
    assert Counter(data.lengths.tolist()).keys() == {2, 3, 4, 5}
    values = np.concatenate(data.sequences).ravel()
    assert abs(values.mean()) < 5 / np.sqrt(values.size)
    assert data.targets[7] == data.sequences[7].mean()
    again = gaussian(500, 3, min_length=2, max_length=5, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(data.sequences, again.sequences, strict=True))


@pytest.mark.parametrize("length", [4, 10, 50, 501])
def test_adding_problem(length):
    data = adding(300, length, seed=2)
    assert data.lengths.tolist() == [length] * 300
    for sequence, target in zip(data.sequences, data.targets, strict=True):
        numbers, markers = sequence.T
        assert np.abs(numbers).max() <= 1
        assert (markers[0], markers[-1]) == (-1, -1)
        marked = np.flatnonzero(markers == 1)
        assert len(marked) in (1, 2)  # one where the first step was drawn, whose number counts as 0
        assert marked.max() < length // 2
        assert set(markers[1:-1]) <= {0.0, 1.0}
        assert target == 0.5 + numbers[marked].sum() / 4
        assert 0 <= target <= 1


def test_adding_marks_one_of_the_first_ten():
    marks = [np.flatnonzero(sequence[:, 1] == 1) for sequence in adding(300, 100, seed=3).sequences]
    assert all(m.min() < 10 for m in marks if len(m) == 2)
    assert max(m.max() for m in marks) > 40


@pytest.fixture
def data():
    return gaussian(23, 2, min_length=1, max_length=9, seed=0)


def test_pad():
    a, b = np.ones((2, 3)), np.full((4, 3), 2.0)
    batch = pad([a, b], np.array([0, 1]))
    assert batch.x.tolist() == [[[1.0] * 3] * 2 + [[0.0] * 3] * 2, [[2.0] * 3] * 4]
    assert batch.lengths.tolist() == [2, 4]
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4]


def rows(found):
    """Every sequence of some batches, cut back to its length, with its target."""
    return [(b.x[i, : b.lengths[i]].tobytes(), b.targets[i]) for b in found for i in range(len(b))]


@pytest.mark.parametrize("options", [{}, {"seed": 1}, {"bucket": True}, {"seed": 1, "bucket": True}])
def test_batches_hold_every_sequence_once(data, options):
    found = list(batches(data, 5, **options))
    assert sorted(len(b) for b in found) == [3, 5, 5, 5, 5]
    expected = [(s.tobytes(), t) for s, t in zip(data.sequences, data.targets, strict=True)]
    assert Counter(rows(found)) == Counter(expected)


def test_order(data):
    plain = rows(batches(data, 5))
    assert plain == [(s.tobytes(), t) for s, t in zip(data.sequences, data.targets, strict=True)]
    first, again, other, later = (rows(batches(data, 5, seed=s, epoch=e)) for s, e in [(1, 0), (1, 0), (2, 0), (1, 1)])
    assert first == again
    assert len({tuple(order) for order in (plain, first, other, later)}) == 4


def test_bucketing_pads_less(data):
    def padding(found):
        return sum((~b.mask).sum() for b in found)

    assert padding(batches(data, 5, seed=1, bucket=True)) < padding(batches(data, 5, seed=1)) / 2
    lengths = [b.lengths for b in batches(data, 5, seed=1, bucket=True)]
    spans = sorted((length.min(), length.max()) for length in lengths)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert spans != [(length.min(), length.max()) for length in lengths]  # the batches themselves are shuffled


def test_batches_reach_both_frameworks_bit_for_bit(data):
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    for batch in batches(data, 5, seed=1, dtype=np.float32):
        assert (
            torch.from_numpy(batch.x).numpy().tobytes() == tf.constant(batch.x).numpy().tobytes() == batch.x.tobytes()
        )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: japanese_vowels("validation"), ValueError, "split should be one of train, test, got 'validation'"),
        (lambda d: load("imdb"), ValueError, "data set should be one of vowels, gaussian, adding, got 'imdb'"),
        (lambda d: gaussian(0, 1, min_length=1, max_length=2), ValueError, "count should be at least 1, got 0"),
        (lambda d: gaussian(1, 1, min_length=3, max_length=2), ValueError, "max_length should be at least 3, got 2"),
        (lambda d: adding(1, 3), ValueError, "length should be at least 4, got 3"),
        (lambda d: next(batches(d, 0)), ValueError, "batch_size should be at least 1, got 0"),
        (lambda d: next(batches(d, 1, epoch=-1)), ValueError, "epoch should be at least 0, got -1"),
        (lambda d: pad([], np.array([])), ValueError, "at least one sequence, got none"),
        (lambda d: Sequences("none", (), np.array([])), ValueError, "at least one sequence, got none"),
        (lambda d: Sequences("a", (np.zeros((0, 2)),), np.zeros(1)), ValueError, r"sequences\[0\] should have shape"),
        (lambda d: Sequences("a", (np.zeros((1, 2)), np.zeros((1, 3))), np.zeros(2)), ValueError, r"sequences\[1\]"),
        (lambda d: Sequences("a", (np.full((1, 2), np.nan),), np.zeros(1)), ValueError, "should be finite"),
        (lambda d: Sequences("a", (np.zeros((1, 2)),), np.zeros(2)), ValueError, "targets should number 1, got 2"),
        (lambda d: Batch(np.zeros((1, 2)), np.array([1]), np.zeros(1)), ValueError, "x should have shape"),
        (
            lambda d: Batch(np.zeros((1, 2, 3), int), np.array([1]), np.zeros(1)),
            TypeError,
            "floating-point dtype, got int64",
        ),
        (lambda d: Batch(np.zeros((1, 2, 3)), np.array([0]), np.zeros(1)), ValueError, "lengths should be from 1 to 2"),
        (lambda d: Batch(np.zeros((1, 2, 3)), np.array([3]), np.zeros(1)), ValueError, "lengths should be from 1 to 2"),
        (
            lambda d: Batch(np.zeros((1, 2, 3)), np.array([2]), np.zeros(2)),
            ValueError,
            "targets should number 1, got 2",
        ),
    ],
)
def test_bad_input(data, call, error, message):
    with pytest.raises(error, match=message):
        call(data)


@pytest.mark.parametrize("name", ["vowels", "gaussian", "adding"])
def test_load(name):
    if name == "vowels":
        pytest.importorskip("aeon")
    assert load(name, 3).name == name
