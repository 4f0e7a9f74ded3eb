"""What a task is: data in their splits, a network and a recipe for each cell, a baseline, and how answers are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rnn_common.data.sequences import Sequences
from rnn_common.networks import Array, Model, Stack
from rnn_common.reader import shown
from rnn_common.training.recipe import Recipe

Setting = Literal["tiny", "quick", "full"]
SETTINGS: tuple[Setting, ...] = ("tiny", "quick", "full")
Scores = dict[str, float]


@dataclass(frozen=True)
class About:
    """What a network of a task is used with besides its weights: nothing, unless the task's module has an own `About`."""

    def check(self, model: Model) -> None:
        """Whether it fits a network; raises ValueError if not, and names the field."""


def check_symbols(name: str, symbols: Sequence[str], stack: Stack) -> None:
    """Whether a stack embeds these symbols, as `encode` numbers them: in order, from 1; 0 is for what is none of them.

    Raises:
        ValueError: it does not; names the field.
    """
    if not stack.embedding or stack.inputs != len(symbols) + 1:
        expected = f"{stack.inputs - 1} symbols" if stack.embedding else "for a network that embeds symbols"
        raise ValueError(f"{name} should be {expected}, as the model has, got {len(symbols)}")
    if list(symbols) != sorted(set(symbols)) or not all(symbols):
        raise ValueError(f"{name} should be in order, each symbol once, got {shown(symbols)}")


@dataclass(frozen=True, eq=False)
class Problem:
    """A task made ready to be trained on.

    Args:
        name: of the task, with its size if it comes in several: `"adding 100"`.
        train: what updates are made on.
        validation: what is shown after every epoch, and early stopping looks at. No sequence of it is in `train`. None: the
            training data are shown, and nothing stops early.
        test: what is scored. No sequence of it is in `train` or `validation`, but for `copying`, which has but 64 sequences.
        model: the network of a cell.
        recipe: how that is trained, with seed 0.
        score: the measures of the answers to the test sequences, by name. An answer is, by the model: scores of the classes
            `(outputs,)` of a sequence, numbers `(outputs,)` of a forecast, scores `(time, outputs)` of every step, or, of an
            encoder–decoder, the symbols that it wrote, without the end.
        baselines: the same measures, or some of them, of what the networks have to beat, by the baseline's name.
        lower_is_better: whether a measure is an error, by its name, for every measure.
        memory: see `rnn_common.networks.initial_weights`. Default 0.
        beam: how many beginnings an encoder–decoder keeps when it writes. Default 4.
        seeds: how many times a network is trained, from different weights. Default 1.
        published: what others report, by who. Default nothing.
        about: what is needed to use the network: alphabets, names of classes, scales; plain data. Default nothing.
    """

    name: str
    train: Sequences
    validation: Sequences | None
    test: Sequences
    model: Callable[[str], Model]
    recipe: Callable[[str], Recipe]
    score: Callable[[Sequence[Array]], Scores]
    baselines: Callable[[], Mapping[str, Scores]]
    lower_is_better: Mapping[str, bool]
    memory: int = 0
    beam: int = 4
    seeds: int = 1
    published: Mapping[str, Scores] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
