"""Arrays and words out of an HDF5 file that anybody may have written: within the file, of a known size, and nothing else.

Links are not followed, neither out of the file nor within it; data in other files is not read; what passes through filters
is undone here, for the library does not bound what a compressed chunk grows to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from math import prod
from typing import Any

import numpy as np

from rnn_common.exchange.contents import MOST, Array, Budget, NotUnderstood
from rnn_common.packages import optional
from rnn_common.reader import LARGEST as WORDS
from rnn_common.reader import checked, mapping, shown

DEEPEST = 32  # groups within one another
GROWTH, BASE = 1000, 2**20  # an array has at most so many times the bytes that it takes in the file, and so many
CHUNKS = 20_000  # of one array
SHUFFLE, DEFLATE = 2, 1  # the numbers that HDF5 gives these filters


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


def array(name: str, dataset: Any, budget: Budget, size: int) -> Array:
    """A dataset's array, whose claims are checked before there is memory for it. bfloat16 is read as float32.

    Args:
        name: for messages.
        dataset: of the file.
        budget: what the file may still ask memory for.
        size: of the file, in bytes.

    Raises:
        NotUnderstood: it is no dataset of numbers of its own, or claims more than it has.
    """
    if not hasattr(dataset, "shape") or dataset.shape is None:
        raise NotUnderstood(f"{shown(name)} should be an array")
    dtype, half = dataset.dtype, False
    if dtype == np.dtype("V2") and word(dataset, "dtype") == "bfloat16":
        dtype, half = np.dtype("<u2"), True
    layout = dataset.id.get_create_plist()
    if dataset.external or dataset.is_virtual:
        raise NotUnderstood(f"{shown(name)} should be in the file itself, got data elsewhere")
    shape = budget.take(name, dataset.shape, np.dtype("<f4") if half else dtype)
    if dataset.id.get_type().get_size() != dtype.itemsize:
        raise NotUnderstood(f"{shown(name)} should be numbers of a usual size, got {dtype}")
    chunk = dataset.chunks or ()
    filters = [layout.get_filter(index)[0] for index in range(layout.get_nfilters())]
    allowed = GROWTH * min(dataset.id.get_storage_size(), size) + BASE
    if max(prod(shape), prod(chunk)) * dtype.itemsize > allowed:
        raise NotUnderstood(f"{shown(name)} should have at most {allowed:,} bytes for those in the file, got {shape}")
    if chunk:
        found = _from_chunks(name, dataset, shape, dtype, chunk, filters, size)
    else:
        found = np.asarray(dataset[()]).view(dtype) if half else np.asarray(dataset[()])
    return (found.astype(np.uint32) << 16).view(np.float32) if half else found


def _from_chunks(
    name: str,
    dataset: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk: tuple[int, ...],
    filters: list[int],
    size: int,
) -> Array:
    if set(filters) - {SHUFFLE, DEFLATE} or len(filters) > 2:
        raise NotUnderstood(f"{shown(name)} should be as it is, shuffled or deflated, got HDF5's filters {filters}")
    if prod(-(-length // step) for length, step in zip(shape, chunk, strict=True)) > CHUNKS:
        raise NotUnderstood(f"{shown(name)} should be in at most {CHUNKS:,} chunks, got {shape} by {chunk}")
    if dtype.kind == "u" and dataset.dtype.kind == "V":
        found = np.zeros(shape, dtype)
    else:
        found = np.full(shape, dataset.fillvalue, dtype)
    whole = prod(chunk) * dtype.itemsize
    for start in product(*(range(0, length, step) for length, step in zip(shape, chunk, strict=True))):
        info = dataset.id.get_chunk_info_by_coord(start)
        if info.byte_offset is None:
            continue  # never written: the fill value
        if info.size > min(size, whole + whole // 100 + 1024):
            raise NotUnderstood(f"a chunk of {shown(name)} should have at most {whole:,} bytes, got {info.size:,}")
        mask, raw = dataset.id.read_direct_chunk(start)
        for index, each in reversed(list(enumerate(filters))):
            if not mask >> index & 1:
                raw = _inflated(name, raw, whole) if each == DEFLATE else _sorted(raw, dtype.itemsize)
        if len(raw) != whole:
            raise NotUnderstood(f"a chunk of {shown(name)} should have {whole:,} bytes, got {len(raw):,}")
        place = tuple(slice(at, at + step) for at, step in zip(start, chunk, strict=True))
        part = found[place]
        part[...] = np.frombuffer(raw, dtype).reshape(chunk)[tuple(slice(length) for length in part.shape)]
    return found


def _inflated(name: str, raw: bytes, whole: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        found = inflate.decompress(raw, whole)
        rest = inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error as error:
        raise NotUnderstood(f"a chunk of {shown(name)} is damaged: {error}") from None
    if rest or not inflate.eof:
        raise NotUnderstood(f"a chunk of {shown(name)} should inflate to {whole:,} bytes, got others")
    return found


def _sorted(raw: bytes, itemsize: int) -> bytes:
    """Bytes that were arranged by their place within a number, number by number again."""
    whole = len(raw) // itemsize * itemsize
    return np.frombuffer(raw[:whole], np.uint8).reshape(itemsize, -1).T.tobytes() + raw[whole:]
