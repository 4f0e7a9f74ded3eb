"""What was found in a file or a model, without a framework: recurrent layers, embeddings, dense layers, foreign ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnn_common.cells import Cell
from rnn_common.equations.arithmetic import sigmoid
from rnn_common.packings import merged
from rnn_common.weights import Parameters

Array = NDArray[Any]
Merge = Literal["concat", "sum", "mul", "ave"]


@dataclass(frozen=True)
class Activation:
    """An activation by what it computes, for versions of a framework have given one name to two functions.

    Args:
        name: among `FUNCTIONS`.
        slope, offset: of `"hard_sigmoid"`: max(0, min(1, slope · a + offset)); of `"leaky_relu"` and `"elu"` the slope, or
            the scale, below 0. Default 0.
    """

    name: str
    slope: float = 0.0
    offset: float = 0.0

    def __call__(self, a: Array) -> Array:
        return FUNCTIONS[self.name](a, self.slope, self.offset)

    def __str__(self) -> str:
        if self.name == "hard_sigmoid":
            return f"hard_sigmoid {self.slope:.4g}·a + {self.offset:.4g}"
        return self.name + (f" {self.slope:.4g}" if self.slope else "")


FUNCTIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "tanh": lambda a, *_: np.tanh(a),
    "sigmoid": lambda a, *_: sigmoid(a),
    "relu": lambda a, *_: np.maximum(a, 0),
    "linear": lambda a, *_: a,
    "hard_sigmoid": lambda a, slope, offset: np.clip(slope * a + offset, 0, 1),
    "leaky_relu": lambda a, slope, _: np.where(a < 0, slope * a, a),
    "elu": lambda a, scale, _: np.where(a < 0, scale * np.expm1(np.minimum(a, 0)), a),
    "softsign": lambda a, *_: a / (1 + np.abs(a)),
    "softplus": lambda a, *_: np.logaddexp(a, 0),
    "softmax": lambda a, *_: (
        np.exp(a - a.max(-1, keepdims=True)) / np.exp(a - a.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
}
TANH, SIGMOID, LINEAR, SOFTMAX = (Activation(name) for name in ("tanh", "sigmoid", "linear", "softmax"))
# Keras's before version 3, of TensorFlow's Keras too; and Keras's from 3 on, which is PyTorch's.
HARD_SIGMOID_KERAS_2 = Activation("hard_sigmoid", 0.2, 0.5)
HARD_SIGMOID = Activation("hard_sigmoid", 1 / 6, 0.5)
# What an LSTM or a GRU of either twin takes by name, with Keras's slopes.
NAMED: dict[str, Activation] = {
    **{name: Activation(name) for name in ("tanh", "sigmoid", "relu", "linear")},
    "hard_sigmoid": HARD_SIGMOID,
    "hard_sigmoid_keras2": HARD_SIGMOID_KERAS_2,
    **{name: Activation(name) for name in ("softsign", "softplus")},
    "elu": Activation("elu", 1.0),
    "leaky_relu": Activation("leaky_relu", 0.2),
}


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction of a recurrent layer.

    Attributes:
        weights: by the document's names, both biases apart where the packing has both: `b_i` and `b_hi`. None has 0.
        activations: those of the cell, in its order: of an LSTM or a GRU what stands for tanh, then for σ; of an LSTM a third
            where the tanh of c_t is another.
    """

    weights: Mapping[str, Array]
    activations: tuple[Activation, ...]


@dataclass(frozen=True, eq=False)
class Recurrent:
    """A recurrent layer.

    Attributes:
        name: of the layer in the file: `"bidirectional_1"`, `"encoder.lstm, layer 2"`.
        cell: which cell it is.
        directions: one, or forward and backward.
        packing: how the file had the weights: `"torch"`, `"keras"`, `"keras 1"`, `"cudnn"`, `"onnx"`, `"tf1"`; `"single gates"`,
            an array each; `"by name"`, of a cell of the user's own.
        backwards: of a single direction, whether it runs from the last step to the first. Default False.
        flipped: whether outputs that ran backwards stand in the order in which they were computed, as Keras's
            `go_backwards` leaves them: the whole axis of time from its end, padding first. Default False.
        merge: how two directions become one output. Default `"concat"`.
        returns_sequences: whether every step's output is handed on, or the last; None where the file does not say.
        masks: whether steps can be skipped; None where the file does not say.
        arrays: the names of the arrays that it was read from.
        notes: what the file does not say, and what was assumed, in sentences.
    """

    name: str
    cell: Cell
    directions: tuple[Direction, ...]
    packing: str
    backwards: bool = False
    flipped: bool = False
    merge: Merge = "concat"
    returns_sequences: bool | None = None
    masks: bool | None = None
    arrays: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def parameters(self, direction: int = 0, dtype: DTypeLike = np.float64) -> Parameters:
        """The weights of a direction with biases that are added as one: the function is the same.

        Args:
            direction: 0 (default), or 1 of two.
            dtype: of the weights, in which biases are added: a file in half precision is not run in it. Default float64.
        """
        weights = {name: array.astype(dtype) for name, array in self.directions[direction].weights.items()}
        return Parameters(self.cell, merged(self.cell, weights))

    @property
    def input_size(self) -> int:
        return int(self.directions[0].weights[self.cell.input_matrices[0]].shape[1])

    @property
    def hidden_size(self) -> int:
        return int(self.directions[0].weights[self.cell.input_matrices[0]].shape[0])

    @property
    def bias(self) -> bool:
        return any(name in self.directions[0].weights for name in self.cell.biases)

    @property
    def activations(self) -> tuple[Activation, ...]:
        """Those of the first direction."""
        return self.directions[0].activations


@dataclass(frozen=True, eq=False)
class Embedding:
    """A table of vectors: row i is symbol i's.

    Attributes:
        name: of the layer in the file.
        E: `(symbols, width)`.
        masks: whether symbol 0 is padding, whose steps are skipped; None where the file does not say. Default False.
        arrays: the names of the arrays that it was read from.
    """

    name: str
    E: Array
    masks: bool | None = False
    arrays: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dense:
    """activation(W x + b).

    Attributes:
        name: of the layer in the file.
        W: `(outputs, inputs)`.
        b: `(outputs,)`, or None.
        activation: default the identity.
        arrays: the names of the arrays that it was read from.
        said: whether the file says the activation; where it does not the identity is taken. Default True.
    """

    name: str
    W: Array
    b: Array | None
    activation: Activation = LINEAR
    arrays: tuple[str, ...] = ()
    said: bool = True


@dataclass(frozen=True)
class Foreign:
    """What is none of these.

    Attributes:
        name: of the layer, or of what its arrays' names begin with.
        kind: what the file calls it: `"Conv1D"`; or its arrays' shapes in words.
        changes: whether the numbers that go through it are others behind it: False of dropout out of training, an input,
            a flattening of what is flat. Default True.
        arrays: the names of its arrays.
    """

    name: str
    kind: str
    changes: bool = True
    arrays: tuple[str, ...] = ()


Layer = Recurrent | Embedding | Dense | Foreign


@dataclass(frozen=True, eq=False)
class Optimiser:
    """An optimiser, and what it remembers of its updates.

    Attributes:
        name: `"adam"` or `"sgd"`.
        settings: `learning_rate`; of Adam `beta_1`, `beta_2` and `epsilon`, as the framework that wrote them means it; of SGD
            `momentum` and `nesterov`.
        updates: how many it has done; None where the file does not say.
        moments: of Adam `"m"` and `"v"`, of SGD with momentum `"velocity"` v, where w ← w + v: each the file's layers in their
            order, with the moment of every weight in its place. Empty before the first update.
        notes: what is another thing in the other framework, in sentences.
    """

    name: str
    settings: Mapping[str, float]
    updates: int | None
    moments: Mapping[str, tuple[Layer, ...]]
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        words = [{"adam": "Adam", "sgd": "SGD"}[self.name]]
        for name, value in self.settings.items():
            if name != "nesterov":
                words.append(f"{name.replace('_', ' ')} {value:.6g}")
            elif value:
                words.append(name)
        if self.updates is not None:
            words.append(f"after {self.updates:,} updates")
        return ", ".join([*words, f"with {' and '.join(self.moments) or 'no moments'}"])


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in a file.

    Attributes:
        path: of the file.
        format: in words, with the version that wrote it: see `Contents`.
        layers: in the network's order where the file says it, else in the file's.
        chain: whether the file says that each layer reads what the one before it gives. Default False.
        notes: what holds of the whole file, in sentences.
        optimiser: with which the network was trained, where the file holds it and it can be told which moment is of which
            weight. Default None.
    """

    path: Path
    format: str
    layers: tuple[Layer, ...]
    chain: bool = False
    notes: tuple[str, ...] = field(default=())
    optimiser: Optimiser | None = None

    @property
    def recurrent(self) -> tuple[Recurrent, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, Recurrent))

    @property
    def ours(self) -> tuple[Recurrent | Embedding | Dense, ...]:
        """All that is not foreign."""
        return tuple(layer for layer in self.layers if not isinstance(layer, Foreign))

    @property
    def in_the_way(self) -> tuple[Foreign, ...]:
        """What a network without it would not compute the same: a layer that says which steps are skipped is among it."""
        foreign = (layer for layer in self.layers if isinstance(layer, Foreign))
        return tuple(layer for layer in foreign if layer.changes or layer.kind == "Masking")

    @property
    def is_network(self) -> bool:
        """Whether what is ours is a whole network, each layer reading what the one before it gives: a single layer is."""
        return not self.in_the_way and (self.chain or len(self.ours) == 1)

    def by_name(self, forbidden: str) -> dict[str, Recurrent | Embedding | Dense]:
        """What is ours by names of their own, without the characters that a framework forbids in one.

        Raises:
            ValueError: two would have one name.
        """
        named: dict[str, Recurrent | Embedding | Dense] = {}
        for layer in self.ours:
            name = "".join("_" if each in forbidden else each for each in layer.name) or "layer"
            if name in named:
                raise ValueError(f"layers should have names of their own, got {named[name].name} and {layer.name}")
            named[name] = layer
        return named

    def only(self, prefix: str) -> Found:
        """The layer that is called so, or all whose names begin so.

        Raises:
            ValueError: there are none.
        """
        named = tuple(layer for layer in self.layers if layer.name == prefix)
        layers = named or tuple(layer for layer in self.layers if layer.name.startswith(prefix))
        if not any(isinstance(layer, Recurrent) for layer in layers):
            names = ", ".join(layer.name for layer in self.recurrent) or "none"
            raise ValueError(
                f"only should begin the name of a recurrent layer of {self.path.name} ({names}), got {prefix}"
            )
        places = [place for place, layer in enumerate(self.layers) if layer in layers]
        in_one = places == list(range(places[0], places[-1] + 1))
        optimiser = self.optimiser and replace(
            self.optimiser,
            moments={name: tuple(moment[place] for place in places) for name, moment in self.optimiser.moments.items()},
        )
        return replace(self, layers=layers, chain=self.chain and in_one, optimiser=optimiser)


def default_activations(cell: Cell) -> tuple[Activation, ...]:
    """What the document's equations have."""
    return tuple(Activation(name) for name in cell.activations)
