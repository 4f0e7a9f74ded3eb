"""What a contender is: a name, a framework, and how it is made ready to run a case."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from rnn_common import twins
from rnn_common.cells import IN_BOTH
from rnn_common.parity.case import Case

Array = NDArray[Any]


class Conditions(NamedTuple):
    """Where and how everybody runs.

    Attributes:
        device: `"cpu"` or `"cuda"`.
        dtype: `"float64"`, `"float32"` or `"bfloat16"`.
        threads: that an operation may use.
    """

    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1


class Refused(Exception):
    """A contender does not take a case, and says why: no fault of it."""


class Runner(Protocol):
    """A contender with a case: what is timed, and how to read what comes of it."""

    def inference(self) -> Callable[[], Any]:
        """A function that runs the layer forward."""

    def training(self) -> Callable[[], Any]:
        """A function that runs a training step, forward and backward."""

    def outputs(self, returned: Any) -> Array:
        """`(batch, time, hidden)`, from what the function of `inference` returned."""

    def gradients(self, returned: Any) -> dict[str, Array]:
        """Gradients of the weights by the document's names, from what the function of `training` returned."""


@dataclass(frozen=True)
class Contender:
    """Someone to time.

    Args:
        name: what it is called in a report.
        framework: `"torch"` or `"tf"`, for clock, device and the built-in layer that it is compared with.
        prepare: makes a runner of a case, or raises `Refused`.
        cells: that it can run, by name. Default those that both frameworks have.
        any_cell: whether it can run the others, too, and cells of the user's own. Default False.
        measures: that it takes part in. Default both.
        needs: packages that have to be installed besides the framework. Default none.
        dtypes: that it can run. Default all.
        devices: that it can run on. Default both.
        by_default: whether it takes part if none is asked for by name. Default True.
        shows_memory: whether the memory of a call can be seen from outside: XLA keeps that of the last one. Default True.
        checked: whether it has the weights of the case, so that it can be held against the oracle. Default True.
    """

    name: str
    framework: str
    prepare: Callable[[Case, Conditions], Runner]
    cells: tuple[str, ...] = IN_BOTH
    any_cell: bool = False
    measures: tuple[str, ...] = ("inference", "training")
    needs: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16")
    devices: tuple[str, ...] = ("cpu", "cuda")
    by_default: bool = True
    shows_memory: bool = True
    checked: bool = True

    def takes(self, cell: str) -> bool:
        return self.any_cell or cell in self.cells

    def absent(self) -> str | None:
        """What is not installed that this contender needs, or None."""
        if self.framework not in twins.installed():
            return f"{self.framework} is not installed"
        missing = [package for package in self.needs if importlib.util.find_spec(package) is None]
        return f"{missing[0]} is not installed" if missing else None
