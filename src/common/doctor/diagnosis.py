"""The order of a diagnosis, each part of which may end it.

1. Each side twice: does it give the same? 2. Are they apart? 3. Each side against the equations with its own weights and
configuration, which says who does something else than it is declared to. 4. What the two are declared to be: weights matched by
content, configuration compared. 5. Of a side that does something else, or that does not say what it is: which faults come to
what was seen. 6. All causes together, proven. 7. Else unexplained, with what came nearest.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rnn_common import twins
from rnn_common.checks import at_least
from rnn_common.doctor import in_precision, matching, network, probe
from rnn_common.doctor.calls import UNITS, Call, Seen, apart, coarser, held_in, rounding, seen
from rnn_common.doctor.faults import At, Does, Suspect
from rnn_common.doctor.gates import first_difference
from rnn_common.doctor.in_calls import HOLDS
from rnn_common.doctor.in_configuration import sequences_fault
from rnn_common.doctor.report import Cause, Equations, First, Proof, Report, Verdict
from rnn_common.doctor.search import Result, search, sorted_by_sight
from rnn_common.doctor.sides import Side, side
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Layer, Recurrent

SECONDS = 30.0
FRAMEWORKS = {"torch": "PyTorch", "tf": "Keras"}
UNKNOWN_BOUND = 1e-5  # where neither side says what it is
REACH = 0.5  # where rounding alone may set two equal ones further apart, how far they are says nothing


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
    return prepare(a, b, x=x, lengths=lengths, layer_a=layer_a, layer_b=layer_b, seconds=seconds).report()


def prepare(
    a: Any,
    b: Any,
    *,
    x: Array | None = None,
    lengths: Array | None = None,
    layer_a: str = "",
    layer_b: str = "",
    seconds: float = SECONDS,
) -> Diagnosis:
    """What can be wrong with what is asked for is found here, before the work; see `diagnose`."""
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds should be a number, got {type(seconds).__name__}")
    at_least("seconds", seconds, 0)
    sides = side(a, "a", layer_a), side(b, "b", layer_b)
    calls = probe.calls(*sides, x, lengths)
    with sides[0].untouched(), sides[1].untouched():
        sides = network.completed(*sides, calls[0]), network.completed(*sides[::-1], calls[0])
        for each in sides:
            _try(each, calls)
    return Diagnosis(*sides, calls, time.monotonic() + seconds)


def _try(each: Side, calls: Sequence[Call]) -> None:
    """Run a side once on every call.

    Raises:
        ValueError: it does not take it, or gives no outputs.
    """
    for call in calls:
        try:
            outputs = np.asarray(each.run(call).outputs)
        except Exception as error:  # whatever a model of the user's own raises
            first = " ".join(list(filter(None, str(error).split("\n")))[:2])  # Keras says first where, and then what
            raise ValueError(
                f"x should be what {each.name} takes, got {call.x.dtype} {call.x.shape}: {type(error).__name__}: {first}"
            ) from error
        if outputs.ndim not in (2, 3) or not np.issubdtype(outputs.dtype, np.floating):
            raise ValueError(
                f"{each.name} should give floating-point outputs of 2 or 3 axes, got {outputs.dtype} {outputs.shape}"
            )


@dataclass
class Diagnosis:
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
    seen_by: list[tuple[Seen, Seen]] = field(default_factory=list)
    undone: list[Callable[[Does], Does] | None] = field(
        default_factory=list
    )  # what mends what is done otherwise than declared
    drawn: bool = False  # whether what is compared is something else each time
    chains: set[str] = field(default_factory=set)  # the sides whose layers each read what the one before it gives

    def report(self) -> Report:
        with self.a.untouched(), self.b.untouched():
            return self._report()

    def _report(self) -> Report:
        self.calls = [self._within_reach(call) for call in self.calls]
        random = self._settle()
        self.seen_by = [(self.a.run(call), self.b.run(call)) for call in self.calls]
        self._said_of_outputs()
        equations = self._equations()
        bound = max(self._bound(call, equations) for call in self.calls)
        deviation = max(self._apart(*both, call) for call, both in self._calls())
        base = Report("equal", deviation, bound, equations)
        alike = all(one.outputs.shape == other.outputs.shape for one, other in self.seen_by)
        same = alike and deviation <= bound < np.inf and all(each.hold for each in equations.values())
        if same:
            self._said_of_what_does_not_show(equations)
        if same or self.drawn:
            return self._finished(replace(base, verdict="random" if random else "equal"))
        return self._finished(self._explained(base, random))

    def _said_of_outputs(self) -> None:
        for name, each in zip("ab", self.seen_by[0], strict=True):
            if each.others:
                self.notes.append(f"Of {name} the first output was compared, not the other {each.others}.")

    def _said_of_what_does_not_show(self, equations: dict[str, Equations]) -> None:
        """Equal outputs of layers that are declared otherwise: in a longer or a stronger probe they would differ."""
        if len(equations) < 2:
            return
        kept, self.causes = self.causes, []
        _, strange, suspects = self._declared_otherwise()
        found, self.causes = self.causes, kept
        if any(suspects.values()) or strange:
            what = ", ".join(cause.name for cause in found) or "weights"
            self.notes.append(f"They are not declared alike, which this probe could not show: {what}.")

    def _calls(self) -> Iterator[tuple[Call, tuple[Seen, Seen]]]:
        """Each call with what both sides gave."""
        return zip(self.calls, self.seen_by, strict=True)

    # 1. Each side twice

    def _settle(self) -> bool:
        """Whether a side gives something else each time; it is then taken out of training, where it can be."""
        random = False
        call = self.calls[0]._replace(state=None)  # with a state it would not show that one is kept
        for name in ("a", "b"):
            each: Side = getattr(self, name)
            if not _differs(each, call):
                continue
            random = True
            evaluated = each.evaluated() if each.evaluated else None
            if evaluated is not None and not _differs(evaluated, call):
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
                self.drawn |= _differs(each, self.calls[0])
        return random

    # 2. Are they apart?

    def _within_reach(self, call: Call) -> Call:
        """A call of no more steps than rounding leaves something to say about: some layers amplify it at every step."""
        steps = time_ = call.x.shape[1]
        shorter = call
        while steps > 1 and not self._reach(shorter) <= REACH:
            steps //= 2
            lengths = None if call.lengths is None else np.minimum(call.lengths, steps)
            shorter = call._replace(x=call.x[:, :steps], lengths=lengths)
        if steps == time_:
            return call
        try:
            for each in (self.a, self.b):
                each.run(shorter)
        except Exception:  # a model of the user's own that takes so many steps and no fewer
            self.notes.append(f"These layers amplify rounding: after {steps} of {time_} steps nothing can be said.")
            return call
        self.notes.append(f"These layers amplify rounding: the first {steps} of {time_} steps are compared.")
        return shorter

    def _reach(self, call: Call) -> float:
        """How far apart rounding may set the two; 0 where that cannot be said of layers one after the other."""
        dtypes = {self.a.dtype, self.b.dtype}
        layers = [each.layers for each in (self.a, self.b) if each.layers]
        try:
            return max((rounding(each, call, dtype) for each in layers for dtype in dtypes), default=0.0)
        except ValueError:
            return 0.0

    def _finer_first(self) -> list[Side]:
        """Weights that were rounded to the coarser dtype say nothing of how far that has moved the outputs."""
        return sorted((self.a, self.b), key=lambda each: UNITS[each.dtype])

    def _bound(self, call: Call, equations: dict[str, Equations]) -> float:
        """How far: measured on the layers of a side that does what they say, else on all layers by themselves."""
        dtype = coarser(self.a.dtype, self.b.dtype)
        for whose in self._finer_first():
            if whose.name in self.chains and equations[whose.name].hold:
                return rounding(whose.layers, call, dtype)
        for whose in self._finer_first():
            if whose.layers:
                return sum(rounding(step.side.layers, step.call, dtype) for step in network.steps(whose, call))
        return UNKNOWN_BOUND

    def _apart(self, a: Seen, b: Seen, call: Call) -> float:
        """How far; where one hands on every output and the other the last, by the last."""
        if a.outputs.ndim != b.outputs.ndim:
            a, b = (Seen(_last(each, call)) for each in (a, b))
        return apart(b, a, call.lengths)

    # 3. Each side against the equations

    def _equations(self) -> dict[str, Equations]:
        """Of its layers one after the other; of a network in which other things go on from layer to layer, of the worst layer."""
        found = {}
        for n, name in enumerate("ab"):
            whose: Side = getattr(self, name)
            if not whose.layers:
                continue
            found[name] = _worst(
                [_from_equations(whose.layers, call, both[n], whose.dtype) for call, both in self._calls()]
            )
            if whose.steps and not found[name].hold:
                steps = network.steps(whose, self.calls[0])
                found[name] = _worst(
                    [_from_equations(step.side.layers, step.call, step.seen, whose.dtype) for step in steps]
                )
            else:
                self.chains.add(name)
        return found

    # 4 to 6. Why

    def _explained(self, base: Report, random: bool) -> Report:
        declared = base.equations
        explained = bool(declared)
        for name, each in declared.items():
            if not each.hold:
                explained &= self._walked(name) if self._is_network(name) else self._searched(name, name)
        strange = False
        suspects: dict[str, list[At]] = {}
        if len(declared) == 2:
            alike, strange, suspects = self._declared_otherwise()
            explained &= alike and (strange or self._accounted_for(suspects, declared))
        elif declared:
            (known,) = declared
            explained &= self._searched("ab".replace(known, ""), known)
        first = self._first(base.bound)
        self._said_of_files()
        verdict: Verdict = "unexplained"
        if strange:
            verdict = "different weights"
        elif explained and self.causes:
            verdict = "random" if random else "explained"
        return replace(base, verdict=verdict, first=first, proof=self._proof(suspects, declared))

    def _first(self, bound: float) -> First | None:
        """Where they first differ: by what they are declared to be, else by what each layer of a network gave."""
        first = first_difference(self.a, self.b, self.calls, self.seen_by, bound)
        if not self._several() or (first and first.layer):
            return first
        mine, theirs = (network.steps(each, self.calls[0]) for each in (self.a, self.b))
        place = network.first_apart(mine, theirs, bound)
        if place is None:
            return first
        return First(network.layers(mine)[place].name, "", first.step if first else None, {})

    def _several(self) -> bool:
        """Whether both are known, and networks."""
        known = bool(self.a.layers and self.b.layers)
        return known and (len(self.a.layers) > 1 or self._is_network("a") or self._is_network("b"))

    def _said_of_files(self) -> None:
        """What was assumed of a layer that its file does not say."""
        for name in "ab":
            notes = [note for layer in getattr(self, name).layers for note in getattr(layer, "notes", ())]
            self.notes += [f"{name}: {note}" for note in dict.fromkeys(notes)]

    def _is_network(self, name: str) -> bool:
        return getattr(self, name).steps is not None

    # Of a network

    def _walked(self, name: str) -> bool:
        """Whether each layer of a network does what it is declared to, or faults come to what it does."""
        whose: Side = getattr(self, name)
        explained = True
        for step in network.steps(whose, self.calls[0]):
            if not _from_equations(step.side.layers, step.call, step.seen, whose.dtype).hold:
                explained &= self._found(name, step.side.layers, [(step.call, step.seen)], step.side.name)
        return explained

    def _linked_otherwise(self) -> tuple[bool, tuple[Layer, ...], tuple[Layer, ...]]:
        """Whether what goes on from layer to layer is known, and the layers of both in the order of their calls."""
        call, both = self.calls[0], self.seen_by[0]
        walks = [network.steps(each, call) for each in (self.a, self.b)]
        links = [network.links(walk, given.outputs) for walk, given in zip(walks, both, strict=True)]
        mine, theirs = map(network.layers, walks)
        if len(mine) != len(theirs):
            return False, mine, theirs
        known = True
        for layer, one, other in zip(mine, *links, strict=True):
            if one != other and network.SOMETHING_ELSE not in (one, other):
                row = "last output" if "outputs[:, -1]" in one + other else "axes" if "axes" in one + other else ""
                fix = f"hand {one} of {layer.name} on"
                if "[:, -1]" in other:
                    fix += ": torch.cat([h_n[-2], h_n[-1]], -1)"
                self._cause(f"{other} handed on, not {one}", "b", layer.name, row, fix, True)
            if network.SOMETHING_ELSE in (one, other):
                known = False
                self.notes.append(f"What goes on from {layer.name} is {one} in a, {other} in b.")
        return known, mine, theirs

    # Of layers

    def _searched(self, name: str, by: str) -> bool:
        """Whether faults of one side's layers come to what was seen of a side, in every call; they are its causes."""
        observed = [(call, both["ab".index(name)]) for call, both in self._calls()]
        return self._found(name, self._handing_on(name, getattr(self, by).layers, observed[0][1]), observed)

    def _found(
        self, name: str, layers: Sequence[Layer], observed: Sequence[tuple[Call, Seen]], where: str = ""
    ) -> bool:
        dtype, layers = getattr(self, name).dtype, tuple(layers)
        found: tuple[At, ...] = ()
        if getattr(self, name).framework == "tf":
            found = tuple(At(place, HOLDS) for place, each in enumerate(layers) if isinstance(each, Recurrent))
        for call, given in observed:
            known = Suspect(found)
            left = self._apart(known.seen(layers, call), given, call)
            if left <= known.rounding(layers, call, dtype):
                continue
            if (held := held_in(given)) and left <= known.rounding(layers, call, held):
                fix = "compute in the same dtype, or compare to the rounding of the coarser"
                self.notes.append(f"What is smaller than the rounding of {held} does not show.")
                self._cause(f"numbers of {held}, not of {dtype}", name, where, "", fix)
                dtype = held
                continue
            result = search(layers, call, given, dtype, max(0.0, self.end - time.monotonic()), found)
            self.tried += result.tried
            self.whole &= result.whole
            if not result.suspects:
                self.nearest += [(_words(suspect), deviation) for suspect, deviation in result.nearest]
                if said := in_precision.level(layers, call, left):
                    self.notes.append(said)
                return False
            self._causes_of(result, name, layers, len(found), where)
            found = result.suspects[0].faults
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

    def _causes_of(self, result: Result, name: str, layers: tuple[Layer, ...], known: int, where: str) -> None:
        """The new faults of the first suspect; those of the others that explain the same are its ties."""
        first, *others = (suspect.faults[known:] for suspect in result.suspects)
        ties = tuple(" and ".join(fault.name for _, fault in each) for each in others)
        for n, (place, fault) in enumerate(first):
            layer = layers[place].name if len(layers) > 1 else where
            last = n == len(first) - 1
            self._cause(fault.name, name, layer, fault.row, fault.fix, ties=ties if last else (), undo=fault.undo)

    def _declared_otherwise(self) -> tuple[bool, bool, dict[str, list[At]]]:
        """Whether the layers can be compared, whether weights are strange, and the faults of each side's layers.

        They are those that make b's layer of a's; or a's of b's, where a has lost something that b has.
        """
        suspects: dict[str, list[At]] = {"a": [], "b": []}
        mine, theirs, known = self.a.layers, self.b.layers, True
        if self._several():
            known, mine, theirs = self._linked_otherwise()
            mine, theirs = (tuple(map(_whatever_handed_on, each)) for each in (mine, theirs))
        if [type(each) for each in mine] != [type(each) for each in theirs]:
            self.notes.append(f"a is {_sketch(mine)}, b is {_sketch(theirs)}.")
            return False, False, suspects
        strange = False
        dtype = coarser(self.a.dtype, self.b.dtype)
        for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            try:
                found, whose = matching.differences(one, other, dtype), "b"
                if found.strange and not (back := matching.differences(other, one, dtype)).strange:
                    found, whose = back, "a"
                if found.strange and (rounded := matching.but_for_rounding(one, other, dtype)):
                    found, whose = rounded, "b"
                elif found.strange and (rounded := matching.but_for_rounding(other, one, dtype)):
                    found, whose = rounded, "a"
            except ValueError as error:
                self.notes.append(f"{error}.")
                return False, False, suspects
            suspects[whose] += [At(place, fault) for fault in found.faults]
            instead = tuple(" and ".join(each.name for each in faults) for faults in found.instead)
            layer = one.name if len(mine) > 1 else ""
            for n, fault in enumerate(found.faults):
                self._cause(fault.name, whose, layer, fault.row, fault.fix, True, () if n else instead)
            if found.strange:
                strange = True
                self._strange(found, one, other, mine)
        return known, strange, suspects

    def _strange(self, found: matching.Differences, one: Layer, other: Layer, layers: Sequence[Layer]) -> None:
        whose = next((each.name for each in layers if each is not one and _equal(each, other)), "")
        where = f" of {one.name}" if len(layers) > 1 else ""
        if whose:
            self.notes.append(f"b's {other.name} has the weights of a's {whose}: the layers are in another order.")
        said = f"{found.of - found.equal} of {found.of} weights{where} are others in b: {', '.join(found.strange)}."
        self.notes.append(said)
        for name, (related, correlation) in (found.related or {}).items():
            self.notes.append(f"b's {name} correlates most with a's {related}: {correlation:.2f}.")

    # 6. The proof

    def _proof(self, suspects: dict[str, list[At]], declared: dict[str, Equations]) -> Proof | None:
        """That the two are equal once the causes are made good: on b itself where that is possible, else on layers made anew."""
        wrong = [name for name, faults in suspects.items() if faults]
        if None not in self.undone and self.undone and not wrong:
            return self._undone()
        if not wrong or self.undone or not all(each.hold for each in declared.values()):
            return None
        if wrong == ["b"] and self.b.framework in twins.installed():
            return self._made_anew(sorted({place for place, _ in suspects["b"]}))
        if self.chains != {"a", "b"}:
            return None
        return Proof(f"By the equations, {'b' if wrong == ['a'] else 'a'} with that", max(self._left_over(suspects)))

    def _left_over(self, suspects: dict[str, list[At]]) -> list[float]:
        """How far apart the two are in each call when each has the faults by which the other is declared otherwise."""
        return [
            self._apart(_with(self.a, suspects["b"], call, one), _with(self.b, suspects["a"], call, other), call)
            for call, (one, other) in self._calls()
        ]

    def _accounted_for(self, suspects: dict[str, list[At]], declared: dict[str, Equations]) -> bool:
        """Whether what the two are declared otherwise by is all that sets them apart, where both do what they say."""
        if self.chains != {"a", "b"} or not all(each.hold for each in declared.values()):
            return True  # each layer is held against its equations by itself
        dtype = coarser(self.a.dtype, self.b.dtype)
        bounds = [max(rounding(each.layers, call, dtype) for each in (self.a, self.b)) for call in self.calls]
        pairs = zip(self._left_over(suspects), bounds, strict=True)
        if worst := [
            left for left, bound in pairs if not left <= 2 * bound
        ]:  # each side is within one of its equations
            self.notes.append(f"What they are declared otherwise by leaves {max(worst):.1e} between them.")
        return not worst

    def _undone(self) -> Proof:
        """What b does, with its faults undone from outside."""
        does = self.b.run
        for undo in reversed(self.undone):
            does = undo(does) if undo else does
        pairs = [self._apart(both[0], does(call), call) for call, both in self._calls()]
        return Proof("With that undone around b", max(pairs))

    def _made_anew(self, places: Sequence[int]) -> Proof | None:
        """Layers of b's framework, made of what a is declared to be, on what a's layers were given."""
        page = importlib.import_module(f"{twins.get(self.b.framework).package}.doctor")
        found = [step for step in network.steps(self.a, self.calls[0]) for _ in step.side.layers]
        deviations = []
        for place in places:
            step, layer = found[place], self.a.layers[place]
            if len(step.side.layers) > 1:
                return None
            call = Call(step.call.x)
            try:
                made = page.made(layer)(call.x)
            except ValueError:  # which no layer of that framework computes
                return None
            deviations.append(apart(Seen(made), seen((layer,), call)))
        return Proof(f"Made so in {FRAMEWORKS[self.b.framework]}", max(deviations))

    def _cause(
        self,
        name: str,
        whose: str,
        layer: str,
        row: str,
        fix: str,
        declared: bool = False,
        ties: tuple[str, ...] = (),
        undo: Callable[[Does], Does] | None = None,
    ) -> None:
        if not declared:
            self.undone.append(undo if whose == "b" else None)
        self.causes.append(Cause(name, whose, declared, layer, row, fix, ties))

    # 7. The end

    def _finished(self, report: Report) -> Report:
        return replace(
            report,
            causes=tuple(_once(self.causes)),
            nearest=tuple(self.nearest),
            tried=self.tried,
            whole=self.whole,
            notes=tuple(self.notes),
            blind=self._blind(),
        )

    def _blind(self) -> tuple[str, ...]:
        """What no call could have shown, by what it is about."""
        shown: set[tuple[str, str]] = set()
        blind: dict[tuple[str, str], set[str]] = {}
        names: set[str] = set()
        unknown = 0
        for layers, call, in_words in self._looked_at():
            seen_, unseen, untried = sorted_by_sight(layers, call, end=self.end)
            names |= {in_words(layers, each) for each in (*seen_, *untried)}
            unknown = max(unknown, len(untried))
            shown |= {(each.fault.group, layers[each.place].name) for each in seen_}
            for each in unseen:
                group = blind.setdefault((each.fault.group, layers[each.place].name), set())
                group.add(in_words(layers, each))
        said = [
            f"{group}: {_some(hidden)}" + ("" if (group, name) in shown else " (nothing about them)")
            for (group, name), each in sorted(blind.items())
            if (hidden := sorted(each - names))
        ]
        if unknown:
            said.append(f"perhaps {unknown} more faults of the catalogue: the time ended before it was known of them")
        return tuple(said)

    def _looked_at(self) -> Iterator[tuple[Sequence[Layer], Call, Callable[[Sequence[Layer], At], str]]]:
        """Layers, what they were given, and how a fault of theirs is called: of a network that is no chain each by itself."""
        whose = next((each for each in (self.a, self.b) if each.layers), None)
        if whose is None:
            return
        if whose.name in self.chains:
            yield from ((whose.layers, call, _in_layer) for call in self.calls)
            return
        for step in network.steps(whose, self.calls[0]):
            yield step.side.layers, step.call, _in_named_layer


def _once(causes: Sequence[Cause]) -> list[Cause]:
    """A cause that several layers have once, with the names of all."""
    named: dict[Cause, list[str]] = {}
    for each in causes:
        named.setdefault(replace(each, layer=""), []).append(each.layer)
    return [replace(each, layer=" and ".join(filter(None, layers))) for each, layers in named.items()]


def _differs(side: Side, call: Call) -> bool:
    """Whether two calls of a side differ by more than rounding, as sums in another order do."""
    deviation = apart(side.run(call), side.run(call))
    return deviation > 0 and not (side.layers and deviation <= rounding(side.layers, call, side.dtype))


def _with(side: Side, faults: list[At], call: Call, given: Seen) -> Seen:
    """What a side's layers give with the other's faults, or what it gave where that has none."""
    return Suspect(tuple(faults)).seen(side.layers, call) if faults else given


def _some(names: Sequence[str]) -> str:
    """A few of them, and how many more."""
    few = "; ".join(names[:3])
    return few + (f"; {len(names) - 3} more" if len(names) > 3 else "")


def _in_named_layer(layers: Sequence[Layer], at: At) -> str:
    return f"{at.fault.name}, in {layers[at.place].name}"


def _in_layer(layers: Sequence[Layer], at: At) -> str:
    return at.fault.name + (f", in {layers[at.place].name}" if len(layers) > 1 else "")


def _from_equations(layers: Sequence[Layer], call: Call, given: Seen, dtype: str) -> Equations:
    """How far what was given is from the equations; infinitely where these layers are no chain."""
    try:
        return Equations(apart(given, seen(layers, call), call.lengths), rounding(layers, call, dtype))
    except ValueError:
        return Equations(np.inf, 1.0)


def _worst(found: Sequence[Equations]) -> Equations:
    return max(found, key=lambda each: each.deviation / each.bound)


def _last(each: Seen, call: Call) -> Array:
    """The last output of each sequence."""
    if each.outputs.ndim == 2:
        return each.outputs
    batch, time_, _ = each.outputs.shape
    ends = np.full(batch, time_) if call.lengths is None else call.lengths
    return np.asarray(each.outputs[np.arange(batch), ends - 1])


def _whatever_handed_on(layer: Layer) -> Layer:
    """A layer of a network, in which it is seen what is handed on."""
    return replace(layer, returns_sequences=None) if isinstance(layer, Recurrent) else layer


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
