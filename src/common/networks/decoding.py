"""Writing with a trained network, a symbol at a time: greedily, by beam search, or at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_common.checks import at_least
from rnn_common.tasks.metrics import log_probabilities
from rnn_common.twins import NetworkState

Array = NDArray[Any]
Step = Callable[[Array, NetworkState | None], tuple[Array, NetworkState]]


def beam_search(
    step: Step, state: NetworkState, *, width: int = 1, longest: int = 50, end: int = 0
) -> list[NDArray[np.int64]]:
    """The most probable sequence found for each row of a state, by keeping the best few beginnings (Graves 2012, 1211.3711).

    Args:
        step: one step of a decoder: symbols `(rows,)` and a state to scores `(rows, symbols)` and the next state.
        state: the first one, of each layer `(h,)` or `(h, c)`, each `(batch, width of h)`.
        width: how many beginnings are kept; 1, the default, is greedy.
        longest: how many symbols are written at most. Default 50.
        end: the symbol that begins and ends a sequence. Default 0.

    Returns:
        A sequence a row, without the end.

    Raises:
        ValueError: a number below 1.
    """
    at_least("width", width, 1)
    at_least("longest", longest, 1)
    batch = len(state[0][0])
    # Row r·width + k is the k-th best beginning of sequence r; at first they are all the same, so only one counts.
    state = [tuple(np.repeat(h, width, 0) for h in layer) for layer in state]
    total = np.tile([0.0] + [-np.inf] * (width - 1), (batch, 1))
    ended = np.zeros((batch, width), bool)
    written = np.zeros((batch, width, 0), np.int64)
    symbols = np.full(batch * width, end, np.int64)
    for _ in range(longest):
        scores, state = step(symbols, state)
        log_p = log_probabilities(scores).reshape(batch, width, -1)
        # An ended sequence goes on with nothing but more ends, at no cost.
        log_p = np.where(ended[:, :, None], np.where(np.arange(log_p.shape[2]) == end, 0.0, -np.inf), log_p)
        candidates = (total[:, :, None] + log_p).reshape(batch, -1)
        best = np.argsort(-candidates, axis=1, kind="stable")[:, :width]
        total = np.take_along_axis(candidates, best, 1)
        origin, chosen = np.divmod(best, log_p.shape[2])
        written = np.concatenate([np.take_along_axis(written, origin[:, :, None], 1), chosen[:, :, None]], 2)
        ended = np.take_along_axis(ended, origin, 1) | (chosen == end)
        if ended[:, 0].all():  # what follows can only cost more
            break
        rows = (np.arange(batch)[:, None] * width + origin).reshape(-1)
        state = [tuple(h[rows] for h in layer) for layer in state]
        symbols = chosen.reshape(-1)
    return [sequence[: np.append(np.flatnonzero(sequence == end), len(sequence))[0]] for sequence in written[:, 0]]


def sample(
    step: Step, prompt: Sequence[int], *, length: int = 200, temperature: float = 1.0, seed: int = 0
) -> NDArray[np.int64]:
    """Go on from a prompt, each next symbol drawn from the network's distribution.

    Args:
        step: as for `beam_search`.
        prompt: symbols to read first, at least one.
        length: how many symbols to write, at least 1. Default 200.
        temperature: the scores are divided by it: below 1 the likely becomes likelier; 0 takes the likeliest. Default 1.
        seed: default 0.

    Returns:
        The symbols written, `(length,)`, without the prompt.

    Raises:
        ValueError: an empty prompt or a number out of range.
    """
    if not len(prompt):
        raise ValueError("prompt should hold at least one symbol, got none")
    at_least("length", length, 1)
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature should be at least 0, got {temperature}")
    random = np.random.default_rng(seed)
    state: NetworkState | None = None
    for symbol in prompt:
        scores, state = step(np.array([symbol]), state)
    written = []
    for _ in range(length):
        if temperature:
            with np.errstate(over="ignore"):  # next to 0 what is not the likeliest is infinitely unlikely
                p = np.exp(log_probabilities((scores[0] - scores[0].max()) / temperature))
            written.append(int(random.choice(len(p), p=p / p.sum())))
        else:
            written.append(int(scores[0].argmax()))
        scores, state = step(np.array([written[-1]]), state)
    return np.array(written)
