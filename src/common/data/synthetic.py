"""Synthetic sequences: seeded, of any length."""

from __future__ import annotations

import numpy as np

from rnn_common.checks import at_least
from rnn_common.data.sequences import Sequences


def gaussian(count: int, features: int, *, min_length: int, max_length: int, seed: int = 0) -> Sequences:
    """Sequences of independent standard normal values; the target is each sequence's mean.

    Args:
        count: how many, at least 1.
        features: width of a step, at least 1.
        min_length: shortest length, at least 1.
        max_length: longest length, at least `min_length`; lengths are uniform between the two.
        seed: default 0.

    Raises:
        ValueError: a number out of range.
    """
    at_least("count", count, 1)
    at_least("features", features, 1)
    at_least("min_length", min_length, 1)
    at_least("max_length", max_length, min_length)
    random = np.random.default_rng(seed)
    lengths = random.integers(min_length, max_length, count, endpoint=True)
    sequences = tuple(random.standard_normal((length, features)) for length in lengths)
    return Sequences("gaussian", sequences, np.array([sequence.mean() for sequence in sequences]))


def adding(count: int, length: int, *, seed: int = 0) -> Sequences:
    """The adding problem (Hochreiter & Schmidhuber 1997, experiment 4): remember two marked numbers and add them.

    Each step holds a number, uniform in [−1, 1], and a marker: 1 at two steps, one among the first ten and one among the
    first half of the sequence, −1 at the first and the last step, 0 elsewhere. With X1 and X2 the marked numbers, of
    which one at the first step counts as 0, the target is 0.5 + (X1 + X2) / 4, so always in [0, 1]. The paper draws each
    sequence's length at random close to a minimal one; here all have the same.

    Args:
        count: how many sequences, at least 1.
        length: steps a sequence, at least 4.
        seed: default 0.

    Returns:
        `Sequences` of 2 features: number and marker; the target is a float.

    Raises:
        ValueError: a number out of range.
    """
    at_least("count", count, 1)
    at_least("length", length, 4)
    random = np.random.default_rng(seed)
    sequences, targets = [], []
    for _ in range(count):
        numbers = random.uniform(-1, 1, length)
        markers = np.zeros(length)
        markers[[0, -1]] = -1
        first = int(random.integers(0, min(10, length // 2)))
        others = [t for t in range(length // 2) if t != first]
        second = int(random.choice(others))
        marked = [t for t in (first, second) if t != 0]  # a marker at the first step gives way to its −1, and X to 0
        markers[marked] = 1
        sequences.append(np.stack([numbers, markers], 1))
        targets.append(0.5 + numbers[marked].sum() / 4)
    return Sequences("adding", tuple(sequences), np.array(targets))


def copying(count: int, lag: int, *, symbols: int = 8, length: int = 3, seed: int = 0) -> Sequences:
    """The copying problem: repeat a few symbols after a long blank.

    A long-lag problem in the manner of Hochreiter & Schmidhuber 1997, in the form of Arjovsky, Shah & Bengio 2016 (arXiv
    1511.06464): `length` symbols, `lag` blanks, a signal, and blanks while the symbols are to be repeated.

    Args:
        count: how many sequences, at least 1.
        lag: blanks between the last symbol and the signal, at least 0.
        symbols: how many different ones there are, at least 2. Default 8.
        length: how many are to be repeated, at least 1. Default 3.
        seed: default 0.

    Returns:
        `Sequences` of symbols: 0 is the blank, 1 to `symbols` are to be repeated, `symbols` + 1 is the signal; each
        2 · `length` + `lag` steps long, the signal being one step before the first symbol is due. The targets are classes,
        0 to `symbols` − 1, at the last `length` steps and −1 before.

    Raises:
        ValueError: a number out of range.
    """
    for name, value, least in (("count", count, 1), ("lag", lag, 0), ("symbols", symbols, 2), ("length", length, 1)):
        at_least(name, value, least)
    random = np.random.default_rng(seed)
    sequences, targets = [], []
    for _ in range(count):
        drawn = random.integers(0, symbols, length)
        blanks = np.zeros(lag + length, np.int64)
        blanks[lag] = symbols + 1
        sequences.append(np.concatenate([drawn + 1, blanks]))
        targets.append(np.concatenate([np.full(lag + length, -1), drawn]))
    return Sequences("copying", tuple(sequences), tuple(targets))
