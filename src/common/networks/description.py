"""Networks described once, as plain data; each twin builds them from its framework's parts and our layers.

A network turns symbols into vectors, or takes features as they are, runs recurrent layers over them, in one direction or
both, and reads off y_t = W_hy h_t + b_y (document, "Output layer"). Its weights are arrays under the document's names, whatever
the framework:

    E                           (symbols, embedding): a row a symbol
    layer1/forward/W_ii …       a recurrent layer and direction, named by `rnn_common.weights`
    layer1/backward/W_ii …
    W_hy, b_y                   (outputs, width of h), (outputs,)

An encoder–decoder's begin with `encoder/` and `decoder/`. Every name is one parameter that is trained: where a packing adds
two biases, the second stays 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from rnn_common.cells import CELLS
from rnn_common.checks import one_of, whole
from rnn_common.reader import checked, number, record, shown

Head = Literal["sequence", "steps", "forecast"]
HEADS: tuple[Head, ...] = ("sequence", "steps", "forecast")
DEEPEST = 1000
Array = NDArray[Any]
Weights = dict[str, Array]


@dataclass(frozen=True)
class Stack:
    """Recurrent layers on one another, over symbols or features.

    Args:
        cell: the name of a cell in `rnn_common.cells.CELLS`.
        inputs: features a step or, with `embedding`, how many symbols there are.
        hidden: width of h_t in each direction.
        embedding: width of a symbol's vector; 0, the default, where steps are features.
        layers: how many, at most 1,000. Default 1.
        bidirectional: whether each layer runs in both directions, its outputs side by side. Default False.
        dropout: share of a layer's outputs that is dropped in training before they go on. Default 0.

    Raises:
        ValueError: an unknown cell or a number out of range.
    """

    cell: str
    inputs: int
    hidden: int
    embedding: int = 0
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        one_of("cell", self.cell, list(CELLS))
        for name, least in (("inputs", 1), ("hidden", 1), ("embedding", 0), ("layers", 1)):
            whole(name, getattr(self, name), least)
        if self.layers > DEEPEST:
            raise ValueError(f"layers should be at most {DEEPEST}, got {shown(self.layers)}")
        if not 0 <= number("dropout", self.dropout) < 1:
            raise ValueError(f"dropout should be at least 0 and below 1, got {self.dropout}")

    @property
    def directions(self) -> tuple[str, ...]:
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @property
    def width(self) -> int:
        """Of the outputs: directions · hidden."""
        return len(self.directions) * self.hidden

    def input_size(self, layer: int) -> int:
        """Of a layer's inputs; layers are counted from 1."""
        return (self.embedding or self.inputs) if layer == 1 else self.width

    def recurrent(self) -> Iterator[tuple[str, int]]:
        """The prefix of each layer and direction's weights, and the width of its inputs."""
        for layer in range(1, self.layers + 1):
            for direction in self.directions:
                yield f"layer{layer}/{direction}/", self.input_size(layer)


@dataclass(frozen=True)
class Network:
    """A stack and y_t = W_hy h_t + b_y.

    Args:
        stack: the layers.
        outputs: width of y_t.
        head: `"sequence"`: one y, from the state after each sequence's last step (in both directions), scores of classes;
            `"steps"`: scores of classes at every step; `"forecast"`: one y of numbers, as `"sequence"`. Training minimises
            the cross-entropy in nats, or the mean squared error of a forecast, a mean over all targets of a batch.

    Raises:
        ValueError: an unknown head or a number out of range.
    """

    stack: Stack
    outputs: int
    head: Head

    def __post_init__(self) -> None:
        one_of("head", self.head, HEADS)
        whole("outputs", self.outputs, 1)

    def stacks(self) -> dict[str, Stack]:
        """The stacks by the prefix of their weights."""
        return {"": self.stack}

    @property
    def output_width(self) -> int:
        """Width of the h_t that the output layer reads."""
        return self.stack.width


@dataclass(frozen=True)
class EncoderDecoder:
    """One sequence of symbols into another (Sutskever, Vinyals & Le 2014, arXiv 1409.3215; Cho et al. 2014, 1406.1078).

    The encoder's final state, its directions side by side, is the decoder's first. The decoder reads the symbol before, 0 at
    the start, and scores the next; symbol 0 also ends a sequence.

    Args:
        encoder: over the source's symbols.
        decoder: over the target's, in one direction, as many layers deep, as wide as the encoder's outputs.

    Raises:
        ValueError: the two do not fit.
    """

    encoder: Stack
    decoder: Stack

    def __post_init__(self) -> None:
        if not (self.encoder.embedding and self.decoder.embedding):
            raise ValueError("encoder and decoder should embed symbols, got embedding=0")
        encoder, decoder = (CELLS[stack.cell].layer_class for stack in (self.encoder, self.decoder))
        expected = (encoder, self.encoder.layers, self.encoder.width, False)
        got = (decoder, self.decoder.layers, self.decoder.hidden, self.decoder.bidirectional)
        if got != expected:
            raise ValueError(f"decoder should be of cell, layers, hidden, bidirectional {expected}, got {got}")

    def stacks(self) -> dict[str, Stack]:
        """The stacks by the prefix of their weights."""
        return {"encoder/": self.encoder, "decoder/": self.decoder}

    @property
    def head(self) -> Head:
        return "steps"

    @property
    def outputs(self) -> int:
        return self.decoder.inputs

    @property
    def output_width(self) -> int:
        """Width of the h_t that the output layer reads."""
        return self.decoder.width


Model = Network | EncoderDecoder


def to_dict(model: Model) -> dict[str, Any]:
    """A model as plain data, for JSON."""
    return {"kind": type(model).__name__, **asdict(model)}


def from_dict(data: Mapping[str, Any]) -> Model:
    """A model from what `to_dict` gave.

    Raises:
        ValueError: it describes no model; names the field.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"model should be a mapping, got {shown(data)}")
    kind = checked("model.kind", data.get("kind"), Literal["Network", "EncoderDecoder"])
    fields = {name: value for name, value in data.items() if name != "kind"}
    return record(EncoderDecoder, fields, "model") if kind == "EncoderDecoder" else record(Network, fields, "model")
