"""What a run does, step by step, and how long that is going to take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rnn_benchmarks.rounds import USUALLY
from rnn_benchmarks.runner import Contender
from rnn_benchmarks.settings import Settings
from rnn_benchmarks.timing import operations
from rnn_benchmarks.workloads import SWEPT, Workload, sweep


@dataclass(frozen=True)
class Step:
    """A part of a run.

    Attributes:
        threads: that an operation may use.
        workload: what is run; None of the self-test, which comes first.
        cell, measure: of which.
        variable, around, size: of a point of a sweep: what is swept, through which workload, and to what. Default no sweep.
    """

    threads: int
    workload: Workload | None = None
    cell: str = ""
    measure: str = ""
    variable: str = ""
    around: str = ""
    size: int = 0

    def __str__(self) -> str:
        if self.workload is None:
            what = "self-test"
        else:
            where = f"{self.variable} sweep" if self.variable else self.workload.name
            what = f"{where}, {self.cell}, {self.measure}"
        return f"{what}, {self.threads} thread{'s' * (self.threads > 1)}"


def steps(settings: Settings) -> list[Step]:
    """Everything, one number of threads after the other."""
    return [step for threads in settings.threads for step in steps_at(threads, settings)]


def steps_at(threads: int, settings: Settings) -> Iterator[Step]:
    """What is done at one number of threads: the sweeps at the largest alone."""
    yield Step(threads)
    for workload in settings.all_workloads:
        for cell in settings.cells:
            for measure in settings.measures:
                yield Step(threads, workload, cell, measure)
    if threads != max(settings.threads):
        return
    cell, measure = settings.swept_cell, settings.measures[-1]
    for around in settings.own or [SWEPT]:
        for variable in settings.sweeps:
            for size, workload in sweep(variable, around).items():
                yield Step(threads, workload, cell, measure, variable, around.name, size)


# Of an ordinary core. What it is on this machine is known as soon as something was timed.
RATE = 4e10  # operations a second
STEP = 1e-5  # seconds of a step of the sequence beside its products
START = 0.6  # seconds in which a contender is made, traced or compiled
ORACLE = 1e10  # operations a second of the oracle, in float64


def expected(step: Step, settings: Settings, contenders: Sequence[Contender]) -> float:
    """Seconds that a step is guessed to take, before anything was timed."""
    if step.workload is None:
        return 4.0
    workload = step.workload
    training = operations(workload, step.cell, "training")
    padded = workload.batch * workload.time / workload.steps
    seconds = 4 * training / ORACLE  # the oracle is all of it in float64, and inputs are drawn
    for framework in {contender.framework for contender in contenders}:
        flops = operations(workload, step.cell, step.measure) * (padded if framework == "tf" else 1)
        call = flops / (RATE * step.threads) + STEP * workload.time
        count = sum(
            contender.framework == framework and contender.takes(step.cell) and step.measure in contender.measures
            for contender in contenders
        )
        timed = max(settings.seconds, USUALLY * count * call)
        seconds += count * (START + 4 * call) + timed
        seconds += timed * 2 / max(1, count) * (not step.variable)  # beside the other framework
    return seconds


class Remaining:
    """The time left: a guess at first, corrected by how long what is behind has taken beside what was guessed of it.

    Args:
        guessed: seconds of each step.
        clock: gives the time in seconds. Default the machine's.
    """

    TRUSTED = 20.0  # seconds, after which what was measured outweighs the guess

    def __init__(self, guessed: Sequence[float], clock: Callable[[], float] = time.monotonic) -> None:
        self._guessed, self._clock, self._begun = list(guessed), clock, clock()

    def before(self, index: int) -> tuple[float, float]:
        """The share of the work that is behind before a step, and the seconds that are left."""
        behind, ahead = sum(self._guessed[:index]), sum(self._guessed[index:])
        pace = (self._clock() - self._begun + self.TRUSTED) / (behind + self.TRUSTED)
        return behind / (behind + ahead), ahead * pace
