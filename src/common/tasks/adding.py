"""The adding problem (Hochreiter & Schmidhuber 1997, experiment 4): remember two marked numbers and add them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np

from rnn_common.data.sequences import Sequences
from rnn_common.data.synthetic import adding
from rnn_common.networks import Array, Network, Stack
from rnn_common.tasks.problem import Problem, Scores, Setting
from rnn_common.training.recipe import Recipe

SOLVED = 0.04  # an answer that is no further off is right, as in the paper


class Size(NamedTuple):
    """A setting: lengths (of `copying`, blanks), sequences to train on and to test, network, recipe."""

    lengths: tuple[int, ...]
    examples: int
    tests: int
    hidden: int
    batch_size: int
    epochs: int


SIZES: dict[Setting, Size] = {
    "tiny": Size((10, 20), 40, 30, 6, 10, 1),
    "quick": Size((50, 100, 200, 400), 10_000, 500, 32, 50, 2),
    "full": Size((50, 100, 200, 400), 40_000, 2000, 64, 50, 4),
}


@cache
def sequences(count: int, length: int, seed: int) -> Sequences:
    """The sequences, with targets `(count, 1)`."""
    data = adding(count, length, seed=seed)
    return Sequences(data.name, data.sequences, np.asarray(data.targets)[:, None])


def _network(size: Size, cell: str) -> Network:
    return Network(Stack(cell, 2, size.hidden), 1, "forecast")


def _recipe(size: Size, cell: str) -> Recipe:
    return Recipe(learning_rate=1e-2, schedule="cosine", clip_norm=1.0, batch_size=size.batch_size, epochs=size.epochs)


def _scores(targets: Array, answers: Sequence[Array]) -> Scores:
    errors = np.asarray(answers) - targets
    return {"mean squared error": float(np.mean(errors**2)), "solved": float(np.mean(np.abs(errors) < SOLVED))}


def _constant(train: Sequences, test: Sequences) -> Mapping[str, Scores]:
    """Always the mean of the training targets: what there is without a memory."""
    targets = np.asarray(test.targets)
    return {"the mean": _scores(targets, np.full_like(targets, np.mean(np.asarray(train.targets))))}  # type: ignore[arg-type]


def problems(setting: Setting) -> tuple[Problem, ...]:
    """A problem for each length, see `rnn_common.tasks.problems`; one recipe for all."""
    size = SIZES[setting]
    found = []
    for length in size.lengths:
        train = sequences(size.examples, length, 1)
        validation, test = sequences(size.tests, length, 2), sequences(size.tests, length, 3)
        found.append(
            Problem(
                name=f"adding {length}",
                train=train,
                validation=validation,
                test=test,
                model=partial(_network, size),
                recipe=partial(_recipe, size),
                score=partial(_scores, np.asarray(test.targets)),
                baselines=partial(_constant, train, test),
                lower_is_better={"mean squared error": True, "solved": False},
                memory=length,
            )
        )
    return tuple(found)
