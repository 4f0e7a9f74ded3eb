"""What changed between two reports beyond noise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import SELF_TEST
from benchmarks.timing import Interval

FORMAT = "rnn-parity benchmarks 1"


@dataclass(frozen=True)
class Change:
    """A contender's ratio to the framework's own layer, in two reports.

    Attributes:
        workload, cell, measure, contender: whose ratio.
        old, new: the ratio with its interval.
    """

    workload: str
    cell: str
    measure: str
    contender: str
    old: Interval
    new: Interval

    @property
    def factor(self) -> float:
        return self.new.value / self.old.value

    @property
    def beyond_noise(self) -> bool:
        """Whether the intervals are further apart than two identical contenders may be."""
        apart = max(self.new.low / self.old.high, self.old.low / self.new.high)
        return apart > 1 + SELF_TEST


def load(path: Path) -> dict[str, Any]:
    """Read a report.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no report of these benchmarks.
    """
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} should be a report in JSON: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        got = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path} should be a report of the format {FORMAT!r}, got {got!r}")
    return found


def changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Every ratio that both reports have: ratios, since the machine may have been busier in one of them."""
    before, after = _ratios(old), _ratios(new)
    for key in after:
        if key in before:
            yield Change(*key, before[key], after[key])


def _ratios(report: dict[str, Any]) -> dict[tuple[str, str, str, str], Interval]:
    return {
        (row["workload"], row["cell"], row["measure"], row["contender"]): Interval(*row["ratio"])
        for row in report["rows"]
        if row["ratio"] is not None and row["ratio"][0] != 1.0
    }


def circumstances(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What else is different between two runs: settings and environment but for the date."""
    for part in ("environment", "settings"):
        for name in sorted(old[part].keys() | new[part].keys()):
            before, after = old[part].get(name), new[part].get(name)
            if before != after and name not in ("time", "workloads", "contenders", "sweeps", "cells", "measures"):
                yield name, before, after
