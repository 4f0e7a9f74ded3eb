"""The copying problem: repeat two symbols after a long blank, see `rnn_common.data.synthetic.copying`.

There are no more than 64 pairs of symbols, so those to test are among those to train on: what is asked is whether a network
carries them over the blank, not whether it knows new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial

import numpy as np

from rnn_common.data.sequences import Sequences
from rnn_common.data.synthetic import copying
from rnn_common.networks import Array, Network, Stack
from rnn_common.tasks.adding import Size
from rnn_common.tasks.problem import Problem, Scores, Setting
from rnn_common.training.recipe import Recipe

SYMBOLS, LENGTH = 8, 2


SIZES: dict[Setting, Size] = {
    "tiny": Size((5, 10), 40, 30, 6, 10, 1),
    "quick": Size((50, 100), 10_000, 500, 32, 50, 5),
    "full": Size((50, 100, 200, 400), 10_000, 2000, 32, 50, 5),
}

sequences = cache(partial(copying, symbols=SYMBOLS, length=LENGTH))


def _network(size: Size, cell: str) -> Network:
    return Network(Stack(cell, SYMBOLS + 2, size.hidden, embedding=SYMBOLS), SYMBOLS, "steps")


def _recipe(size: Size, cell: str) -> Recipe:
    return Recipe(
        learning_rate=2e-2, schedule="cosine", warm_up=50, clip_norm=1.0, batch_size=size.batch_size, epochs=size.epochs
    )


def _scores(test: Sequences, answers: Sequence[Array]) -> Scores:
    right = np.array(
        [answer[-LENGTH:].argmax(1) == target[-LENGTH:] for answer, target in zip(answers, test.targets, strict=True)]
    )
    return {"symbols right": float(right.mean()), "both right": float(right.all(1).mean())}


def _guess() -> Mapping[str, Scores]:
    """Any symbol: what there is without a memory."""
    return {"guessing": {"symbols right": 1 / SYMBOLS, "both right": SYMBOLS**-LENGTH}}


def problems(setting: Setting) -> tuple[Problem, ...]:
    """A problem for each lag, see `rnn_common.tasks.problems`; one recipe for all."""
    size = SIZES[setting]
    found = []
    for lag in size.lengths:
        train, validation, test = (
            sequences(count, lag, seed=seed) for seed, count in ((1, size.examples), (2, size.tests), (3, size.tests))
        )
        found.append(
            Problem(
                name=f"copying {lag}",
                train=train,
                validation=validation,
                test=test,
                model=partial(_network, size),
                recipe=partial(_recipe, size),
                score=partial(_scores, test),
                baselines=_guess,
                lower_is_better={"symbols right": False, "both right": False},
                memory=lag,
            )
        )
    return tuple(found)
