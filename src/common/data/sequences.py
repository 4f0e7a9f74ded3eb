"""A data set of sequences of different lengths, and the data sets there are by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_common.checks import one_of


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences with a target each, at their original lengths.

    Args:
        name: what the data set is called.
        sequences: arrays `(time, features)` of float64, or `(time,)` of integers from 0, symbols; each at least one step
            long.
        targets: one a sequence, along the first axis; or a tuple of arrays `(time,)` of integers, one a sequence: a class
            for every step, −1 where there is none, or what a sequence is to be translated into.

    Raises:
        ValueError: no sequence; a sequence without a step, of another width than the first, or not finite; a negative
            symbol; or a number of targets other than that of sequences.
    """

    name: str
    sequences: tuple[NDArray[Any], ...]
    targets: NDArray[Any] | tuple[NDArray[np.int64], ...]

    def __post_init__(self) -> None:
        if not self.sequences:
            raise ValueError("sequences should hold at least one sequence, got none")
        width = self.sequences[0].shape[1:]
        for i, sequence in enumerate(self.sequences):
            if sequence.shape[1:] != width or sequence.ndim not in (1, 2) or len(sequence) < 1:
                expected = f"(time ≥ 1, {width[-1]})" if width else "(time ≥ 1,)"
                raise ValueError(f"sequences[{i}] should have shape {expected}, got {sequence.shape}")
            if not width and not (np.issubdtype(sequence.dtype, np.integer) and sequence.min() >= 0):
                raise ValueError(
                    f"sequences[{i}] should hold symbols, integers from 0, got {sequence.dtype} {sequence}"
                )
            if not np.isfinite(sequence).all():
                raise ValueError(f"sequences[{i}] should be finite, got NaN or infinity")
        if len(self.targets) != len(self.sequences):
            raise ValueError(f"targets should number {len(self.sequences)}, got {len(self.targets)}")

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def features(self) -> int:
        """The width of a step; of symbols 1."""
        return 1 if self.sequences[0].ndim == 1 else int(self.sequences[0].shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(sequence) for sequence in self.sequences], np.int64)

    def take(self, which: Iterable[int], name: str | None = None) -> Sequences:
        """Some of the sequences with their targets, in the order asked for."""
        chosen = list(which)
        targets = tuple(self.targets[i] for i in chosen) if isinstance(self.targets, tuple) else self.targets[chosen]
        return Sequences(name or self.name, tuple(self.sequences[i] for i in chosen), targets)


def _vowels(seed: int) -> Sequences:
    from rnn_common.data.vowels import japanese_vowels

    return japanese_vowels("train")


def _gaussian(seed: int) -> Sequences:
    from rnn_common.data.synthetic import gaussian

    return gaussian(64, 12, min_length=7, max_length=29, seed=seed)


def _adding(seed: int) -> Sequences:
    from rnn_common.data.synthetic import adding

    return adding(64, 50, seed=seed)


DATASETS: dict[str, Callable[[int], Sequences]] = {"vowels": _vowels, "gaussian": _gaussian, "adding": _adding}


def load(name: str, seed: int = 0) -> Sequences:
    """A data set by name, in a size fit for a comparison.

    Args:
        name: `"vowels"`, `"gaussian"` or `"adding"`.
        seed: of the synthetic ones. Default 0.

    Raises:
        ValueError: an unknown name.
        ModuleNotFoundError: the package that ships the recordings is not installed.
    """
    return DATASETS[one_of("data set", name, list(DATASETS))](seed)
