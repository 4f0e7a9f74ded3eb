"""What can be wrong with one of two recurrent layers that should be equal, as a change of the right one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.doctor.calls import Call, Run, Seen, by_equations, rounding, seen
from rnn_common.exchange.description import Layer

Does = Callable[[Call], Seen]  # what a side does with a call


def same_layer(layer: Any) -> Any:
    return layer


def same_run(run: Run) -> Run:
    return run


@dataclass(frozen=True)
class Fault:
    """One thing that one layer does otherwise than another.

    Attributes:
        name: what it does, in words.
        group: what it is about; two faults of one group are one fault of it.
        row: the key of its row in `rnn_common.differences`.
        fix: what mends it, in words or a line of code.
        layer: the description that it makes of a right one. Default the same.
        run: the run that it makes of a right one. Default the same.
        undo: makes of what a side with this fault does what it should do, where that is possible from outside. Default None.
    """

    name: str
    group: str
    row: str
    fix: str
    layer: Callable[[Any], Any] = same_layer
    run: Callable[[Run], Run] = same_run
    undo: Callable[[Does], Does] | None = None


class At(NamedTuple):
    """A fault of one of some layers: of that at a place among them."""

    place: int
    fault: Fault


@dataclass(frozen=True)
class Suspect:
    """Some faults at once, in the order in which they are made."""

    faults: tuple[At, ...]

    def layers(self, layers: Sequence[Layer]) -> tuple[Layer, ...]:
        """The layers with these faults of description."""
        changed = list(layers)
        for place, fault in self.faults:
            changed[place] = fault.layer(changed[place])
        return tuple(changed)

    def runs(self) -> dict[int, Run]:
        """How those are run whose faults are of the call."""
        runs: dict[int, Run] = {}
        for place, fault in self.faults:
            if fault.run is not same_run:
                runs[place] = fault.run(runs.get(place, by_equations))
        return runs

    def seen(self, layers: Sequence[Layer], call: Call, dtype: DTypeLike = np.float64) -> Seen:
        return seen(self.layers(layers), call, dtype, self.runs())

    def rounding(self, layers: Sequence[Layer], call: Call, dtype: str) -> float:
        return rounding(self.layers(layers), call, dtype, self.runs())
