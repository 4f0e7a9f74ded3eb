"""What strangers' files say, checked before it is used: regular files of a bounded size, JSON, fields by their declared types.

A stranger's file may be anything: no file at all, without end, nested without end, of other types, or say a thing twice. Each
is answered by a `ValueError` of one line that names the field; nothing is made of a size that a file merely claims.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from reprlib import Repr
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

LARGEST = 8 * 2**20  # bytes of JSON
VALUES = 500_000  # in JSON, so that what it becomes is not many times larger than it is
DEEPEST = 16  # levels of JSON within one another
LONGEST = 40  # digits of a whole number; what is longer is infinite, for Python refuses to read or to write it
WORDS = {int: "a whole number", str: "a string", bool: "true or false", dict: "a mapping", list: "a list"}

T = TypeVar("T")

_kinds: Callable[[Any], dict[str, Any]] = cache(get_type_hints)
_short = Repr()
_short.maxstring = 160
_short.maxlong = _short.maxother = 80


def shown(value: Any) -> str:
    """A value in one short line, whatever it is."""
    return _short.repr(value)


def regular_size(path: Path, largest: int = LARGEST) -> int:
    """How many bytes a file has, before it is opened.

    Raises:
        OSError: it is not there.
        ValueError: it is a folder, a pipe or a device, which may have no end, or it is too large.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # merely to open a pipe would wait for its other end
        raise ValueError(f"{path} should be a regular file, got one of mode {stat.filemode(status.st_mode)}")
    if status.st_size > largest:
        raise ValueError(f"{path} should have at most {largest:,} bytes, got {status.st_size:,}")
    return status.st_size


def read(path: Path, largest: int = LARGEST) -> bytes:
    """A file's content.

    Args:
        path: of the file.
        largest: how many bytes it may have.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no regular file, or it is too large: see `regular_size`.
    """
    regular_size(path, largest)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise ValueError(f"{path} should have at most {largest:,} bytes, got {size:,}")
        content = file.read(size + 1)
    if len(content) != size:
        raise ValueError(f"{path} should have {size:,} bytes, as it said, got {len(content):,}")
    return content


def mapping(content: bytes) -> dict[str, Any]:
    """The mapping that JSON in UTF-8 is.

    Raises:
        ValueError: it is no JSON, no mapping, too large, nested too deep, or names a field twice.
    """
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > VALUES:
        raise ValueError(f"JSON should have at most {VALUES:,} values")
    try:
        found = json.loads(content.decode(), object_pairs_hook=_once, parse_int=_whole)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"it is not JSON, or truncated: {error}") from None
    except RecursionError:
        raise ValueError(f"JSON should be nested at most {DEEPEST} deep") from None
    if not isinstance(found, dict):
        raise ValueError(f"JSON should be a mapping, got {shown(found)}")
    for name, value in found.items():
        if not _within(DEEPEST, value):
            raise ValueError(f"{shown(name)} should be nested at most {DEEPEST} deep")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{shown(twice)} should be there once, got it twice")
    return found


def _whole(digits: str) -> float:
    return int(digits) if len(digits) <= LONGEST else float(digits)


def _within(levels: int, value: Any) -> bool:
    """Whether a value is nested at most so deep."""
    level = [value]
    for _ in range(levels):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list)))
        level = [value for values in inner for value in values]
    return not level


def number(name: str, value: Any) -> float:
    """A finite number.

    Raises:
        ValueError: it is none; names it, and says what came.
    """
    try:
        found = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{name} should be a finite number, got {shown(value)}")
    return found


def checked(name: str, value: Any, kind: Any) -> Any:
    """A value out of JSON, if it is what a field is declared to be.

    Args:
        name: of the field.
        value: of the field.
        kind: `int`, `float`, `str` (without control characters), `bool`, `dict`, a `Literal` of strings, a list of one of
            these, or a dataclass of fields of these.

    Raises:
        ValueError: it is not; names the field, and says what was expected and what came.
    """
    if kind is float:
        return number(name, value)
    if is_dataclass(kind):
        return record(kind, value, name)  # type: ignore[arg-type]
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer is Literal:
        if not isinstance(value, str) or value not in inner:
            raise ValueError(f"{name} should be one of {', '.join(inner)}, got {shown(value)}")
        return value
    if type(value) is not outer:
        raise ValueError(f"{name} should be {WORDS[outer]}, got {shown(value)}")
    if outer is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} should be a whole number of at most 64 bits, got {shown(value)}")
    if outer is str and re.search(r"[^\n\t -~\u00a0-\ud7ff\ue000-\U0010ffff]", value):
        raise ValueError(f"{name} should be without control characters, got {shown(value)}")
    if outer is list and inner:
        return [checked(f"{name}[{index}]", each, inner[0]) for index, each in enumerate(value)]
    return value


def record(kind: type[T], data: Any, name: str, *, others: bool = False) -> T:
    """A dataclass from a mapping that has all of its fields, each of its declared type.

    Args:
        kind: the dataclass.
        data: the mapping.
        name: what it is called in messages.
        others: whether it may have other fields, which are not looked at. Default False.

    Raises:
        ValueError: a field is missing, unknown, of another type, or out of range.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{name} should be a mapping, got {shown(data)}")
    kinds = _kinds(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if missing := [each for each in names if each not in data]:
        raise ValueError(f"{name}.{missing[0]} should be there, but it is not")
    if not others and (unknown := [each for each in data if each not in names]):
        raise ValueError(f"{name} should be of the fields {', '.join(names)}, got {shown(unknown[0])} besides")
    values = {each: checked(f"{name}.{each}", data[each], kinds[each]) for each in names}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
