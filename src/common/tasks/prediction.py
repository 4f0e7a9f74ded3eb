"""What a trained network says of new input, task by task: `rnn-parity predict`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_common.checks import one_of, whole
from rnn_common.data.batches import pad
from rnn_common.machine import check_memory
from rnn_common.networks.decoding import beam_search, sample
from rnn_common.tasks.metrics import log_probabilities
from rnn_common.training.checkpoint import Checkpoint
from rnn_common.twins import Framework

Speaker = Callable[[Framework, Any, Checkpoint, Sequence[str]], list[str]]


COLDEST = 1e-30  # of the temperatures above 0: scores divided by less overflow


@dataclass(frozen=True)
class Options:
    """How a text is gone on with; see `rnn_common.networks.decoding.sample`.

    Raises:
        ValueError: a number out of range.
    """

    length: int = 300
    temperature: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        whole("length", self.length, 1)
        whole("seed", self.seed, 0)
        if self.temperature != 0 and not COLDEST <= self.temperature < np.inf:
            raise ValueError(f"temperature should be 0, or at least {COLDEST} and finite, got {self.temperature}")
        check_memory("length", self.length, 8 * self.length)


def load(twin: Framework, checkpoint: Checkpoint) -> Any:
    """The network of a checkpoint, with its best weights where there are some."""
    return twin.build(checkpoint.model, checkpoint.best or checkpoint.weights, dtype=checkpoint.recipe.dtype)


def languages(twin: Framework, network: Any, checkpoint: Checkpoint, words: Sequence[str]) -> list[str]:
    """The three likeliest languages of each surname."""
    from rnn_common.tasks.names import encode

    about = checkpoint.about
    batch = pad(encode(words, about["alphabet"]), np.zeros(len(words), np.int64))
    said = []
    for word, row in zip(words, np.exp(log_probabilities(twin.predict(network, batch))), strict=True):
        best = np.argsort(-row)[:3]
        said.append(f"{word}: " + ", ".join(f"{about['languages'][i]} {row[i]:.0%}" for i in best))
    return said


def pronunciations(twin: Framework, network: Any, checkpoint: Checkpoint, words: Sequence[str]) -> list[str]:
    """The phonemes of each word."""
    from rnn_common.tasks.translation import decode, encode

    about = checkpoint.about
    source = encode(words, about["letters"])
    batch = pad(source, [np.zeros(1, np.int64)] * len(words))
    found = beam_search(
        lambda symbols, state: twin.step(network, symbols, state), twin.encode(network, batch), width=4, longest=60
    )
    return [f"{word}: {' '.join(decode(each, about['phonemes']))}" for word, each in zip(words, found, strict=True)]


def continuation(
    twin: Framework, network: Any, checkpoint: Checkpoint, prompt: str, options: Options = Options()
) -> str:
    """The prompt and what the network writes after it.

    Args:
        twin, network, checkpoint: of the task `text`.
        prompt: at least one character; those that the network does not know are read as unknown.
        options: how much it writes, and how.
    """
    from rnn_common.tasks.text import encode

    alphabet = checkpoint.about["alphabet"]
    written = sample(
        lambda symbols, state: twin.step(network, symbols, state),
        encode(prompt, alphabet).tolist(),
        length=options.length,
        temperature=options.temperature,
        seed=options.seed,
    )
    return prompt + "".join(alphabet[symbol - 1] if symbol else "�" for symbol in written)


SPEAKERS: dict[str, Speaker] = {"names": languages, "translation": pronunciations}


def check(checkpoint: Checkpoint, words: Sequence[str]) -> None:
    """Whether a checkpoint's network has anything to say of words.

    Raises:
        ValueError: its task takes no input in words, or there are none.
    """
    task = one_of("task of the checkpoint", checkpoint.about.get("task"), [*SPEAKERS, "text"])
    if not words or not all(word if task == "text" else word.strip() for word in words):
        raise ValueError(f"words should not be empty, got {list(words)}")


def answer(twin: Framework, checkpoint: Checkpoint, words: Sequence[str], options: Options = Options()) -> list[str]:
    """What the network of a checkpoint says of words or, of the task `text`, how it goes on from them.

    Raises:
        ValueError: see `check`.
    """
    check(checkpoint, words)
    network, task = load(twin, checkpoint), checkpoint.about["task"]
    if task != "text":
        return SPEAKERS[task](twin, network, checkpoint, words)
    return [continuation(twin, network, checkpoint, " ".join(words), options)]
