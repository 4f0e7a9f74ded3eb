"""The arrays of an HDF5 file that anybody may have written, whose claims are checked before there is memory for them.

Data in other files is not read. Chunks are put together here, and what passed through filters is undone here, for the library
does not bound what a compressed chunk grows to.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from rnn_common.exchange.contents import Array, Budget, NotUnderstood
from rnn_common.exchange.hdf5_objects import word
from rnn_common.reader import shown

GROWTH, BASE = 1000, 2**20  # an array has at most so many times the bytes that it takes in the file, and so many
CHUNKS = 20_000  # of one array
DEFLATE, SHUFFLE = 1, 2  # the numbers that HDF5 gives these filters


def array(name: str, dataset: Any, budget: Budget, size: int) -> Array:
    """A dataset's array. bfloat16, which Keras writes as two bytes, is read as float32.

    Args:
        name: for messages.
        dataset: of the file, as h5py has it.
        budget: what the file may still ask memory for.
        size: of the file, in bytes.

    Raises:
        NotUnderstood: it is no dataset of numbers of its own, or claims more than it has.
    """
    if not hasattr(dataset, "shape") or dataset.shape is None:
        raise NotUnderstood(f"{shown(name)} should be an array")
    if dataset.external or dataset.is_virtual:
        raise NotUnderstood(f"{shown(name)} should be in the file itself, got data elsewhere")
    half = dataset.dtype == np.dtype("V2") and word(dataset, "dtype") == "bfloat16"
    dtype = np.dtype("<u2") if half else dataset.dtype
    shape = budget.take(name, dataset.shape, np.dtype("<f4") if half else dtype)
    if dataset.id.get_type().get_size() != dtype.itemsize:
        raise NotUnderstood(f"{shown(name)} should be numbers of a usual size, got {dtype}")
    allowed = GROWTH * min(dataset.id.get_storage_size(), size) + BASE
    if max(prod(shape), prod(dataset.chunks or ())) * dtype.itemsize > allowed:
        raise NotUnderstood(f"{shown(name)} should have at most {allowed:,} bytes for those in the file, got {shape}")
    if dataset.chunks:
        found = _Chunked(name, dataset, dtype, size).array(shape)
    else:
        found = np.asarray(dataset[()])
    return (found.view("<u2").astype(np.uint32) << 16).view(np.float32) if half else found


@dataclass(frozen=True)
class _Chunked:
    """A dataset in chunks; `size` is the file's, in bytes."""

    name: str
    dataset: Any
    dtype: np.dtype[Any]
    size: int

    @property
    def whole(self) -> int:
        """The bytes of a chunk."""
        return prod(self.dataset.chunks) * self.dtype.itemsize

    def array(self, shape: tuple[int, ...]) -> Array:
        filters, chunk = self._filters(), self.dataset.chunks
        if prod(-(-length // step) for length, step in zip(shape, chunk, strict=True)) > CHUNKS:
            raise NotUnderstood(f"{shown(self.name)} should be in at most {CHUNKS:,} chunks, got {shape} by {chunk}")
        fill = np.asarray(self.dataset.fillvalue)
        found = np.full(shape, fill.view(self.dtype) if fill.dtype.kind == "V" else fill, self.dtype)
        for start in product(*(range(0, length, step) for length, step in zip(shape, chunk, strict=True))):
            raw = self._chunk(start, filters)
            if raw is not None:
                part = found[tuple(slice(at, at + step) for at, step in zip(start, chunk, strict=True))]
                part[...] = raw.reshape(chunk)[tuple(slice(length) for length in part.shape)]
        return found

    def _filters(self) -> list[int]:
        layout = self.dataset.id.get_create_plist()
        found = [layout.get_filter(index)[0] for index in range(layout.get_nfilters())]
        if set(found) - {SHUFFLE, DEFLATE} or len(found) > 2:
            raise NotUnderstood(
                f"{shown(self.name)} should be as it is, shuffled or deflated, got HDF5's filters {found}"
            )
        return found

    def _chunk(self, start: tuple[int, ...], filters: list[int]) -> Array | None:
        """The numbers of the chunk that begins there, or None if it was never written."""
        info = self.dataset.id.get_chunk_info_by_coord(start)
        if info.byte_offset is None:
            return None
        if info.size > min(self.size, self.whole + self.whole // 100 + 1024):
            raise NotUnderstood(
                f"a chunk of {shown(self.name)} should have at most {self.whole:,} bytes, got {info.size:,}"
            )
        left_out, raw = self.dataset.id.read_direct_chunk(start)
        for index, each in reversed(list(enumerate(filters))):
            if not left_out >> index & 1:
                raw = self._inflated(raw) if each == DEFLATE else _sorted(raw, self.dtype.itemsize)
        if len(raw) != self.whole:
            raise NotUnderstood(f"a chunk of {shown(self.name)} should have {self.whole:,} bytes, got {len(raw):,}")
        return np.frombuffer(raw, self.dtype)

    def _inflated(self, raw: bytes) -> bytes:
        inflate = zlib.decompressobj()
        try:
            found = inflate.decompress(raw, self.whole)
            rest = inflate.decompress(inflate.unconsumed_tail, 1)
        except zlib.error as error:
            raise NotUnderstood(f"a chunk of {shown(self.name)} is damaged: {error}") from None
        if rest or not inflate.eof:
            raise NotUnderstood(f"a chunk of {shown(self.name)} should inflate to {self.whole:,} bytes, got others")
        return found


def _sorted(raw: bytes, itemsize: int) -> bytes:
    """Bytes that were arranged by their place within a number, number by number again."""
    whole = len(raw) // itemsize * itemsize
    return np.frombuffer(raw[:whole], np.uint8).reshape(itemsize, -1).T.tobytes() + raw[whole:]
