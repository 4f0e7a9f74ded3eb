"""Files of arrays by name and nothing else: NumPy's `.npz`, and `.safetensors`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnn_common import reader
from rnn_common.exchange.archive import Archive, opened
from rnn_common.exchange.contents import LARGEST, Array, Budget, Contents, NotUnderstood
from rnn_common.exchange.plain import BFLOAT16, checked_name, dtype_of, numbers, width
from rnn_common.reader import shown

# safetensors' names of types, by NumPy's and PyTorch's.
KINDS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
LONGEST = 10_000  # bytes of the header of a NumPy array
_FIELD = re.compile(r"\s*'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([\d,L\s]*\))\s*(?:,|(?=\}))")


def read(path: Path) -> Contents:
    """The arrays of a file, by their names. None can be written to.

    Args:
        path: of the file; what does not end in `.safetensors` is read as `.npz`.

    Raises:
        OSError: it is not there, or cannot be read.
        NotUnderstood: it is neither, damaged, or claims what it does not hold.
    """
    if path.suffix == ".safetensors":
        return _safetensors(path, reader.read(path, LARGEST))
    with opened(path) as archive:
        return _npz(path, archive)


# NumPy


def _npz(path: Path, archive: Archive) -> Contents:
    budget = Budget()
    arrays, left_out = {}, []
    for member in archive.members:
        name = checked_name(member.removesuffix(".npy"))
        header = _header(member, archive.start(member, 12 + LONGEST)) if member.endswith(".npy") else None
        if header is None or header.dtype is None:
            left_out.append(f"{shown(name)} is left out: it holds no plain numbers")
        elif name in arrays:
            raise NotUnderstood(f"{shown(name)} should be there once, got it twice")
        else:
            arrays[name] = _array(member, header, header.dtype, archive, budget)
    return Contents(path, "NumPy arrays", arrays, notes=tuple(left_out[:10]))


class Header(NamedTuple):
    """What stands before an array's numbers: its dtype, or None of what is no numbers; and how long this is, in bytes."""

    dtype: np.dtype[Any] | None
    fortran: bool
    shape: tuple[int, ...]
    length: int


def _header(name: str, start: bytes) -> Header:
    """Read without evaluating it, which is how NumPy reads it."""
    size = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) > 6 else 0)
    if start[:6] != b"\x93NUMPY" or size is None:
        raise NotUnderstood(f"{shown(name)} should be a NumPy array of version 1 to 3, got {shown(start[:8])}")
    length = 8 + size + int.from_bytes(start[8 : 8 + size], "little")
    text = start[8 + size : length].decode("latin-1").strip()
    fields = dict(_FIELD.findall(text))
    if not 0 < length <= len(start) or len(fields) != 3 or text[:1] != "{" or text[-1:] != "}":
        raise NotUnderstood(f"{shown(name)} should begin with a dtype, an order and a shape, got {shown(text)}")
    if not (fields["descr"][0] == "'" and fields["shape"][0] == "(" and fields["fortran_order"] in ("True", "False")):
        raise NotUnderstood(f"{shown(name)} should begin with a dtype, an order and a shape, got {shown(text)}")
    sizes = re.findall(r"\d+", fields["shape"])
    if any(len(each) > reader.LONGEST for each in sizes):
        raise NotUnderstood(f"{shown(name)} should be of a whole shape, got {shown(fields['shape'])}")
    code = re.fullmatch(r"'([<>|=]?)(f[248]|[iu][1248]|b1)'", fields["descr"])
    dtype = np.dtype(code[1] + code[2]) if code else None
    return Header(dtype, fields["fortran_order"] == "True", tuple(int(each) for each in sizes), length)


def _array(name: str, header: Header, dtype: np.dtype[Any], archive: Archive, budget: Budget) -> Array:
    shape = budget.take(name, header.shape, dtype)
    expected = header.length + prod(shape) * dtype.itemsize
    if archive.size(name) != expected:
        raise NotUnderstood(f"{shown(name)} should have {expected:,} bytes, as it says, got {archive.size(name):,}")
    row = np.frombuffer(archive.content(name), dtype, prod(shape), header.length)
    if dtype.kind == "b":
        row = row.view("u1") != 0
    row = row.astype(row.dtype.newbyteorder("="), copy=False)
    row.flags.writeable = False
    return row.reshape(shape, order="F" if header.fortran else "C")


# safetensors: the header's length, the header in JSON, and the bytes of the arrays one behind another.


def _safetensors(path: Path, content: bytes) -> Contents:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, reader.LARGEST):
        raise NotUnderstood(
            f"{path.name} should begin with the length of its header, of at most {reader.LARGEST:,} bytes and within the file, "
            f"got {length:,}: truncated?"
        )
    try:
        header = reader.mapping(content[8 : 8 + length])
    except ValueError as error:
        raise NotUnderstood(f"the header of {path.name}: {error}") from None
    about = header.pop("__metadata__", None)
    if not isinstance(about, dict | None):
        raise NotUnderstood(f"__metadata__ should be a mapping, got {shown(about)}")
    entries = {checked_name(name): _entry(name, value) for name, value in header.items()}
    _check_places(entries, len(content) - 8 - length)
    budget = Budget()
    arrays, left_out = {}, []
    for name, entry in entries.items():
        if entry.kind is None:
            left_out.append(f"{shown(name)} is left out: it holds {entry.code}")
            continue
        shape = budget.take(name, entry.shape, dtype_of(entry.kind))
        if prod(shape) * width(entry.kind) != entry.end - entry.start:
            raise NotUnderstood(
                f"{shown(name)} should have {prod(shape) * width(entry.kind):,} bytes, as its shape says, "
                f"got {entry.end - entry.start:,}"
            )
        row = numbers(content, entry.kind, prod(shape), 8 + length + entry.start)
        row.flags.writeable = False
        arrays[name] = row.reshape(shape)
    notes = [*left_out[:10], *([BFLOAT16] if any(entry.kind == "bfloat16" for entry in entries.values()) else [])]
    return Contents(path, "safetensors", arrays, about or None, notes=tuple(notes))


class Entry(NamedTuple):
    """What the header says of an array: the kind of its numbers, or None of those that NumPy has not; and where it is."""

    code: str
    kind: str | None
    shape: tuple[Any, ...]
    start: int
    end: int


def _entry(name: str, value: Any) -> Entry:
    names = {"dtype", "shape", "data_offsets"}
    if not isinstance(value, Mapping) or set(value) != names:
        raise NotUnderstood(f"{shown(name)} should have a dtype, a shape and data_offsets, got {shown(value)}")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or not re.fullmatch(r"\w{1,20}", code):
        raise NotUnderstood(f"the dtype of {shown(name)} should be one of {', '.join(KINDS)}, got {shown(code)}")
    if not (isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2):
        raise NotUnderstood(f"{shown(name)} should have a shape and two offsets, got {shown(shape)}, {shown(offsets)}")
    if any(type(each) is not int for each in offsets):
        raise NotUnderstood(f"the offsets of {shown(name)} should be whole numbers, got {shown(offsets)}")
    return Entry(code, KINDS.get(code), tuple(shape), *offsets)


def _check_places(entries: Mapping[str, Entry], size: int) -> None:
    """The arrays lie one behind another from the first byte to the last."""
    place = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != place or not place <= entry.end <= size:
            raise NotUnderstood(
                f"{shown(name)} should begin at byte {place:,} and be within the file's {size:,}, "
                f"got {shown(entry.start)} to {shown(entry.end)}: truncated?"
            )
        place = entry.end
    if place != size:
        raise NotUnderstood(f"the arrays should have the file's {size:,} bytes together, got {place:,}")
