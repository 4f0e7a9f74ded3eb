"""Models that Hypothesis draws: of all that a file of either framework can say about recurrent layers."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.exchange.description import (
    LINEAR,
    NAMED,
    SOFTMAX,
    Activation,
    Dense,
    Direction,
    Embedding,
    Foreign,
    Found,
    Recurrent,
    default_activations,
)
from rnn_common.weights import initialise

SYMBOLS = 7
WAYS = {
    "forwards": (1, {}),
    "both ways": (2, {}),
    "backwards, in the order of the input": (1, {"backwards": True}),
    "backwards, in the order that it runs in": (1, {"backwards": True, "flipped": True}),
}
# Embeddings, and whether their symbol 0 is padding, which not every file says.
TABLES = {"embedding": False, "padding": True, "either": None}
MERGES = ("concat", "sum", "mul", "ave")
# Those that have a name, and two with numbers of their own.
ACTIVATIONS = [*NAMED.values(), Activation("leaky_relu", 0.3), Activation("hard_sigmoid", 0.25, 0.5)]
# What the layers of a network are called: as Keras does it, with what each framework forbids, and as PyTorch's stacks are.
NAMES = ("rnn_{}", "encoder.rnn, layer {}", "net/rnn_{}", "rnn, layer {}")
DTYPES = ("float16", "float32", "float64")


class Kind(NamedTuple):
    """What a recurrent layer is besides its name, its sizes and its numbers."""

    cell: str
    way: str
    merge: str
    bias: str
    activations: tuple[tuple[Activation, ...], ...]


@st.composite
def kinds(draw, plain):
    cell = draw(st.sampled_from(IN_BOTH if plain else list(CELLS)))
    way = draw(st.sampled_from(list(WAYS)[:2] if plain else list(WAYS)))
    bias = draw(st.sampled_from(("none", "one", "both")))
    count, usual = WAYS[way][0], default_activations(CELLS[cell])
    if plain:
        return Kind(cell, way, "concat", bias, (usual,) * count)
    merge = draw(st.sampled_from(MERGES)) if count == 2 else "concat"
    each = st.tuples(*[st.sampled_from(ACTIVATIONS)] * len(usual))
    alike = st.just(usual) | each
    return Kind(cell, way, merge, bias, draw(alike.map(lambda one: (one,) * count) | st.tuples(*[each] * count)))


def weights_of(cell, width, hidden, bias, seed, dtype):
    """So small that functions without bounds do not overflow; every recurrent bias by itself, or those that have to be."""
    found = dict(initialise(cell, width, hidden, bias=bias != "none", scale=0.25, seed=seed, dtype=dtype))
    random = np.random.default_rng(seed)
    recurrent = [f"b_h{gate}" for gate in CELLS[cell].gates] if bias == "both" else []
    return {name: random.uniform(-0.25, 0.25, hidden).astype(dtype) for name in recurrent} | found


def recurrent(kind, name, width, hidden, dtype, **options):
    count, way = WAYS[kind.way]
    weights = [weights_of(kind.cell, width, hidden, kind.bias, hidden + 10 * n, dtype) for n in range(count)]
    directions = tuple(map(Direction, weights, kind.activations))
    return Recurrent(name, CELLS[kind.cell], directions, "torch", merge=kind.merge, **way, **options)


def output_of(layer):
    return layer.hidden_size * (2 if len(layer.directions) == 2 and layer.merge == "concat" else 1)


@st.composite
def models(draw, plain=False):
    """One to three recurrent layers with what may stand before and behind them; of plain ones PyTorch's names say all."""
    names, dtype = draw(st.sampled_from(NAMES)), draw(st.sampled_from(DTYPES))
    random = np.random.default_rng(0)

    def dense(name, inputs, outputs, activations):
        b = random.uniform(-1, 1, outputs).astype(dtype) if draw(st.booleans()) else None
        W = random.uniform(-1, 1, (outputs, inputs)).astype(dtype)
        said = draw(st.booleans())
        return Dense(name, W, b, draw(st.sampled_from(activations)) if said else LINEAR, said=said)

    front, width = draw(st.sampled_from(("nothing", *TABLES, "dense"))), draw(st.integers(1, 4))
    masks = TABLES.get(front, False)
    layers = []
    if front in TABLES:
        layers.append(Embedding("embedding", random.uniform(-1, 1, (SYMBOLS, width)).astype(dtype), masks))
    if front == "dense":
        layers.append(dense("before", 3, width, ACTIVATIONS))
    count = draw(st.integers(1, 3))
    for n in range(1, count + 1):
        last = n == count and draw(st.booleans())
        options = {"returns_sequences": not last, "masks": masks}
        kind, hidden = draw(kinds(plain)), draw(st.integers(1, 4))
        layers.append(recurrent(kind, names.format(n), width, hidden, dtype, **options))
        width = output_of(layers[-1])
    for n in range(draw(st.integers(0, 2))):
        layers.append(dense(f"dense_{n}", width, n + 2, [*ACTIVATIONS, SOFTMAX]))
        width = n + 2
    if foreign := draw(st.sampled_from(("",) * 5 + ("Dropout", "Masking", "Conv1D"))):
        place = draw(st.integers(0, len(layers)))
        layers.insert(place, Foreign(foreign.lower(), foreign, changes=foreign == "Conv1D"))
    return Found(Path("generated.h5"), "generated", tuple(layers), draw(st.sampled_from((True, True, True, False))))
