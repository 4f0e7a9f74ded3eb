"""What is the next character: a language model of Python's own reference, from the standard library.

`pydoc_data.topics` holds what `help("for")` prints, about 465,000 characters in 79 topics, written by Python's
documentation team (licence: PSF). It differs a little from one Python to the next, and figures with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_common.data.sequences import Sequences
from rnn_common.networks import Array, Model, Network, Stack
from rnn_common.tasks.metrics import bits, cross_entropy
from rnn_common.tasks.ngram import InterpolatedNgram
from rnn_common.tasks.problem import Problem, Scores, Setting, check_symbols
from rnn_common.training.recipe import Recipe

LONG = 40
SHARES = {"test": 0.10, "validation": 0.04}
Split = Literal["train", "validation", "test"]


class Size(NamedTuple):
    """A setting: characters of training text and of held-out text (0: all), windows' lengths, network, recipe."""

    characters: int
    held_out: int
    window: int
    segment: int
    embedding: int
    hidden: int
    layers: int
    dropout: float
    batch_size: int
    epochs: int
    learning_rate: float


SIZES: dict[Setting, Size] = {
    "tiny": Size(1024, 256, 32, 64, 8, 8, 1, 0.0, 8, 1, 1e-2),
    "quick": Size(0, 0, 64, 512, 64, 192, 1, 0.0, 16, 5, 8e-3),
    "full": Size(0, 0, 256, 512, 128, 512, 2, 0.3, 32, 60, 2e-3),
}


@dataclass(frozen=True)
class About:
    """What a network of this task is used with: the characters that it knows."""

    alphabet: str

    def check(self, model: Model) -> None:
        """Whether it fits a network; raises ValueError if not, and names the field."""
        if not isinstance(model, Network) or model.head != "steps" or model.stack.bidirectional:
            raise ValueError("model should score every step, and run forwards alone")
        if model.outputs != model.stack.inputs:
            raise ValueError(f"model.outputs should be {model.stack.inputs}, as its inputs, got {model.outputs}")
        check_symbols("about.alphabet", self.alphabet, model.stack)


def _normal(paragraph: str) -> str:
    return " ".join(paragraph.split())


@cache
def own_paragraphs() -> dict[str, tuple[str, ...]]:
    """The topics' paragraphs, without those of 40 or more characters that a longer topic has, or the topic itself before.

    Several topics hold the same text, whole or in part, so without this much of the held-out text would be in the training
    text too. Paragraphs are compared with white space normalised. A topic that has no such paragraph of its own is left out.
    """
    from pydoc_data.topics import topics

    found: dict[str, tuple[str, ...]] = {}
    before = ""
    for topic in sorted(topics, key=lambda topic: (-len(topics[topic]), topic)):
        unseen: dict[str, None] = {}
        for paragraph in re.split(r"\n\s*\n", topics[topic].strip("\n")):
            if len(_normal(paragraph)) < LONG or _normal(paragraph) not in before:
                unseen.setdefault(paragraph)
        if any(len(_normal(paragraph)) >= LONG for paragraph in unseen):
            found[topic] = tuple(unseen)
            before += "\n".join(map(_normal, unseen)) + "\n"
    return found


@cache
def texts() -> Mapping[Split, str]:
    """The text of each split.

    Whole topics, in the order of a digest of their names, go to the test text where they still fit into its tenth of all
    characters, else to the validation text, 4 %, else to the training text.
    """
    whole = {topic: "\n\n".join(paragraphs) + "\n\n\n" for topic, paragraphs in own_paragraphs().items()}
    room = {split: share * sum(map(len, whole.values())) for split, share in SHARES.items()}
    found: dict[Split, str] = {"train": "", "validation": "", "test": ""}
    for topic in sorted(whole, key=lambda topic: sha256(topic.encode()).digest()):
        for split, text in reversed(found.items()):
            if len(text) + len(whole[topic]) <= room.get(split, np.inf):
                found[split] += whole[topic]
                break
    return found


def encode(text: str, alphabet: str) -> NDArray[np.int64]:
    """The characters' places in the alphabet, counted from 1; 0 for others: `(time,)`."""
    place = {character: i for i, character in enumerate(alphabet, 1)}
    return np.array([place.get(character, 0) for character in text], np.int64)


def windows(name: str, symbols: NDArray[np.int64], length: int) -> Sequences:
    """Consecutive windows, the last as long as what is left; targets are the symbols one further on.

    So every symbol but the very first is predicted once.
    """
    starts = range(0, len(symbols) - 1, length)
    return Sequences(
        name,
        tuple(symbols[start : min(start + length, len(symbols) - 1)] for start in starts),
        tuple(symbols[start + 1 : start + 1 + length] for start in starts),
    )


def _network(size: Size, symbols: int, cell: str) -> Network:
    stack = Stack(cell, symbols, size.hidden, size.embedding, size.layers, dropout=size.dropout)
    return Network(stack, outputs=symbols, head="steps")


def _recipe(size: Size, cell: str) -> Recipe:
    # A SimpleRNN's update costs less than half as much, and it needs smaller and more of them.
    simple = cell == "SimpleRNN"
    return Recipe(
        learning_rate=size.learning_rate / 2 if simple else size.learning_rate,
        schedule="cosine",
        clip_norm=1.0,
        batch_size=size.batch_size,
        epochs=2 * size.epochs if simple else size.epochs,
    )


def _score(test: Sequences, answers: Sequence[Array]) -> Scores:
    return {"bits per character": bits(cross_entropy(np.concatenate(answers), np.concatenate(test.targets)))}


def _ngrams(train: NDArray[np.int64], test: Sequences, symbols: int) -> Mapping[str, Scores]:
    """Models that count, given each window's characters and no others, as the networks are."""
    segments = [np.append(x, y[-1]) for x, y in zip(test.sequences, test.targets, strict=True)]
    found = {}
    for name, order in (("single characters", 1), ("interpolated 5-gram", 5)):
        model = InterpolatedNgram(order, symbols).fit([train])
        nats = np.concatenate([model.log2_probability(segment)[1:] for segment in segments])
        found[name] = {"bits per character": -float(nats.mean())}
    return found


def problems(setting: Setting) -> tuple[Problem, ...]:
    """The task in one size; see `rnn_common.tasks.problems`."""
    size = SIZES[setting]
    shown = {
        split: text[: (size.characters if split == "train" else size.held_out) or None]
        for split, text in texts().items()
    }
    alphabet = "".join(sorted(set(shown["train"])))
    encoded = {split: encode(text, alphabet) for split, text in shown.items()}
    test = windows("text, test", encoded["test"], size.segment)
    return (
        Problem(
            name="text",
            train=windows("text, train", encoded["train"], size.window),
            validation=windows("text, validation", encoded["validation"], size.segment),
            test=test,
            model=partial(_network, size, len(alphabet) + 1),
            recipe=partial(_recipe, size),
            score=partial(_score, test),
            baselines=partial(_ngrams, encoded["train"], test, len(alphabet) + 1),
            lower_is_better={"bits per character": True},
            about=asdict(About(alphabet)),
        ),
    )
