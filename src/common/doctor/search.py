"""Which faults of the catalogue turn what layers should give into what was seen: one at once, then two."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from rnn_common.doctor.calls import Call, Seen, apart, rounding, seen
from rnn_common.doctor.catalogue import catalogue
from rnn_common.doctor.faults import At, Suspect
from rnn_common.exchange.description import Layer

SECONDS = 20.0
OF_WEIGHTS = {"gates", "the kernel", "the recurrent kernel", "biases", "form"}  # what these are about may not commute
IMPOSSIBLE = (
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)  # raised by faults that cannot be together, or not in such a call


class Tried(NamedTuple):
    """A suspect, and how far from what was seen it is."""

    suspect: Suspect
    deviation: float


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        suspects: all of the fewest faults that explain what was seen, nearest first; several are a tie.
        nearest: those that came nearest, best first.
        tried: how many suspects were held against what was seen.
        whole: whether that was all of them, before the time was over.
    """

    suspects: tuple[Suspect, ...]
    nearest: tuple[Tried, ...]
    tried: int
    whole: bool


def single_faults(layers: Sequence[Layer], call: Call) -> list[At]:
    """The catalogue of each layer."""
    return [At(place, fault) for place, layer in enumerate(layers) for fault in catalogue(layer, call)]


def sorted_by_sight(
    layers: Sequence[Layer], call: Call, dtype: str = "float32", end: float = float("inf")
) -> tuple[list[At], list[At], list[At]]:
    """The faults that would show on such a call, those that would not, and those of which it is not known at the end."""
    right, bound = seen(layers, call), rounding(layers, call, dtype)
    shown: list[At] = []
    blind: list[At] = []
    faults = single_faults(layers, call)
    for n, each in enumerate(faults):
        if time.monotonic() > end:
            return shown, blind, faults[n:]
        try:
            deviation = apart(Suspect((each,)).seen(layers, call), right, call.lengths)
        except IMPOSSIBLE:
            continue
        (blind if deviation <= bound else shown).append(each)
    return shown, blind, []


def search(
    layers: Sequence[Layer],
    call: Call,
    target: Seen,
    dtype: str = "float32",
    seconds: float = SECONDS,
    known: tuple[At, ...] = (),
) -> Result:
    """Look for the faults that explain what was seen.

    Args:
        layers: what they are declared to be.
        call: what they were given.
        target: what they gave.
        dtype: in which they ran.
        seconds: after which the search ends. Default `SECONDS`.
        known: faults that they have already; each suspect has these first. Default none.
    """
    end = time.monotonic() + seconds
    shown, _, untried = sorted_by_sight(layers, call, dtype, end)
    singles = _try((Suspect((*known, each)) for each in shown), layers, call, target, end)
    if found := _explaining(singles, layers, call, target, dtype):
        return Result(found, tuple(singles[:3]), len(singles), not untried and time.monotonic() <= end)
    nearest_first = [each.suspect.faults[-1] for each in singles]
    pairs = _try((Suspect((*known, *pair)) for pair in _pairs(nearest_first, shown)), layers, call, target, end)
    found = _explaining(pairs, layers, call, target, dtype)
    nearest = sorted((*singles[:3], *pairs[:3]), key=lambda each: each.deviation)[:3]
    return Result(found, tuple(nearest), len(singles) + len(pairs), time.monotonic() <= end)


def _try(suspects: Iterator[Suspect], layers: Sequence[Layer], call: Call, target: Seen, end: float) -> list[Tried]:
    """How far each suspect is from what was seen, nearest first, until the time is over."""
    tried = []
    for suspect in suspects:
        if time.monotonic() > end:
            break
        try:
            tried.append(Tried(suspect, apart(target, suspect.seen(layers, call), call.lengths)))
        except IMPOSSIBLE:
            continue
    return sorted(tried, key=lambda each: each.deviation)


def _pairs(singles: Sequence[At], shown: Sequence[At]) -> Iterator[tuple[At, ...]]:
    """Two faults that are not about the same thing, in the catalogue's order; first those of which one by itself came nearest.

    Two of the weights in either order, for they may not commute.
    """
    order = {each: place for place, each in enumerate(shown)}
    for pair in combinations(singles, 2):
        if len({(place, fault.group) for place, fault in pair}) < 2:
            continue
        first, second = sorted(pair, key=order.__getitem__)
        yield first, second
        if first.place == second.place and {first.fault.group, second.fault.group} <= OF_WEIGHTS:
            yield second, first


def _explaining(
    tried: Sequence[Tried], layers: Sequence[Layer], call: Call, target: Seen, dtype: str
) -> tuple[Suspect, ...]:
    """Those that come to what was seen, to rounding; of two that are the same in another order the first."""
    found: dict[frozenset[At], Suspect] = {}
    for suspect, deviation in tried:
        if deviation <= 0.1 and deviation <= suspect.rounding(layers, call, dtype):
            found.setdefault(frozenset(suspect.faults), suspect)
    return tuple(found.values())
