"""Numbers out of bytes, and names that can be shown: what the readers of arrays share."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_common.exchange.contents import Array, NotUnderstood
from rnn_common.reader import shown

LONGEST_NAME = 1000  # characters

# What is read, by PyTorch's names. NumPy has no bfloat16: it is the upper half of a float32.
CODES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "u2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint64": "u8",
    "uint32": "u4",
    "uint16": "u2",
    "uint8": "u1",
    "bool": "u1",
}
BFLOAT16 = "bfloat16 is read as float32, which holds each of its numbers"


def width(kind: str) -> int:
    """The bytes of a number in the file."""
    return np.dtype(CODES[kind]).itemsize


def dtype_of(kind: str) -> np.dtype[Any]:
    """What numbers of a kind are read as."""
    return np.dtype({"bfloat16": "f4", "bool": "?"}.get(kind, CODES[kind]))


def numbers(content: bytes, kind: str, count: int, start: int = 0, *, big: bool = False) -> Array:
    """The numbers that bytes are, without a copy where they can be used as they stand.

    Args:
        content: the bytes, of which there are enough.
        kind: of the numbers, by the names of `CODES`.
        count: how many.
        start: the first byte. Default 0.
        big: whether the first byte of a number is its largest. Default False.

    Returns:
        `(count,)`, of `dtype_of(kind)`.
    """
    raw = np.frombuffer(content, np.dtype(CODES[kind]).newbyteorder(">" if big else "<"), count, start)
    if kind == "bfloat16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    if kind == "bool":
        return raw != 0
    return raw.astype(raw.dtype.newbyteorder("="), copy=False)


def is_name(name: str) -> bool:
    """Whether a name is short and can be printed."""
    return len(name) <= LONGEST_NAME and name.isprintable()


def checked_name(name: str) -> str:
    """The name of an array.

    Raises:
        NotUnderstood: it is too long, or has control characters.
    """
    if not is_name(name):
        raise NotUnderstood(
            f"names should be of at most {LONGEST_NAME} characters that can be shown, got {shown(name)}"
        )
    return name
