"""Figures as a person reads them: three significant digits, no exponents."""

from __future__ import annotations

import math

from rnn_benchmarks.timing import Interval

NONE = "–"


def figure(value: float) -> str:
    """A number above 0 to three significant digits: `1,830`, `20.0`, `0.969`, `0.00123`."""
    if not math.isfinite(value) or value <= 0:
        return "0" if value == 0 else str(value)
    exponent = math.floor(math.log10(float(f"{value:.2e}")))  # of the rounded number: 9.996 is 10.0
    return f"{round(value, 2 - exponent):,.{max(0, 2 - exponent)}f}"


def milliseconds(seconds: float | None) -> str:
    """A time of a call, in milliseconds."""
    return NONE if seconds is None else figure(1e3 * seconds)


def mebibytes(count: int | None) -> str:
    return NONE if count is None else f"{count / 2**20:,.1f}"


def percent(interval: Interval | None) -> str:
    return NONE if interval is None else f"{100 * interval.value:.0f} %"


def ratio(interval: Interval | None) -> str:
    """A ratio and half the width of its interval, where it has one: `1.21 ±0.03`, `28.3 ±0.4`."""
    if interval is None:
        return NONE
    digits = 2 if interval.value < 9.995 else 1 if interval.value < 99.95 else 0
    half = (interval.high - interval.low) / 2
    return f"{interval.value:,.{digits}f}" + (f" ±{half:,.{digits}f}" if math.isfinite(half) else "")


def several(numbers: list[int] | tuple[int, ...]) -> str:
    """`1`, `1 and 2`, `1, 2 and 4`."""
    return " and ".join(part for part in (", ".join(map(str, numbers[:-1])), str(numbers[-1])) if part)


def threads(numbers: list[int] | tuple[int, ...]) -> str:
    return f"{several(numbers)} thread{'s' * (tuple(numbers) != (1,))}"
