"""The order of a diagnosis, each part of which may end it.

1. Each side twice: does it give the same? 2. Are they apart? 3. Each side against the equations with its own weights and
configuration, which says who does something else than it is declared to. 4. What the two are declared to be: weights matched by
content, configuration compared. 5. Of a side that does something else, or that does not say what it is: which faults come to
what was seen. 6. All causes together, proven. 7. Else unexplained, with what came nearest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rnn_common.doctor import matching, probe
from rnn_common.doctor.calls import Call, Seen, apart, coarser, rounding, seen
from rnn_common.doctor.faults import At, Suspect, sequences_fault
from rnn_common.doctor.gates import first_difference
from rnn_common.doctor.report import Cause, Equations, Report
from rnn_common.doctor.search import Result, search, sorted_by_sight
from rnn_common.doctor.sides import Side, side
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Layer, Recurrent

SECONDS = 30.0


def diagnose(
    a: Any,
    b: Any,
    *,
    x: Array | None = None,
    lengths: Array | None = None,
    layer_a: str = "",
    layer_b: str = "",
    seconds: float = SECONDS,
) -> Report:
    """Say whether two recurrent layers or networks that should be equal are, and if not, why.

    Args:
        a: what is right, or thought to be: a layer or network of PyTorch, Keras or ours, a file, a layer as
            `rnn_common.exchange` describes it, a function of `x`, or a `Side`.
        b: what is held against it.
        x: `(batch, time, input)`, or symbols `(batch, time)`. Default drawn so that most shows.
        lengths: `(batch,)`, how many steps each sequence has. Default two lengths, where both sides heed any.
        layer_a, layer_b: of a file, what the names of the wanted layers begin with. Default all.
        seconds: after which no further suspect is tried. Default 30.

    Raises:
        TypeError, ValueError: something that cannot be compared; names it.
        NotUnderstood, OSError: of a file, see `exchange.read`.
    """
    sides = side(a, "a", layer_a), side(b, "b", layer_b)
    asked = probe.calls(*sides, x, lengths)
    return _Diagnosis(*sides, asked, time.monotonic() + seconds).report()


@dataclass
class _Diagnosis:
    """A diagnosis on its way."""

    a: Side
    b: Side
    calls: list[Call]
    end: float
    causes: list[Cause] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    nearest: list[tuple[str, float]] = field(default_factory=list)
    tried: int = 0
    whole: bool = True

    def report(self) -> Report:
        random = self._settle()
        seen_by = [(self.a.run(call), self.b.run(call)) for call in self.calls]
        bound = max(self._bound(call) for call in self.calls)
        apart_by = [self._apart(*both, call) for both, call in zip(seen_by, self.calls, strict=True)]
        deviation = max(apart_by)
        equations = self._equations(seen_by)
        base = Report("equal", deviation, bound, equations)
        if deviation <= bound and all(each.hold for each in equations.values()):
            verdict = "random" if random else "equal"
            return self._finished(replace(base, verdict=verdict))
        return self._finished(self._explained(base, seen_by, random))

    # 1. Each side twice

    def _settle(self) -> bool:
        """Whether a side gives something else each time; it is then taken out of training, where it can be."""
        random = False
        for name in ("a", "b"):
            each: Side = getattr(self, name)
            first, second = each.run(self.calls[0]), each.run(self.calls[0])
            if apart(first, second) == 0 or self._rounds(each, first, second):
                continue
            random = True
            evaluated = each.evaluated() if each.evaluated else None
            if evaluated is not None and apart(*(evaluated.run(self.calls[0]) for _ in range(2))) == 0:
                setattr(self, name, evaluated)
                self._cause("dropout on: it is in training", name, "", "mode", f"{name}.eval()")
                self.notes.append(f"What follows is of {name} out of training.")
            else:
                self._cause(
                    "something that is drawn anew, or a state that is kept from call to call",
                    name,
                    "",
                    "mode",
                    "eval() in PyTorch, training=False in Keras, reset_state() where stateful=True",
                )
        return random

    def _rounds(self, each: Side, first: Seen, second: Seen) -> bool:
        """Whether two calls differ by rounding, as sums in another order do."""
        return bool(each.layers) and apart(first, second) <= rounding(each.layers, self.calls[0], each.dtype)

    # 2. Are they apart?

    def _bound(self, call: Call) -> float:
        layers = self.a.layers or self.b.layers
        dtype = coarser(self.a.dtype, self.b.dtype)
        return rounding(layers, call, dtype) if layers else 1e-5

    def _apart(self, a: Seen, b: Seen, call: Call) -> float:
        """How far; where one hands on every output and the other the last, by the last."""
        if a.outputs.ndim != b.outputs.ndim:
            a, b = (Seen(_last(each, call)) for each in (a, b))
        return apart(b, a, call.lengths)

    # 3. Each side against the equations

    def _equations(self, seen_by: Sequence[tuple[Seen, Seen]]) -> dict[str, Equations]:
        found = {}
        for n, each in enumerate((self.a, self.b)):
            if each.layers:
                pairs = [
                    (apart(both[n], seen(each.layers, call), call.lengths), rounding(each.layers, call, each.dtype))
                    for both, call in zip(seen_by, self.calls, strict=True)
                ]
                worst = max(pairs, key=lambda pair: pair[0] / pair[1])
                found["ab"[n]] = Equations(*worst)
        return found

    # 4 to 6. Why

    def _explained(self, base: Report, seen_by: Sequence[tuple[Seen, Seen]], random: bool) -> Report:
        declared = base.equations
        explained = bool(declared)
        suspects: list[At] = []
        strange = False
        for n, name in enumerate("ab"):
            if name in declared and not declared[name].hold:
                explained &= self._searched(name, getattr(self, name).layers, [both[n] for both in seen_by])
        if len(declared) == 2:
            alike, strange, suspects = self._declared_otherwise()
            explained &= alike
        elif declared:
            (known,) = declared
            other = "ab".replace(known, "")
            observed = [both["ab".index(other)] for both in seen_by]
            explained &= self._searched(other, getattr(self, known).layers, observed)
        first = first_difference(self.a, self.b, self.calls, seen_by, base.bound)
        verdict = "different weights" if strange else "random" if random and explained else "unexplained"
        if explained and not strange and self.causes and verdict != "random":
            verdict = "explained"
        return replace(base, verdict=verdict, first=first, proof=self._proof(suspects, declared, seen_by))

    def _searched(self, name: str, layers: Sequence[Layer], observed: Sequence[Seen]) -> bool:
        """Whether faults come to what was seen of a side, in every call; they are its causes."""
        whose: Side = getattr(self, name)
        layers, found = self._handing_on(name, tuple(layers), observed[0]), []
        for call, each in zip(self.calls, observed, strict=True):
            now = Suspect(tuple(found))
            if self._agrees(now, layers, call, each, whose.dtype):
                continue
            left = max(0.0, self.end - time.monotonic())
            result = search(layers, call, each, whose.dtype, left, now.faults)
            self.tried += result.tried
            self.whole &= result.whole
            if not result.suspects:
                self.nearest += [(_words(suspect), deviation) for suspect, deviation in result.nearest]
                return False
            self._causes_of(result, name, layers, len(found))
            found = list(result.suspects[0].faults)
        return True

    def _handing_on(self, name: str, layers: tuple[Layer, ...], observed: Seen) -> tuple[Layer, ...]:
        """The layers as they hand on what the side does: every output or the last."""
        last = layers[-1]
        every = observed.outputs.ndim == 3
        if not isinstance(last, Recurrent) or every is (last.returns_sequences is not False):
            return layers
        fault = sequences_fault(every)
        self._cause(fault.name, name, last.name if len(layers) > 1 else "", fault.row, fault.fix)
        return (*layers[:-1], fault.layer(last))

    def _agrees(self, suspect: Suspect, layers: tuple[Layer, ...], call: Call, each: Seen, dtype: str) -> bool:
        return self._apart(suspect.seen(layers, call), each, call) <= suspect.rounding(layers, call, dtype)

    def _causes_of(self, result: Result, name: str, layers: tuple[Layer, ...], known: int) -> None:
        """The new faults of the first suspect; those of the others that explain the same are its ties."""
        first, *others = (suspect.faults[known:] for suspect in result.suspects)
        ties = tuple(" and ".join(fault.name for _, fault in each) for each in others)
        for n, (place, fault) in enumerate(first):
            layer = layers[place].name if len(layers) > 1 else ""
            self._cause(fault.name, name, layer, fault.row, fault.fix, ties=ties if n == len(first) - 1 else ())

    def _declared_otherwise(self) -> tuple[bool, bool, list[At]]:
        """Whether the layers can be compared, whether weights are strange, and the faults that make b's layers of a's."""
        mine, theirs = self.a.layers, self.b.layers
        if [type(each) for each in mine] != [type(each) for each in theirs]:
            self.notes.append(f"a is {_sketch(mine)}, b is {_sketch(theirs)}: layers are compared where both have one.")
            mine, theirs = (tuple(each for each in some if isinstance(each, Recurrent)) for some in (mine, theirs))
            if len(mine) != len(theirs):
                return False, False, []
        suspects: list[At] = []
        strange = False
        for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            try:
                found = matching.differences(one, other, coarser(self.a.dtype, self.b.dtype))
            except ValueError as error:
                self.notes.append(f"{error}.")
                return False, False, suspects
            suspects += [At(place, fault) for fault in found.faults]
            instead = tuple(" and ".join(each.name for each in faults) for faults in found.instead)
            layer = one.name if len(mine) > 1 else ""
            for n, fault in enumerate(found.faults):
                self._cause(fault.name, "b", layer, fault.row, fault.fix, True, () if n else instead)
            if found.strange:
                strange = True
                self._strange(found, one, other)
        return True, strange, suspects

    def _strange(self, found: matching.Differences, one: Layer, other: Layer) -> None:
        whose = next((each.name for each in self.a.layers if each is not one and _equal(each, other)), "")
        where = f" of {one.name}" if len(self.a.layers) > 1 else ""
        if whose:
            self.notes.append(f"b's {other.name} has the weights of a's {whose}: the layers are in another order.")
        said = f"{found.of - found.equal} of {found.of} weights{where} are others in b: {', '.join(found.strange)}."
        self.notes.append(said)
        for name, (related, correlation) in (found.related or {}).items():
            self.notes.append(f"b's {name} correlates most with a's {related}: {correlation:.2f}.")

    def _proof(
        self, suspects: list[At], declared: dict[str, Equations], seen_by: Sequence[tuple[Seen, Seen]]
    ) -> float | None:
        """How far b is from a's layers with all by which they are declared otherwise, where both do what they say."""
        if not suspects or not all(each.hold for each in declared.values()):
            return None
        made = Suspect(tuple(suspects))
        pairs = zip(self.calls, seen_by, strict=True)
        return max(self._apart(made.seen(self.a.layers, call), both[1], call) for call, both in pairs)

    def _cause(
        self,
        name: str,
        whose: str,
        layer: str,
        row: str,
        fix: str,
        declared: bool = False,
        ties: tuple[str, ...] = (),
    ) -> None:
        self.causes.append(Cause(name, whose, declared, layer, row, fix, ties))

    # 7. The end

    def _finished(self, report: Report) -> Report:
        return replace(
            report,
            causes=tuple(self.causes),
            nearest=tuple(self.nearest),
            tried=self.tried,
            whole=self.whole,
            notes=tuple(self.notes),
            blind=self._blind(),
        )

    def _blind(self) -> tuple[str, ...]:
        """What no call could have shown."""
        layers = self.a.layers or self.b.layers
        shown: set[str] = set()
        blind: set[str] = set()
        for call in self.calls if layers else ():
            for names, faults in zip((shown, blind), sorted_by_sight(layers, call), strict=True):
                names |= {_in_layer(layers, each) for each in faults}
        return tuple(sorted(blind - shown))


def _in_layer(layers: Sequence[Layer], at: At) -> str:
    return at.fault.name + (f", in {layers[at.place].name}" if len(layers) > 1 else "")


def _last(each: Seen, call: Call) -> Array:
    """The last output of each sequence."""
    if each.outputs.ndim == 2:
        return each.outputs
    batch, time_, _ = each.outputs.shape
    ends = np.full(batch, time_) if call.lengths is None else call.lengths
    return np.asarray(each.outputs[np.arange(batch), ends - 1])


def _words(suspect: Suspect) -> str:
    return " and ".join(fault.name for _, fault in suspect.faults)


def _sketch(layers: Sequence[Layer]) -> str:
    return " → ".join(each.cell.name if isinstance(each, Recurrent) else type(each).__name__.lower() for each in layers)


def _equal(a: Layer, b: Layer) -> bool:
    try:
        found = matching.differences(a, b)
    except ValueError:
        return False
    return not found.faults and not found.strange
