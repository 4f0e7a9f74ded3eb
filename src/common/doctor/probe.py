"""What two sides are asked: a probe in which as much as possible shows.

Batch, time and sizes are unlike each other, so that exchanged axes show; there are several steps, inputs up to 3, which bend
the activations, states that are not zero, and sequences of two lengths.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from rnn_common.doctor.calls import Call
from rnn_common.doctor.sides import Side
from rnn_common.equations import check_lengths
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Embedding, Layer, Recurrent
from rnn_common.exchange.proof import LARGEST

TIME = 6


def calls(a: Side, b: Side, x: Array | None = None, lengths: Array | None = None, seed: int = 0) -> list[Call]:
    """What both sides are asked: all steps of every sequence and, where both heed lengths, two lengths.

    Args:
        a, b: the sides.
        x: `(batch, time, input)`, or symbols `(batch, time)`. Default drawn.
        lengths: `(batch,)`. Default two lengths.
        seed: of what is drawn. Default 0.

    Raises:
        ValueError: neither side says what it reads, and no `x` is given; or `lengths` are given and a side heeds none.
    """
    random = np.random.default_rng(seed)
    layers = a.layers or b.layers
    if x is None:
        if not layers:
            raise ValueError("x should be given where neither side says what it is, got None")
        x = _drawn(layers, random)
    x = _checked(np.asarray(x), a, b)
    heeded = a.takes_lengths and b.takes_lengths
    if lengths is not None and not heeded:
        raise ValueError(f"lengths should be given to sides that heed them, got them for {a.name} and {b.name}")
    state = None
    if a.takes_state and b.takes_state and _of_one_state(a, b):
        first, batch = cast(Recurrent, layers[0]), len(x)
        state = tuple(
            tuple(random.uniform(-1, 1, (batch, first.hidden_size)) for _ in first.cell.states)
            for _ in first.directions
        )
    whole = Call(x, state)
    if not heeded or x.shape[1] < 2:
        return [whole]
    return [whole, whole._replace(lengths=_two_lengths(x) if lengths is None else check_lengths(lengths, *x.shape[:2]))]


def _checked(x: Array, a: Side, b: Side) -> Array:
    """What both sides can be given: of a layer by itself the right axes and width.

    Raises:
        TypeError: it holds no numbers, or integers for a layer.
        ValueError: it is empty, not finite, or of the wrong axes or width for a layer; or the two do not read the same.
    """
    if x.dtype.kind not in "fiu":
        raise TypeError(f"x should hold floating-point numbers or symbols, got {x.dtype}")
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x should be (batch, time, ...) and not empty, got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("x should be finite, got NaN or infinity")
    for each in (a, b):
        first = each.layers[0] if each.layers else None
        if isinstance(first, Embedding):
            if x.dtype.kind not in "iu":
                raise TypeError(f"x should hold symbols, which are integers, for {each.name}, got {x.dtype}")
            if x.min() < 0 or x.max() >= len(first.E):
                raise ValueError(
                    f"x should hold symbols from 0 to {len(first.E) - 1} for {each.name}, got {x.min()} to {x.max()}"
                )
            if first.masks and not (x != 0).any(1).all():
                raise ValueError(
                    f"x should have other symbols than 0, which {each.name} skips, in every sequence, got one of 0 alone"
                )
        if isinstance(first, Recurrent) and each.steps is None:
            if x.dtype.kind != "f":
                raise TypeError(f"x should hold floating-point numbers for {each.name}, got {x.dtype}")
            if x.ndim != 3 or x.shape[2] != first.input_size:
                raise ValueError(f"x should be (batch, time, {first.input_size}) for {each.name}, got {x.shape}")
    return x


def _of_one_state(a: Side, b: Side) -> bool:
    """Whether the state of one layer is that of the other, as far as they are known."""
    firsts = [each.layers[0] for each in (a, b) if each.layers]
    states = [
        (each.cell.states, each.hidden_size, len(each.directions)) for each in firsts if isinstance(each, Recurrent)
    ]
    return len(states) == len(firsts) > 0 and len(set(states)) == 1


def _two_lengths(x: Array) -> Array:
    lengths = np.full(len(x), x.shape[1])
    lengths[1::2] = max(1, x.shape[1] - 2)
    return lengths if len(x) > 1 else lengths - 1


def _drawn(layers: tuple[Layer, ...], random: np.random.Generator) -> Array:
    """An input of a batch and a time that are unlike each other and every size."""
    sizes = {size for layer in layers for size in _sizes(layer)}
    batch = next(size for size in range(3, 99) if size not in sizes)
    time = next(size for size in range(TIME, 99) if size not in sizes | {batch})
    first = layers[0]
    if isinstance(first, Embedding):
        return random.integers(0, len(first.E), (batch, time))
    return random.uniform(-LARGEST, LARGEST, (batch, time, _sizes(first)[0])).astype(np.float32)


def _sizes(layer: Layer) -> tuple[int, ...]:
    if isinstance(layer, Recurrent):
        return layer.input_size, layer.hidden_size, 2 * layer.hidden_size
    if isinstance(layer, Embedding):
        return layer.E.shape
    return layer.W.shape[::-1] if isinstance(layer, Dense) else ()
