"""Who is speaking: nine speakers in the Japanese Vowels recordings, see `rnn_common.data.vowels`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from rnn_common.data.sequences import Sequences
from rnn_common.data.vowels import japanese_vowels
from rnn_common.networks import Array, Network, Stack
from rnn_common.packages import optional
from rnn_common.tasks.metrics import accuracy
from rnn_common.tasks.problem import Problem, Scores, Setting
from rnn_common.training.recipe import Recipe

SPEAKERS = 9


class Size(NamedTuple):
    """A setting: every how many recordings one is taken, network, recipe."""

    every: int
    hidden: int
    epochs: int


SIZES: dict[Setting, Size] = {"tiny": Size(6, 6, 2), "quick": Size(1, 64, 20), "full": Size(1, 128, 60)}


def standardised(data: Sequences, mean: Array, deviation: Array) -> Sequences:
    """The sequences with every feature's mean subtracted and divided by its deviation."""
    return Sequences(data.name, tuple((x - mean) / deviation for x in data.sequences), data.targets)


def recordings(every: int = 1) -> tuple[Sequences, Sequences]:
    """Training and test recordings, standardised by the mean and deviation of the frames to train on."""
    train, test = (
        data.take(range(0, len(data), every)) for data in (japanese_vowels("train"), japanese_vowels("test"))
    )
    frames = np.concatenate(train.sequences)
    mean, deviation = frames.mean(0), frames.std(0)
    return standardised(train, mean, deviation), standardised(test, mean, deviation)


def _network(size: Size, cell: str) -> Network:
    return Network(Stack(cell, 12, size.hidden, bidirectional=True), SPEAKERS, "sequence")


def _recipe(size: Size, cell: str) -> Recipe:
    return Recipe(learning_rate=3e-3, schedule="cosine", clip_norm=1.0, batch_size=16, epochs=size.epochs, bucket=True)


def _scores(targets: Array, answers: Sequence[Array]) -> Scores:
    return {"accuracy": accuracy(targets, np.asarray(answers))}


def _classifiers(train: Sequences, test: Sequences) -> Mapping[str, Scores]:
    """Two classifiers that see no order: of each recording the mean and deviation of every feature."""
    discriminant = optional("sklearn.discriminant_analysis", "the baselines need", package="scikit-learn")
    linear = optional("sklearn.linear_model", "the baselines need", package="scikit-learn")

    def statistics(data: Sequences) -> Array:
        return np.array([np.concatenate([x.mean(0), x.std(0)]) for x in data.sequences])

    found = {}
    for name, classifier in (
        ("linear discriminant of means and deviations", discriminant.LinearDiscriminantAnalysis()),
        ("logistic regression of means and deviations", linear.LogisticRegression(max_iter=2000)),
    ):
        answers = classifier.fit(statistics(train), train.targets).predict(statistics(test))
        found[name] = {"accuracy": accuracy(np.asarray(test.targets), answers)}
    return found


def problems(setting: Setting) -> tuple[Problem, ...]:
    """The one problem, see `rnn_common.tasks.problems`. There is no validation data: nothing is chosen by them."""
    size = SIZES[setting]
    train, test = recordings(size.every)
    return (
        Problem(
            name="speech",
            train=train,
            validation=None,
            test=test,
            model=partial(_network, size),
            recipe=partial(_recipe, size),
            score=partial(_scores, np.asarray(test.targets)),
            baselines=partial(_classifiers, train, test),
            lower_is_better={"accuracy": False},
            seeds=3,
        ),
    )
