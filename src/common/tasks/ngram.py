"""A language model by counting, for networks to be measured against.

Witten & Bell 1991, "The zero-frequency problem: estimating the probabilities of novel events in adaptive text compression",
IEEE Transactions on Information Theory 37, method C, in the interpolated form of Chen & Goodman 1999, "An empirical study of
smoothing techniques for language modeling", Computer Speech and Language 13, section 2.6: with c the symbol, h the symbols
before it, h′ these without the first, N(h) how often h goes on and T(h) with how many different symbols,

    p(c | h) = (N(h c) + T(h) p(c | h′)) / (N(h) + T(h))

and p(c | h) = p(c | h′) for an h that never went on; the shortest h′ is none, below which all symbols are equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.integer[Any]]
Integers = NDArray[np.int64]


class Counts(NamedTuple):
    """What was counted of runs of n symbols, numbers in base `symbols`; each `(runs,)`, or `(contexts,)`."""

    runs: Integers
    seen: Integers
    contexts: Integers
    going_on: Integers
    different: Integers


class InterpolatedNgram:
    """p(symbol | the order − 1 symbols before it), interpolated with those of shorter contexts.

    Args:
        order: the length of the longest runs that are counted, at least 1; 1 looks at no context.
        symbols: how many there are, at least 1; they are the integers from 0.

    Raises:
        ValueError: a number out of range, or runs that an int64 cannot number.
    """

    def __init__(self, order: int, symbols: int) -> None:
        if order < 1 or symbols < 1:
            raise ValueError(f"order and symbols should be at least 1, got {order} and {symbols}")
        if symbols**order > np.iinfo(np.int64).max:
            raise ValueError(f"symbols ** order should be below 2 ** 63, got {symbols} ** {order}")
        self.order = order
        self.symbols = symbols
        self._counts: list[Counts] = []

    def fit(self, sequences: Sequence[Symbols]) -> InterpolatedNgram:
        """Count, in place of what was counted before; no run goes from one sequence, `(time,)`, into the next.

        Raises:
            ValueError: a symbol out of range.
        """
        self._counts = [self._count(sequences, n) for n in range(1, self.order + 1)]
        return self

    def log2_probability(self, sequence: Symbols) -> NDArray[np.float64]:
        """log₂ p of every symbol of a sequence, the first without a context, the next with one of one symbol, ….

        Args:
            sequence: `(time,)`.

        Returns:
            `(time,)`.

        Raises:
            ValueError: a symbol out of range.
        """
        p = np.full(len(sequence), 1 / self.symbols)
        for n, counts in enumerate(self._counts, 1):
            runs = self._number(sequence, n)
            seen = _find(counts.runs, counts.seen, runs)
            going_on = _find(counts.contexts, counts.going_on, runs // self.symbols)
            different = _find(counts.contexts, counts.different, runs // self.symbols)
            longer = (seen + different * p[n - 1 :]) / np.maximum(going_on + different, 1)
            p[n - 1 :] = np.where(going_on > 0, longer, p[n - 1 :])
        return np.log2(p)

    def _count(self, sequences: Sequence[Symbols], n: int) -> Counts:
        numbers = [self._number(sequence, n) for sequence in sequences]
        runs, seen = np.unique(np.concatenate([np.empty(0, np.int64), *numbers]), return_counts=True)
        contexts, of = np.unique(runs // self.symbols, return_inverse=True)
        going_on = np.bincount(of, seen, len(contexts)).astype(np.int64)
        return Counts(runs, seen, contexts, going_on, np.bincount(of, minlength=len(contexts)))

    def _number(self, sequence: Symbols, n: int) -> Integers:
        """The runs of n symbols of a sequence, in order, as numbers: `(time − n + 1,)`, none where that is below 1."""
        symbols = np.asarray(sequence, np.int64)
        if len(symbols) and not 0 <= symbols.min() <= symbols.max() < self.symbols:
            raise ValueError(
                f"sequence should hold symbols from 0 to {self.symbols - 1}, got {symbols.min()} to {symbols.max()}"
            )
        count = max(0, len(symbols) - n + 1)
        numbers = np.zeros(count, np.int64)
        for i in range(n):
            numbers = numbers * self.symbols + symbols[i : i + count]
        return numbers


def _find(keys: Integers, values: Integers, wanted: Integers) -> Integers:
    """The values of the wanted keys, 0 where there is no such key; `keys` are sorted."""
    if not len(keys):
        return np.zeros_like(wanted)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
