"""Measures of answers against what is right, in NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _pair(targets: ArrayLike, answers: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as arrays, with at least one target and an answer to each."""
    right, came = np.asarray(targets), np.asarray(answers)
    if not right.size or len(came) != len(right):
        raise ValueError(f"answers should number as many as targets, at least 1, got {came.shape} for {right.shape}")
    return right, came


def _classes(targets: ArrayLike, answers: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """The right classes and those that the answers, classes or scores of them, name, both `(rows,)`."""
    right, came = _pair(targets, answers)
    if right.ndim != 1 or came.ndim not in (1, 2):
        raise ValueError(f"answers should have shape (rows,) or (rows, classes), got {came.shape} for {right.shape}")
    return right, came.argmax(1) if came.ndim == 2 else came


def accuracy(targets: ArrayLike, answers: ArrayLike) -> float:
    """The share of rows whose class is right.

    Args:
        targets: `(rows,)` classes.
        answers: `(rows,)` classes, or `(rows, classes)` scores, of which the highest counts.

    Raises:
        ValueError: no row, or as many answers as targets there are not.
    """
    right, came = _classes(targets, answers)
    return float(np.mean(right == came))


def balanced_accuracy(targets: ArrayLike, answers: ArrayLike) -> float:
    """The mean, over the classes that occur in `targets`, of the share of a class's rows that is right.

    Arguments and errors are those of `accuracy`.
    """
    right, came = _classes(targets, answers)
    return float(np.mean([np.mean(came[right == one] == one) for one in np.unique(right)]))


def log_probabilities(scores: ArrayLike) -> NDArray[np.float64]:
    """log softmax over the last axis, in float64: `(…, classes)`."""
    array = np.asarray(scores, np.float64)
    # Below its maximum, a row's exponentials neither overflow nor all vanish.
    shifted = array - array.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def cross_entropy(scores: ArrayLike, targets: ArrayLike) -> float:
    """The mean over rows of −log softmax(scores)[target], in nats.

    Args:
        scores: `(rows, classes)`.
        targets: `(rows,)` classes.

    Raises:
        ValueError: no row, shapes that do not fit, or a class that has no score.
    """
    right, came = _pair(targets, scores)
    if right.ndim != 1 or came.ndim != 2:
        raise ValueError(f"scores should have shape (rows, classes), got {came.shape} for {right.shape}")
    if right.min() < 0 or right.max() >= came.shape[1]:
        raise ValueError(f"targets should be from 0 to {came.shape[1] - 1}, got {right.min()} to {right.max()}")
    return float(-np.mean(log_probabilities(came)[np.arange(len(right)), right]))


def bits(nats: float) -> float:
    """Nats as bits: nats / log 2."""
    return nats / math.log(2)


def mean_absolute_error(targets: ArrayLike, answers: ArrayLike) -> float:
    """The mean of |answer − target| over all numbers.

    Args:
        targets: of any shape.
        answers: of the same.

    Raises:
        ValueError: no number, or another shape.
    """
    return float(np.mean(np.abs(_differences(targets, answers))))


def root_mean_squared_error(targets: ArrayLike, answers: ArrayLike) -> float:
    """√ of the mean of (answer − target)² over all numbers. Arguments and errors are those of `mean_absolute_error`."""
    return float(np.sqrt(np.mean(_differences(targets, answers) ** 2)))


def _differences(targets: ArrayLike, answers: ArrayLike) -> NDArray[np.float64]:
    right, came = _pair(targets, answers)
    if right.shape != came.shape:
        raise ValueError(f"answers should have the shape of targets, {right.shape}, got {came.shape}")
    return came.astype(np.float64) - right.astype(np.float64)


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that turn one sequence into the other (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def error_rates(
    references: Sequence[Sequence[Sequence[Hashable]]], answers: Sequence[Sequence[Hashable]]
) -> tuple[float, float]:
    """How wrong written pronunciations are where a word may have several right ones.

    Args:
        references: of each word its right pronunciations, at least one, as sequences of phonemes.
        answers: one pronunciation a word.

    Returns:
        The phoneme error rate: the edit distances to each word's nearest reference (of equally near ones the first), summed,
        over the lengths of these references, summed; and the word error rate: the share of words whose answer is none of
        their references.

    Raises:
        ValueError: no word, a word without a reference, references without a phoneme, or as many answers as words there are
            not.
    """
    if not len(references) or len(references) != len(answers) or not all(len(found) for found in references):
        raise ValueError(
            f"answers should number as many as references, at least 1 with one each, got {len(answers)} for {len(references)}"
        )
    distances, lengths = [], []
    for found, answer in zip(references, answers, strict=True):
        distance, nearest = min(((edit_distance(one, answer), one) for one in found), key=lambda pair: pair[0])
        distances.append(distance)
        lengths.append(len(nearest))
    if not sum(lengths):
        raise ValueError("references should hold at least one phoneme, got none")
    return sum(distances) / sum(lengths), sum(distance > 0 for distance in distances) / len(distances)
