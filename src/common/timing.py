"""Functions timed in turn, so that what changes on a machine meanwhile changes for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from timeit import timeit
from typing import Any

import numpy as np
from numpy.typing import NDArray


def time_in_turn(
    functions: Sequence[Callable[[], Any]],
    rounds: int,
    *,
    warm_up: int = 2,
    seconds: Callable[[Callable[[], Any]], float] = lambda function: timeit(function, number=1),
) -> NDArray[np.float64]:
    """Seconds of each call of some functions, `(functions, rounds)`, called in turn, after rounds that are not counted.

    Each round has an order of its own, drawn at random, so that none of them always follows the same one.

    Args:
        functions: of no arguments.
        rounds: how many rounds count, at least 1.
        warm_up: rounds before them that do not count. Default 2.
        seconds: how to time a function. Default by one call.
    """
    found = np.empty((len(functions), rounds))
    random = np.random.default_rng(0)
    for i in range(-warm_up, rounds):
        for j in random.permutation(len(functions)):
            elapsed = seconds(functions[j])
            if i >= 0:
                found[j, i] = elapsed
    return found
