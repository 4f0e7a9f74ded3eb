"""A data set of sequences of different lengths, and the data sets there are by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.parameters import one_of


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences with a target each, at their original lengths.

    Args:
        name: what the data set is called.
        sequences: arrays `(time, features)` of float64, each at least one step long.
        targets: one a sequence, along the first axis.

    Raises:
        ValueError: no sequence; a sequence that is no `(time ≥ 1, features)`, of another width than the first, or not
            finite; or a number of targets other than that of sequences.
    """

    name: str
    sequences: tuple[NDArray[np.float64], ...]
    targets: NDArray[Any]

    def __post_init__(self) -> None:
        if not self.sequences:
            raise ValueError("sequences should hold at least one sequence, got none")
        for i, sequence in enumerate(self.sequences):
            if sequence.ndim != 2 or len(sequence) < 1 or sequence.shape[1] != self.sequences[0].shape[1]:
                width = self.sequences[0].shape[-1]
                raise ValueError(f"sequences[{i}] should have shape (time ≥ 1, {width}), got {sequence.shape}")
            if not np.isfinite(sequence).all():
                raise ValueError(f"sequences[{i}] should be finite, got NaN or infinity")
        if len(self.targets) != len(self.sequences):
            raise ValueError(f"targets should number {len(self.sequences)}, got {len(self.targets)}")

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def features(self) -> int:
        return int(self.sequences[0].shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(sequence) for sequence in self.sequences], np.int64)


def _vowels(seed: int) -> Sequences:
    from common.data.vowels import japanese_vowels

    return japanese_vowels("train")


def _gaussian(seed: int) -> Sequences:
    from common.data.synthetic import gaussian

    return gaussian(64, 12, min_length=7, max_length=29, seed=seed)


def _adding(seed: int) -> Sequences:
    from common.data.synthetic import adding

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
