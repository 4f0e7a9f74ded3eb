"""Padding, lengths, shuffling, bucketing: from sequences to batches of NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from common.data.sequences import Sequences
from common.equations import check_lengths


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences padded with zeros to the longest.

    Args:
        x: `(batch, time, features)`, of a floating-point dtype.
        lengths: `(batch,)` integers from 1 to time.
        targets: `(batch, …)`.

    Raises:
        TypeError: `x` is not floating-point or the lengths are no integers.
        ValueError: a wrong shape, or a length out of range.
    """

    x: NDArray[Any]
    lengths: NDArray[np.int64]
    targets: NDArray[Any]

    def __post_init__(self) -> None:
        if not np.issubdtype(self.x.dtype, np.floating):
            raise TypeError(f"x should be of a floating-point dtype, got {self.x.dtype}")
        if self.x.ndim != 3:
            raise ValueError(f"x should have shape (batch, time, features), got {self.x.shape}")
        object.__setattr__(self, "lengths", check_lengths(self.lengths, *self.x.shape[:2]))
        if len(self.targets) != len(self.x):
            raise ValueError(f"targets should number {len(self.x)}, got {len(self.targets)}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """`(batch, time)`: True where a step is within its sequence."""
        return np.asarray(np.arange(self.x.shape[1]) < self.lengths[:, None])


def pad(sequences: Sequence[NDArray[Any]], targets: NDArray[Any], dtype: DTypeLike = np.float64) -> Batch:
    """One batch of sequences `(time, features)`, padded with zeros to the longest.

    Raises:
        ValueError: no sequence, or what `Batch` raises.
    """
    if not len(sequences):
        raise ValueError("sequences should hold at least one sequence, got none")
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    x = np.zeros((len(sequences), lengths.max(), sequences[0].shape[1]), dtype)
    for row, sequence in zip(x, sequences, strict=True):
        row[: len(sequence)] = sequence
    return Batch(x, lengths, targets)


def batches(
    data: Sequences,
    batch_size: int,
    *,
    seed: int | None = None,
    epoch: int = 0,
    bucket: bool = False,
    dtype: DTypeLike = np.float64,
) -> Iterator[Batch]:
    """Every sequence once, in batches; the last may be smaller.

    Args:
        data: the sequences.
        batch_size: at least 1.
        seed: shuffle, the same way for the same seed and epoch. Default: the order of the data set.
        epoch: which pass over the data, at least 0; each has an order of its own. Default 0.
        bucket: fill batches with sequences of like length, so that little is padding; with a seed, sequences of equal
            length and the batches are still in random order. Default False.
        dtype: of `x`. Default float64.

    Raises:
        ValueError: a number out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size should be at least 1, got {batch_size}")
    if epoch < 0:
        raise ValueError(f"epoch should be at least 0, got {epoch}")
    random = None if seed is None else np.random.default_rng((seed, epoch))
    order = np.arange(len(data)) if random is None else random.permutation(len(data))
    if bucket:
        order = order[np.argsort(data.lengths[order], kind="stable")]
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if bucket and random is not None:
        chunks = [chunks[i] for i in random.permutation(len(chunks))]
    for chunk in chunks:
        yield pad([data.sequences[i] for i in chunk], data.targets[chunk], dtype)
