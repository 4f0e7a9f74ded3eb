"""What changed between two reports beyond noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

from rnn_benchmarks.report import FORMAT, OLDER, SELF_TEST
from rnn_benchmarks.timing import Interval
from rnn_common import reader


@dataclass(frozen=True)
class Change:
    """A contender's ratio to the framework's own layer, in two reports.

    Attributes:
        workload, cell, measure, contender, threads: whose ratio.
        old, new: the ratio with its interval.
    """

    workload: str
    cell: str
    measure: str
    contender: str
    threads: int
    old: Interval
    new: Interval

    @property
    def factor(self) -> float:
        return self.new.value / self.old.value

    @property
    def beyond_noise(self) -> bool:
        """Whether the intervals are further apart than two identical contenders may be."""
        apart = max(self.new.low / self.old.high, self.old.low / self.new.high)
        known = all(map(math.isfinite, (*self.old, *self.new)))  # a single round has no interval
        return known and apart > 1 + SELF_TEST


@dataclass(frozen=True)
class Document:
    """What is read of a report."""

    format: Literal["rnn-parity benchmarks 1", "rnn-parity benchmarks 2"]
    environment: dict
    settings: dict
    rows: list


@dataclass(frozen=True)
class Name:
    """Which ratio a row of a report is."""

    workload: str
    cell: str
    measure: str
    contender: str
    threads: int


def load(path: Path) -> dict[str, Any]:
    """Read a report.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no report of these benchmarks.
    """
    try:
        found = reader.mapping(reader.read(path))
    except ValueError as error:
        raise ValueError(f"{path} should be a report in JSON: {error}") from None
    if found.get("format") not in (FORMAT, OLDER):
        got = reader.shown(found.get("format"))
        raise ValueError(f"{path} should be a report of the format {FORMAT!r}, got {got}")
    try:
        reader.record(Document, found, "report", others=True)
        for part in ("environment", "settings"):
            for name, value in found[part].items():
                reader.checked(f"a name in {part}", name, str)
                if isinstance(value, str):
                    reader.checked(f"{part}.{name}", value, str)
        _ratios(found)
    except ValueError as error:
        raise ValueError(f"{path} is refused: {error}") from None
    return found


def changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Every ratio that both reports have: ratios, since the machine may have been busier in one of them."""
    before, after = _ratios(old), _ratios(new)
    for key in after:
        if key in before:
            yield Change(*key, before[key], after[key])


def _ratios(report: dict[str, Any]) -> dict[tuple[str, str, str, str, int], Interval]:
    """The ratios by what they are of; those of the framework's own layer, which are 1, and of what failed are left out.

    Raises:
        ValueError: one is no interval of numbers above 0, or is there twice.
    """
    found: dict[tuple[str, str, str, str, int], Interval] = {}
    for index, row in enumerate(report["rows"]):
        name = f"rows[{index}]"
        if isinstance(row, dict):  # an older report was of one number of threads
            row = {"threads": report["settings"].get("threads")} | row
        key = astuple(reader.record(Name, row, name, others=True))
        if row.get("ratio", ()) is None:
            continue
        if key in found:
            raise ValueError(f"{name} should be of another ratio than those before, got {reader.shown(key)} again")
        found[key] = _interval(f"{name}.ratio", row.get("ratio"))
    return {key: ratio for key, ratio in found.items() if ratio.value != 1.0}


def _interval(name: str, ratio: Any) -> Interval:
    """A ratio with its interval, whose ends are NaN where it was timed but once."""
    if not isinstance(ratio, list) or len(ratio) != 3:
        raise ValueError(f"{name} should be three numbers, got {reader.shown(ratio)}")
    once = all(isinstance(end, float) and math.isnan(end) for end in ratio[1:])
    value, low, high = (reader.number(name, each) for each in (ratio[:1] * 3 if once else ratio))
    if min(value, low) <= 0 or low > high:
        raise ValueError(f"{name} should be above 0, and its interval in order, got {ratio}")
    return Interval(value, math.nan, math.nan) if once else Interval(value, low, high)


def circumstances(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What else is different between two runs: settings and environment but for the date."""
    for part in ("environment", "settings"):
        for name in sorted(old[part].keys() | new[part].keys()):
            before, after = old[part].get(name), new[part].get(name)
            if before != after and name not in (
                "time",
                "workloads",
                "sizes",
                "contenders",
                "sweeps",
                "cells",
                "measures",
            ):
                yield name, before, after
