"""A small network in both frameworks, symbols to classes, and what is done wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[Any]
SYMBOLS, WIDTH, CLASSES = 9, 4, 3


def weights(directions: int = 2, layers: int = 1, seed: int = 0) -> dict[str, Array]:
    """Those of a torch `Network`, by its names."""
    random = np.random.default_rng(seed)
    network = Network(directions, layers)
    return {
        name: random.uniform(-0.8, 0.8, tuple(each.shape)).astype("f") for name, each in network.state_dict().items()
    }


class Network(nn.Module):
    """Embedding, LSTM layers, a dense layer on what `reads` makes of the last one's outputs."""

    def __init__(self, directions: int = 2, layers: int = 1, reads: str = "last", activation: str = "softmax") -> None:
        super().__init__()
        self.reads, self.activation = reads, activation
        self.embedding = nn.Embedding(SYMBOLS, WIDTH)
        self.layers = nn.ModuleList(
            nn.LSTM(WIDTH, WIDTH, batch_first=True, bidirectional=directions == 2) for _ in range(layers)
        )
        self.dense = nn.Linear(WIDTH * directions, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.embedding(x)
        for layer in self.layers:
            y, (h_n, _) = layer(y)
        if self.reads == "last":
            y = torch.cat(list(h_n), -1)
        elif self.reads == "mean":
            y = y.mean(1)
        else:
            y = y[:, int(self.reads)]
        y = self.dense(y)
        return y.softmax(-1) if self.activation == "softmax" else y


def in_torch(arrays: Mapping[str, Array], layers: int = 1, **options: Any) -> Network:
    directions = 1 + ("layers.0.weight_ih_l0_reverse" in arrays)
    network = Network(directions, layers, **options)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return network


def in_keras(arrays: Mapping[str, Array], layers: int = 1, activation: str = "softmax") -> Any:
    tails = ["", "_reverse"] if "layers.0.weight_ih_l0_reverse" in arrays else [""]
    stack = []
    for n in range(layers):
        layer = keras.layers.LSTM(WIDTH, return_sequences=n < layers - 1)
        stack.append(keras.layers.Bidirectional(layer) if len(tails) == 2 else layer)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(SYMBOLS, WIDTH),
            *stack,
            keras.layers.Dense(CLASSES, activation),
        ]
    )
    found = [arrays["embedding.weight"]]
    for n in range(layers):
        for tail in tails:
            w_ih, w_hh, b_ih, b_hh = (
                arrays[f"layers.{n}.{name}_l0{tail}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            found += [w_ih.T, w_hh.T, b_ih + b_hh]
    model.set_weights([*found, arrays["dense.weight"].T, arrays["dense.bias"]])
    return model


@dataclass(frozen=True)
class Wrong:
    """What is done wrong with a network.

    Attributes:
        name: what, in few words.
        says: a pattern that a cause's name, or of different weights a note, has.
        arrays: what is done to the weights.
        reads, activation: of the wrong network; it is PyTorch's where `reads` is not the last output.
        undone: a pattern that it may have instead where `a` is wrong.
        directions, layers: of the network.
        verdict: what the report says. Default "explained".
    """

    name: str
    says: str
    arrays: Any = dict
    options: Mapping[str, str] = field(default_factory=dict)
    undone: str = "(?!)"
    directions: int = 2
    layers: int = 1
    verdict: str = "explained"

    def pair(self, framework: str) -> tuple[Any, Any]:
        """The right network, and the wrong one of that framework."""
        arrays = weights(self.directions, self.layers)
        makes: dict[str, Any] = {"torch": in_torch, "tf": in_keras}
        other = {"torch": "tf", "tf": "torch"}[framework]
        return makes[other](arrays, self.layers), makes[framework](self.arrays(arrays), self.layers, **self.options)


def changed(name: str, change: Any) -> Any:
    return lambda arrays: {**arrays, name: change(arrays[name])}


def other_order(arrays: Mapping[str, Array]) -> dict[str, Array]:
    swap = {"layers.0": "layers.1", "layers.1": "layers.0"}
    return {swap.get(name[:8], name[:8]) + name[8:]: array for name, array in arrays.items()}


def shifted(E: Array) -> Array:
    return np.concatenate([E[-1:], E[:-1]])


WRONG = [
    Wrong("rows shifted", "row is the symbol's before", changed("embedding.weight", shifted), undone="the next symbol's"),
    Wrong("row 0 zeroed", "row 0 is zeros", changed("embedding.weight", lambda E: np.concatenate([0 * E[:1], E[1:]]))),
    Wrong("dense bias lost", "no bias", changed("dense.bias", np.zeros_like)),
    Wrong("activation in the loss", "activation linear, not softmax|every output handed on, not softmax",
          options={"activation": "linear"}, undone="softmax"),
    Wrong("outputs[:, -1]", r"outputs\[:, -1\], the backward half's first step handed on", options={"reads": "-1"},
          undone=r"the last output handed on, not outputs\[:, -1\]"),
    Wrong("first output", "at the first step", options={"reads": "0"}, undone="the last output handed on", directions=1),
    Wrong("mean for last", "the mean of the outputs", options={"reads": "mean"}, undone="the last output handed on"),
    Wrong("layers in other order", "in another order", other_order, directions=1, layers=2, verdict="different weights"),
]  # fmt: skip
