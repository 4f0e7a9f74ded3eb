"""What can be asked for, and the checks of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rnn_benchmarks.contenders import framework_of, names
from rnn_benchmarks.own import is_file
from rnn_benchmarks.runner import Conditions
from rnn_benchmarks.workloads import DEFAULT, QUOTED, SWEEPS, WORKLOADS, Workload, least_memory, of_size
from rnn_common.cells import IN_BOTH, cell_of
from rnn_common.checks import one_of
from rnn_common.machine import check_memory
from rnn_common.reader import shown

MEASURES = ("inference", "training")
MOST_THREADS = 1024  # beyond what machines have; a framework that cannot start so many ends the process


@dataclass(frozen=True)
class Settings:
    """What to run.

    Args:
        workloads: among `workloads.WORKLOADS`. Default `workloads.DEFAULT`.
        cells: among `SimpleRNN`, `LSTM` and `GRU`, or the user's own. Default these three.
        measures: among `inference` and `training`. Default both.
        contenders: names as `contenders.everybody` has them, and files of the user's own. Where no name is among them, those
            that take part by default do, too.
        sweeps: among `time`, `width` and `batch`. Default all.
        dtype: `"float32"` (default), `"float64"` or `"bfloat16"`.
        device: `"cpu"` (default) or `"cuda"`.
        threads: that an operation may use, each from 1 to `MOST_THREADS`; with each all is run. Default 1, then 2.
        seconds: how long the rounds of a comparison go on, above 0, once they are enough to have an interval. Default 0.5.
        seed: of weights, inputs and intervals. Default 0.
        sizes: workloads of the user's own, `BATCHxTIMExINPUTxHIDDEN`; the sweeps pass through each. Default none.

    Raises:
        ValueError: one of them is out of its range.
    """

    workloads: tuple[str, ...] = DEFAULT
    cells: tuple[str, ...] = IN_BOTH
    measures: tuple[str, ...] = MEASURES
    contenders: tuple[str, ...] = ()
    sweeps: tuple[str, ...] = tuple(SWEEPS)
    dtype: str = "float32"
    device: str = "cpu"
    threads: tuple[int, ...] = (1, 2)
    seconds: float = 0.5
    seed: int = 0
    sizes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for argument, values, choices in (
            ("workload", self.workloads, list(WORKLOADS)),
            ("measure", self.measures, MEASURES),
            ("sweep", self.sweeps, list(SWEEPS)),
            ("dtype", [self.dtype], ["float32", "float64", "bfloat16"]),
            ("device", [self.device], ["cpu", "cuda"]),
        ):
            for value in values:
                one_of(argument, value, choices)
        for size in self.sizes:
            of_size(size)
        for name in self.contenders:
            if not is_file(name) and framework_of(name) is None:
                one_of("contender", name, names())
        for cell in self.cells:
            cell_of(cell)
        for threads in self.threads:
            if threads < 1:
                raise ValueError(f"threads should be at least 1, got {threads}")
            if threads > MOST_THREADS:
                raise ValueError(f"threads should be at most {MOST_THREADS}, got {threads}")
        for argument, given in (("cells", self.cells), ("measures", self.measures), ("threads", self.threads)):
            if not given:
                raise ValueError(f"{argument} should be at least one, got none")
        if not self.seconds > 0:
            raise ValueError(f"seconds should be above 0, got {self.seconds}")
        if self.seed < 0:
            raise ValueError(f"seed should be at least 0, got {self.seed}")

    def conditions(self, threads: int) -> Conditions:
        return Conditions(self.device, self.dtype, threads)

    @property
    def named(self) -> list[str]:
        """The contenders that are asked for by name; where there are none, those by default take part."""
        return [name for name in self.contenders if not is_file(name)]

    @property
    def files(self) -> list[str]:
        """The files of contenders of the user's own."""
        return [name for name in self.contenders if is_file(name)]

    @property
    def own(self) -> list[Workload]:
        """The workloads that are asked for by their size, each once."""
        return list({found.name: found for found in map(of_size, self.sizes)}.values())

    @property
    def all_workloads(self) -> list[Workload]:
        """Everything that is run, the sweeps aside."""
        return [WORKLOADS[name] for name in self.workloads] + self.own

    @property
    def quoted(self) -> list[str]:
        """The workloads over which means are taken: the published six, where they are all run; else everything."""
        names = [workload.name for workload in self.all_workloads]
        return list(QUOTED) if set(QUOTED) <= set(names) else names

    @property
    def swept_cell(self) -> str:
        """The cell whose growth is measured."""
        return "LSTM" if "LSTM" in self.cells else self.cells[0]

    def check_memory(self) -> None:
        """Refuse workloads that this machine cannot hold, before anything is allocated.

        Raises:
            ValueError: names the argument, what came, the memory that it needs and what there is.
        """
        for argument, workload in self._named():
            for cell in self.cells:
                check_memory(argument, workload.name, least_memory(workload, cell))

    def _named(self) -> Iterator[tuple[str, Workload]]:
        yield from (("workload", WORKLOADS[name]) for name in self.workloads)
        yield from (("size", workload) for workload in self.own)


def threads_of(text: str) -> tuple[int, ...]:
    """The numbers in `"1,2"`, each once.

    Raises:
        ValueError: it is none, or several with other things than commas between.
    """
    if re.fullmatch(r"-?\d{1,40}(,-?\d{1,40})*", text, re.ASCII) is None:
        raise ValueError(f"threads should be a whole number, or several with commas between, got {shown(text)}")
    return tuple(dict.fromkeys(map(int, text.split(","))))
