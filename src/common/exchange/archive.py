"""Zip files of strangers: members are read whole, and together never more than the file's own size makes likely."""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from rnn_common.exchange.contents import LARGEST, NotUnderstood
from rnn_common.reader import shown

GROWTH = 20  # times the file's size, that its members may have together
SMALL = 2**26  # bytes that they may have in any case


class Archive:
    """An open zip file.

    Attributes:
        members: by name, in the file's order.
    """

    def __init__(self, file: ZipFile, size: int) -> None:
        self._file, self._size = file, size
        self._left = min(LARGEST, SMALL + GROWTH * size)
        self.members: dict[str, ZipInfo] = {}
        for member in file.infolist():
            if member.filename in self.members:
                raise NotUnderstood(f"{shown(member.filename)} should be there once, got it twice")
            self.members[member.filename] = member

    def size(self, name: str) -> int:
        """The bytes of a member, as the file says; of one that could not be true, an error.

        Raises:
            NotUnderstood: it is not there, encrypted, compressed in another way than deflate, or larger than it can be.
        """
        if name not in self.members:
            raise NotUnderstood(f"{shown(name)} should be in the archive, but it is not")
        member = self.members[name]
        if member.flag_bits & 1 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise NotUnderstood(f"{shown(name)} should be stored or deflated, and not encrypted")
        stored = member.compress_type == ZIP_STORED
        if member.compress_size > self._size or (stored and member.file_size != member.compress_size):
            raise NotUnderstood(f"{shown(name)} should be within the file, got {member.file_size:,} bytes: truncated?")
        return member.file_size

    def start(self, name: str, count: int) -> bytes:
        """At most so many bytes of a member's beginning."""
        self.size(name)
        with _whole(name), self._file.open(self.members[name]) as member:
            return member.read(count)

    def content(self, name: str) -> bytes:
        """A member.

        Raises:
            NotUnderstood: see `size`; it is damaged; or members together are much larger than the file.
        """
        size = self.size(name)
        self._left -= size
        if self._left < 0:
            raise NotUnderstood(
                f"what is compressed should be at most {GROWTH} times as large as the file, {shown(name)} goes beyond"
            )
        with _whole(name), self._file.open(self.members[name]) as member:
            content = member.read(size)
        if len(content) != size:
            raise NotUnderstood(f"{shown(name)} should have {size:,} bytes, got {len(content):,}: truncated?")
        return content


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """A zip file, open.

    Raises:
        OSError: it is not there, or cannot be read.
        NotUnderstood: it is no regular file, no zip file, or damaged.
    """
    check_regular(path)
    with path.open("rb") as stream:
        with _whole(path.name):
            file = ZipFile(stream)
        with file:
            yield Archive(file, path.stat().st_size)


def check_regular(path: Path) -> None:
    """Refuse a folder, a pipe or a device: merely to open a pipe would wait for its other end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise NotUnderstood(f"{path} should be a regular file, got one of mode {stat.filemode(mode)}")


@contextmanager
def _whole(name: str) -> Iterator[None]:
    """What reading a damaged archive raises, which is of many kinds, as one."""
    try:
        yield
    except (
        BadZipFile,
        EOFError,
        LookupError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        raise NotUnderstood(f"{shown(name)} should be a whole zip file, or in one, got {shown(str(error))}") from None
