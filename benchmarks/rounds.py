"""Calls timed in turn, each among operations of its framework, as in a user's program."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_benchmarks.runner import Conditions
from rnn_common.timing import time_in_turn
from rnn_common.twins import Framework

Array = NDArray[np.float64]

# How many rounds a comparison has at least and at most, and how long a turn is at least, in seconds.
ROUNDS = (5, 60)
TURN = 0.002
# There are at least so many where a round takes less than so many seconds.
USUALLY, LONG = 7, 3.0
# Seconds of a call of which the first, or one alone, says as much as a second would.
SLOW = 0.2
# A framework's threads look out for more work for some milliseconds. Where the next turn may be another framework's, they are
# given this long, in seconds, to go to sleep.
REST = 0.005
# The matrix product of the framework before every call, so that its threads are awake as between the layers of a program.
BETWEEN = 128


class Broken(Exception):
    """A call failed while it was timed.

    Attributes:
        index: which.
        error: what it raised.
    """

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(str(error))
        self.index, self.error = index, error


class Timed(NamedTuple):
    """A call, and the framework whose clock times it."""

    twin: Framework
    call: Callable[[], Any]


@dataclass
class _Turn:
    """One who is timed: seconds of a call, so far, and how many a turn has."""

    timed: Timed
    awake: Callable[[], Any]
    device: str
    rest: float
    first: float = 0.0
    calls: int = 1

    def calibrate(self) -> None:
        self.first = self._once()
        if self.first < SLOW:
            self.first = min(self.first, self._once())
        self.calls = max(1, int(np.ceil(TURN / self.first)))

    @property
    def length(self) -> float:
        return self.rest + self.first * self.calls

    def _once(self) -> float:
        return self.timed.twin.seconds(self.timed.call, 1, self.device)

    def seconds(self) -> float:
        """Of a call, in a turn after one that does not count: what was left in the caches before is not its doing."""
        time.sleep(self.rest)
        if self.first < 10 * TURN:
            self.awake()
            self._once()
        if self.device == "cuda":  # where calls are queued, and no threads of the framework wait
            return self.timed.twin.seconds(self.timed.call, self.calls, self.device)
        total = 0.0
        for _ in range(self.calls):
            self.awake()
            total += self._once()
        return total / self.calls


def in_turn(
    timed: Sequence[Timed], conditions: Conditions, budget: float, *, rest: float = 0.0, rounds: int | None = None
) -> Array:
    """Seconds of a call of each in each round, `(calls, rounds)`, in an order of its own in every round.

    A turn is as many calls as fill `TURN`, each after a small matrix product of its framework that is not timed.

    Args:
        timed: who.
        conditions: device, dtype, threads.
        budget: seconds that the rounds go on, within `ROUNDS`.
        rest: seconds before each turn. Default none.
        rounds: how many. Default: as fill the budget.

    Raises:
        Broken: a call raised something; says which.
    """
    device, dtype, _ = conditions
    awake = {
        name: twin.matrix_product(BETWEEN, device, dtype) for name, twin in {t.twin.name: t.twin for t in timed}.items()
    }
    turns = [_Turn(each, awake[each.twin.name], device, rest) for each in timed]

    def guarded(index: int, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:
            raise Broken(index, error) from error

    for index, turn in enumerate(turns):
        guarded(index, turn.calibrate)
    length = sum(turn.length for turn in turns)
    rounds = rounds or int(np.clip(budget / length, USUALLY if length < LONG else ROUNDS[0], ROUNDS[1]))
    calls = [partial(guarded, index, turn.seconds) for index, turn in enumerate(turns)]
    return time_in_turn(calls, rounds, warm_up=int(length < LONG), seconds=lambda call: call())
