"""Padding, lengths, shuffling, bucketing: from sequences to batches of NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnn_common.data.sequences import Sequences
from rnn_common.equations import check_lengths


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences padded to the longest, with zeros or the symbol 0.

    Args:
        x: `(batch, time, features)`, of a floating-point dtype, or `(batch, time)` symbols.
        lengths: `(batch,)` integers from 1 to time.
        targets: `(batch, …)`; with `target_lengths` `(batch, target time)` classes, padded with −1.
        target_lengths: `(batch,)` where each sequence has a sequence of targets. Default None.

    Raises:
        TypeError: `x` is neither floating-point nor symbols, or the lengths are no integers.
        ValueError: a wrong shape, or a length out of range.
    """

    x: NDArray[Any]
    lengths: NDArray[np.int64]
    targets: NDArray[Any]
    target_lengths: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        symbols = np.issubdtype(self.x.dtype, np.integer)
        if not symbols and not np.issubdtype(self.x.dtype, np.floating):
            raise TypeError(f"x should be of a floating-point dtype or hold symbols, got {self.x.dtype}")
        if self.x.ndim != 3 and not (symbols and self.x.ndim == 2):
            raise ValueError(
                f"x should have shape (batch, time, features), or (batch, time) symbols, got {self.x.shape}"
            )
        if symbols and self.x.ndim == 3:
            raise TypeError(f"x of features should be of a floating-point dtype, got {self.x.dtype}")
        object.__setattr__(self, "lengths", check_lengths(self.lengths, *self.x.shape[:2]))
        if len(self.targets) != len(self.x):
            raise ValueError(f"targets should number {len(self.x)}, got {len(self.targets)}")
        if self.target_lengths is not None:
            if self.targets.ndim != 2:
                raise ValueError(f"targets should have shape (batch, time), got {self.targets.shape}")
            object.__setattr__(self, "target_lengths", check_lengths(self.target_lengths, *self.targets.shape))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """`(batch, time)`: True where a step is within its sequence."""
        return np.asarray(np.arange(self.x.shape[1]) < self.lengths[:, None])

    @property
    def padded(self) -> bool:
        """Whether any sequence is shorter than the longest."""
        return bool((self.lengths < self.x.shape[1]).any())


def pad(
    sequences: Sequence[NDArray[Any]],
    targets: NDArray[Any] | Sequence[NDArray[np.int64]],
    dtype: DTypeLike = np.float64,
) -> Batch:
    """One batch of sequences `(time, features)`, or of symbols `(time,)`, padded to the longest.

    Args:
        sequences: at least one.
        targets: an array, one a sequence along the first axis; or a list of arrays `(time,)` of classes.
        dtype: of `x` where the sequences are not symbols. Default float64.

    Raises:
        ValueError: no sequence, or what `Batch` raises.
    """
    if not len(sequences):
        raise ValueError("sequences should hold at least one sequence, got none")
    x, lengths = _stack(sequences, 0, np.int64 if sequences[0].ndim == 1 else dtype)
    if isinstance(targets, np.ndarray):
        return Batch(x, lengths, targets)
    return Batch(x, lengths, *_stack(targets, -1, np.int64))


def _stack(arrays: Sequence[NDArray[Any]], filler: int, dtype: DTypeLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Arrays of different lengths as one, and the lengths."""
    lengths = np.array([len(array) for array in arrays], np.int64)
    stacked = np.full((len(arrays), lengths.max(), *arrays[0].shape[1:]), filler, dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked, lengths


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
        dtype: of `x` where the sequences are not symbols. Default float64.

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
        listed = isinstance(data.targets, tuple)
        targets = [data.targets[i] for i in chunk] if listed else data.targets[chunk]
        yield pad([data.sequences[i] for i in chunk], targets, dtype)
