"""Keras 3's `.keras`: a zip of the network's configuration and its weights. Nothing of it is written to the disk."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

from rnn_common.exchange import apart
from rnn_common.exchange.contents import LARGEST, MOST, Contents, NotUnderstood
from rnn_common.exchange.hdf5_arrays import BASE, GROWTH
from rnn_common.exchange.hdf5_file import contents
from rnn_common.exchange.hdf5_objects import opened, parts, said_in
from rnn_common.reader import LARGEST as WORDS
from rnn_common.reader import checked, shown

WEIGHTS = "model.weights.h5"


def read(path: Path) -> Contents:
    """What a `.keras` holds: see `hdf5_file` for the configuration.

    Args:
        path: of the file.

    Raises:
        OSError: it is not there, or cannot be read.
        NotUnderstood: it is no such zip, lacks a part, is damaged, or claims more than it has.
        ValueError: it is no regular file, or too large.
        MissingPackage: h5py is not installed.
    """
    return apart.read("keras_file", path)


def contents_of(path: Path) -> Contents:
    """As `read`, in this process, which a damaged file may end."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            model = _said(archive, members, "config.json")
            metadata = _said(archive, members, "metadata.json")
            weights = _member(archive, members, WEIGHTS, LARGEST)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise NotUnderstood(f"{path} is no zip of Keras's, or is damaged: {shown(str(error))}") from None
    config: dict[str, Any] = {"model": model}
    config["keras_version"] = checked("metadata.json: keras_version", metadata.get("keras_version"), str)
    with opened(io.BytesIO(weights), f"{WEIGHTS} in {path}") as file:
        return contents(path, file, len(weights), config)


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    if len(archive.infolist()) > MOST:
        raise NotUnderstood(f"{path} should hold at most {MOST:,} members")
    for member in archive.infolist():
        parts(member.filename.rstrip("/"))
        if member.filename in found:
            raise NotUnderstood(f"{path} should hold {shown(member.filename)} once, got it twice")
        found[member.filename] = member
    return found


def _said(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> dict[str, Any]:
    return said_in(name, _member(archive, members, name, WORDS))


def _member(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, largest: int) -> bytes:
    if name not in members:
        raise NotUnderstood(f"a .keras should hold {name}, got {', '.join(map(shown, list(members)[:4])) or 'nothing'}")
    member = members[name]
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        raise NotUnderstood(f"{name} should be stored or deflated, and not encrypted")
    allowed = min(largest, GROWTH * member.compress_size + BASE)
    if member.file_size > allowed:
        raise NotUnderstood(f"{name} should have at most {allowed:,} bytes, got {member.file_size:,}")
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise NotUnderstood(f"{name} should have {member.file_size:,} bytes, as it says, got {len(content):,}")
    return content
