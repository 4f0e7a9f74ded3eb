"""Checks of single arguments: the error names the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from rnn_common.reader import shown

LONGEST = 80  # letters of a name that may be a choice misspelt


def one_of(argument: str, value: Any, choices: Sequence[Any]) -> Any:
    """Return `value` if it is among `choices`.

    Raises:
        ValueError: otherwise, naming the argument, what was expected and what came, and the choice that was perhaps meant.
    """
    if value not in choices:
        nearest = _nearest(value, choices)
        hint = "" if nearest is None else f"; did you mean {nearest}?"
        raise ValueError(f"{argument} should be one of {', '.join(map(str, choices))}, got {shown(value)}{hint}")
    return value


def _nearest(value: Any, choices: Sequence[Any]) -> str | None:
    """The choice that is spelt most like a name, in whatever case; None where none is."""
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    spelt = {str(choice).casefold(): str(choice) for choice in choices}
    matches = get_close_matches(value.casefold(), spelt, 1)
    return spelt[matches[0]] if matches else None


def at_least(argument: str, value: float, least: float) -> None:
    """Refuse a number that is too small, or none.

    Raises:
        ValueError: it is below `least` or NaN; names the argument, what was expected and what came.
    """
    if not value >= least:
        raise ValueError(f"{argument} should be at least {least}, got {value}")


def whole(argument: str, value: int, least: int) -> None:
    """Refuse what is no whole number, or too small a one.

    Raises:
        ValueError: it is no `int`, or below `least`; names the argument, what was expected and what came.
    """
    if not isinstance(value, int):
        raise ValueError(f"{argument} should be a whole number, got {value!r}")
    at_least(argument, value, least)
