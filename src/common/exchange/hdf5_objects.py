"""Groups, datasets and words of an HDF5 file that anybody may have written. Links are not followed, out of it or within it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from rnn_common.exchange.contents import MOST, NotUnderstood
from rnn_common.packages import optional
from rnn_common.reader import LARGEST as WORDS
from rnn_common.reader import checked, mapping, shown

DEEPEST = 32  # groups within one another


@contextmanager
def opened(file: Any, what: Any) -> Iterator[Any]:
    """An HDF5 file, by a path or an open binary file; whatever the library says against it, in one line.

    Raises:
        NotUnderstood: it is no HDF5, or damaged.
        MissingPackage: h5py is not installed.
    """
    h5py = optional("h5py", "HDF5 files are read with", extra="exchange")
    try:
        with h5py.File(file, "r") as found:
            yield found
    except NotUnderstood:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise NotUnderstood(f"{what} is no HDF5 file, or is damaged: {_line(error)}") from None


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:160]}…"


def said_in(where: str, content: bytes) -> dict[str, Any]:
    """The mapping that JSON says.

    Raises:
        NotUnderstood: it is none; says where.
    """
    try:
        return mapping(content)
    except ValueError as error:
        raise NotUnderstood(f"{where}: {error}") from None


def parts(name: str) -> list[str]:
    """A path in the file, part by part.

    Raises:
        NotUnderstood: it climbs, or is no path.
    """
    found = name.split("/")
    if not 0 < len(found) <= DEEPEST or any(part in ("", ".", "..") or "\0" in part for part in found):
        raise NotUnderstood(f"{shown(name)} should be a path within its group")
    return found


def within(group: Any, name: str) -> Any:
    """The group or the dataset of that name in a group.

    Raises:
        NotUnderstood: it is not there, or a link is on the way.
    """
    for part in parts(name):
        if not hasattr(group, "keys") or part not in group:
            raise NotUnderstood(f"{shown(name)} should be in the file, but it is not")
        _no_link(group, part)
        group = group[part]
    return group


def _no_link(group: Any, name: str) -> None:
    kind = type(group.get(name, getlink=True)).__name__
    if kind != "HardLink":
        raise NotUnderstood(f"{shown(name)} should be in the file itself, got a {kind}")


def datasets(group: Any, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every dataset below a group by its path, a group's own before those of the groups within it.

    Args:
        group: where to begin.
        left_out: the names in that group that are not looked at.

    Raises:
        NotUnderstood: a link; groups that hold one another; too many or too deep.
    """
    seen: set[int] = set()
    found: dict[str, Any] = {}
    waiting = [("", group)]
    while waiting:
        path, group = waiting.pop()
        if len(seen) + len(group) > MOST or path.count("/") > DEEPEST:
            raise NotUnderstood(f"the file should hold at most {MOST:,} objects, {DEEPEST} deep")
        for name in group:
            if path or name not in left_out:
                _no_link(group, name)
                _once(group[name], f"{path}{name}", seen, waiting, found)
    return found


def _once(each: Any, path: str, seen: set[int], waiting: list[tuple[str, Any]], found: dict[str, Any]) -> None:
    h5o = optional("h5py.h5o", "HDF5 files are read with", extra="exchange")
    address = h5o.get_info(each.id).addr
    if address in seen:
        raise NotUnderstood(f"{shown(path)} should be in the file once, got it under two names")
    seen.add(address)
    if hasattr(each, "keys"):
        waiting.append((f"{path}/", each))
    elif hasattr(each, "shape"):
        found[path] = each


def words(holder: Any, name: str) -> list[str] | None:
    """An attribute that is one string, or a list of them, in pieces (`name0`, `name1`, …) if need be; None if it is not there."""
    if name in holder.attrs:
        return _strings(holder, name)
    found: list[str] = []
    piece = 0
    while f"{name}{piece}" in holder.attrs and piece < MOST:
        found += _strings(holder, f"{name}{piece}")
        piece += 1
    return found if piece else None


def word(holder: Any, name: str) -> str | None:
    """An attribute that is one string; None if it is not there."""
    found = words(holder, name) if name in holder.attrs else None
    if found is not None and len(found) != 1:
        raise NotUnderstood(f"{name} should be one string, got {len(found)}")
    return found[0] if found else None


def _strings(holder: Any, name: str) -> list[str]:
    kind = holder.attrs.get_id(name)
    dtype = kind.dtype
    if kind.shape is None or prod(kind.shape) * dtype.itemsize > WORDS or prod(kind.shape) > MOST:
        raise NotUnderstood(f"the attribute {name} should have at most {WORDS:,} bytes")
    if prod(kind.shape) == 0:  # what an empty list was written as, floating-point numbers
        return []
    if dtype.kind not in "SO" or (dtype.kind == "O" and dtype.metadata is None):
        raise NotUnderstood(f"the attribute {name} should be of strings, got {dtype}")
    found = np.asarray(holder.attrs[name], dtype=object).ravel().tolist()
    if sum(map(len, found)) > WORDS:
        raise NotUnderstood(f"the attribute {name} should have at most {WORDS:,} bytes")
    try:
        return [_string(name, value) for value in found]
    except ValueError as error:
        raise NotUnderstood(f"the attribute {name} should be text in UTF-8: {error}") from None


def _string(name: str, value: Any) -> str:
    return str(checked(name, value.decode() if isinstance(value, bytes) else value, str))
