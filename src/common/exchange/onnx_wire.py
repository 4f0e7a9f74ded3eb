"""How large a file in protobuf would become, found before it does, without making anything of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rnn_common.exchange.contents import NotUnderstood

FIELDS = 2_000_000  # in a file: an empty one of 2 bytes becomes an object of 100
PACKED = 2**25  # bytes of numbers that take 1 byte in the file and some 40 in memory
# The numbers that are larger in memory than in the file, by the names of their fields in ONNX.
_WIDENED = ("int32_data", "int64_data", "uint64_data", "dims", "ints", "floats")


def check_size(content: bytes, kind: Any) -> None:
    """Refuse a file that would become many times larger in memory than it is, before it does.

    Args:
        content: of the file.
        kind: what it should be, as protobuf describes it.
    """
    fields = packed = 0
    inner = [(0, len(content), kind)]
    while inner:
        at, end, kind = inner.pop()
        for number, start, stop in _fields(content, at, end):
            fields += 1
            field = kind.fields_by_number.get(number)
            if field is not None and start < stop:
                if field.message_type is not None:
                    inner.append((start, stop, field.message_type))
                elif field.name in _WIDENED:
                    packed += stop - start
            if fields > FIELDS or packed > PACKED:
                raise NotUnderstood(
                    f"an ONNX file should have at most {FIELDS:,} fields and {PACKED:,} bytes of packed numbers"
                )


def _fields(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message: each one's number, and where what it holds starts and stops, which is nowhere for a number."""
    while at < end:
        tag, at = _varint(content, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == 2:
            length, at = _varint(content, at, end)
            start, at = at, at + length
            yield number, start, at if at <= end else start
        elif wire in (0, 1, 5):
            at = _varint(content, at, end)[1] if wire == 0 else at + (8 if wire == 1 else 4)
            yield number, at, at
        else:
            raise NotUnderstood("the file should be ONNX, but it is none, or damaged")
        if at > end:
            raise NotUnderstood("the file should be ONNX, but it is none, or damaged or truncated")


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise NotUnderstood("the file should be ONNX, but it is none, or damaged or truncated")
