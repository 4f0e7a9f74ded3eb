"""What a diagnosis found, as data and as a paragraph."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from rnn_common.differences import anchor

Verdict = Literal["equal", "explained", "random", "different weights", "unexplained"]

# Exit statuses of the command.
STATUS: dict[str, int] = {"equal": 0, "explained": 1, "random": 1, "different weights": 1, "unexplained": 3}


@dataclass(frozen=True)
class First:
    """Where two sides first differ.

    Attributes:
        layer: its name.
        direction: `"forward"` or `"backward"`, empty where there is one.
        step: from 0, in the order in which the direction runs; None where the last output alone is handed on.
        gates: how far each gate is from the other side's at that step, by its symbol; empty where it cannot be said.
    """

    layer: str
    direction: str
    step: int | None
    gates: dict[str, float]


@dataclass(frozen=True)
class Cause:
    """Why two sides differ.

    Attributes:
        name: what `side` does, in words.
        side: `"a"` or `"b"`: who does something else than it is declared to; `"b"` also where the two are declared otherwise.
        declared: whether that is so: each side does what its own weights and configuration say, and these differ.
        layer: in which layer.
        row: the key of its row in `rnn_common.differences`, or empty.
        fix: what mends it.
        ties: what would explain the same as well.
    """

    name: str
    side: str
    declared: bool
    layer: str
    row: str
    fix: str
    ties: tuple[str, ...] = ()


@dataclass(frozen=True)
class Equations:
    """How far a side is from the equations with its own weights and configuration.

    Attributes:
        deviation: max|a − b| / max|b|.
        bound: how far it may be.
    """

    deviation: float
    bound: float

    @property
    def hold(self) -> bool:
        """Where the equations overflow there is no bound, and nothing holds."""
        return self.deviation <= self.bound < np.inf


@dataclass(frozen=True)
class Proof:
    """That what is said to mend a difference does.

    Attributes:
        made: what was made good, in words.
        deviation: how far it is from `a` then.
    """

    made: str
    deviation: float


@dataclass(frozen=True)
class Report:
    """A diagnosis.

    Attributes:
        verdict: `"equal"` to rounding; `"explained"` by `causes`; `"random"`: a side gives something else each time;
            `"different weights"`; `"unexplained"`.
        deviation, bound: how far apart the two are, and how far they may be.
        equations: of each side, by `"a"` and `"b"`, where it says what it is.
        first: where they first differ, or None.
        causes: why, all of them together; of several that would do as well the others are its `ties`.
        proof: how far apart the two are once the causes are made good, and in what; None where they cannot be from here.
        nearest: where it is unexplained, what came nearest, and how near.
        tried: how many suspects were held against what was seen.
        whole: whether that was all of the catalogue, before the time was over.
        blind: what this probe could not have shown.
        notes: what else is to be known, in sentences.
    """

    verdict: Verdict
    deviation: float
    bound: float
    equations: dict[str, Equations]
    first: First | None = None
    causes: tuple[Cause, ...] = ()
    proof: Proof | None = None
    nearest: tuple[tuple[str, float], ...] = ()
    tried: int = 0
    whole: bool = True
    blind: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """0 equal, 1 they differ and it is known why, 3 they differ and it is not."""
        return STATUS[self.verdict]

    @property
    def certain(self) -> bool:
        """Whether each cause is the only one that would explain it, and all of the catalogue was tried."""
        return self.verdict == "explained" and self.whole and not any(each.ties for each in self.causes)

    def as_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {**asdict(self), "status": self.status, "certain": self.certain}

    def __str__(self) -> str:
        return "\n".join(lines(self))


def lines(report: Report) -> list[str]:
    """The report as a tired engineer reads it: how far, where, who, why, what mends it, what was not seen."""
    return [
        _how_far(report),
        *_where(report),
        *_who(report),
        *_why(report),
        *_unexplained(report),
        *report.notes,
        *_blind(report),
    ]


def _how_far(report: Report) -> str:
    apart = f"{report.deviation:.1e} apart, bound {report.bound:.1e}"
    said = {
        "equal": f"They are equal to rounding: {apart}.",
        "random": f"They cannot be compared as they are: one gives something else each time ({apart}).",
        "different weights": f"They differ: {apart}. They have different weights.",
    }
    return said.get(report.verdict, f"They differ: {apart}.")


def _where(report: Report) -> list[str]:
    first = report.first
    if first is None:
        return []
    words = [f"in {first.layer}" if first.layer else "", first.direction]
    words.append("in the last output" if first.step is None else f"at step {first.step}")
    clean = [gate for gate, deviation in first.gates.items() if deviation <= report.bound]
    differ = [f"{gate} ({deviation:.1e})" for gate, deviation in first.gates.items() if gate not in clean]
    gates = ""
    if differ:
        gates = f"; there in {', '.join(differ)}" + (f", not in {', '.join(clean)}" if clean else "")
    elif first.gates:
        gates = "; no gate differs there, so that what is made of them does"
    return [f"First {', '.join(word for word in words if word)}{gates}."]


def _who(report: Report) -> list[str]:
    said = []
    for name, each in report.equations.items():
        what = "does what its weights and configuration say" if each.hold else "does NOT do what it is declared to do"
        said.append(f"{name} {what} ({each.deviation:.1e} from the equations, bound {each.bound:.1e})")
    return [f"{'; '.join(said)}."] if said and report.verdict != "equal" else []


def _why(report: Report) -> list[str]:
    said = []
    for cause in report.causes:
        where = f" in {cause.layer}" if cause.layer else ""
        said.append(f"Why: {cause.side} has{where} {cause.name}.")
        said += [f"     or, as well: {tie}." for tie in cause.ties]
        said.append(f"Fix: {cause.fix}." + (f" See {anchor(cause.row)}" if cause.row else ""))
    if report.proof is not None:
        said.append(f"{report.proof.made} it is {report.proof.deviation:.1e} from a, bound {report.bound:.1e}.")
    if report.tried and report.verdict == "explained":
        only = "this alone explains it" if report.certain else "these explain it"
        said.append(
            f"Of {report.tried} suspects {only}." + ("" if report.whole else " The time ended before all were tried.")
        )
    return said


def _unexplained(report: Report) -> list[str]:
    if report.verdict != "unexplained":
        return []
    said = [f"Unexplained: {report.tried} suspects were tried, one and two at once, and none comes to what was seen."]
    if not report.whole:
        said.append("The time ended before all were tried.")
    said += [f"     nearest, {deviation:.1e} off: {name}." for name, deviation in report.nearest]
    return said


def _blind(report: Report) -> list[str]:
    if not report.blind:
        return ["Nothing in the catalogue was out of sight."] if report.verdict == "equal" else []
    return ["This probe could not have shown:", *(f"     {each}" for each in report.blind)]
