"""Equal pairs of layers: of every cell and form, in both frameworks, their own and ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import torch
from torch import nn

import rnn_tf
import rnn_torch
from rnn_common.copying import copy_weights

INPUT, HIDDEN = 5, 7
SIDES = ("torch.nn", "keras.layers", "rnn_torch", "rnn_tf")
CLASSES = {"SimpleRNN": "SimpleRNN", "LSTM": "LSTM", "GRU": "GRU", "GRU v3": "GRU"}


@dataclass(frozen=True)
class Pair:
    """Two layers of one cell with the same weights.

    Attributes:
        cell: `"SimpleRNN"`, `"LSTM"`, `"GRU"` or `"GRU v3"`.
        sides: whose the two are, of `SIDES`.
        directions, layers: 1 or 2.
        dtypes: of the two; weights are drawn in the first and rounded to the second.
        scale: of the weights, beside what keeps a state of order one.
        biases: `"two"`, or `"none"`, `"zero"`, `"one"`: what the second side has of two is in its input biases alone.
        activations: what stands for tanh and for σ.
        time: how many steps.
        seed: of all that is drawn.
    """

    cell: str
    sides: tuple[str, str]
    directions: int = 1
    layers: int = 1
    dtypes: tuple[str, str] = ("float32", "float32")
    scale: float = 1.0
    biases: str = "two"
    activations: tuple[str, str] = ("tanh", "sigmoid")
    time: int = 6
    seed: int = 0

    @property
    def exists(self) -> bool:
        """Whether both sides have such a layer."""
        return all(self._on(side) for side in self.sides)

    def _on(self, side: str) -> bool:
        usual = self.activations == ("tanh", "sigmoid")
        if side == "torch.nn":
            plain = self.cell == "SimpleRNN" and self.activations[0] in ("tanh", "relu")
            return self.cell != "GRU v3" and (usual or plain)
        return usual or side != "rnn_torch" or self.cell != "SimpleRNN" or self.activations[0] in ("tanh", "relu")

    def build(self) -> tuple[Any, Any]:
        a, b = (_layer(self, side, dtype) for side, dtype in zip(self.sides, self.dtypes, strict=True))
        random = np.random.default_rng(self.seed)
        fill(a, self, random)
        copy_weights(a, b)
        if self.biases == "one" and isinstance(b, nn.Module):
            _merge_biases(b, self.cell)
        return a, b

    @property
    def x(self) -> Any:
        """An input; None is the doctor's own."""
        if self.time == 6:
            return None
        return np.random.default_rng(self.seed + 1).uniform(-3, 3, (3, self.time, INPUT)).astype(np.float32)


def _layer(pair: Pair, side: str, dtype: str) -> Any:
    return _of_torch(pair, side, dtype) if "torch" in side else _of_keras(pair, side, dtype)


def _of_torch(pair: Pair, side: str, dtype: str) -> Any:
    name, options = CLASSES[pair.cell], {}
    if pair.cell == "SimpleRNN":
        options = {"nonlinearity": pair.activations[0]}
    elif side == "rnn_torch":
        options = {"activation": pair.activations[0], "recurrent_activation": pair.activations[1]}
    if pair.cell == "GRU v3":
        options["reset_after"] = False
    made = getattr(nn, name.removeprefix("Simple")) if side == "torch.nn" else getattr(rnn_torch, name)
    return made(
        INPUT,
        HIDDEN,
        pair.layers,
        bias=pair.biases != "none",
        batch_first=True,
        bidirectional=pair.directions == 2,
        dtype=getattr(torch, dtype),
        **options,
    )


def _of_keras(pair: Pair, side: str, dtype: str) -> Any:
    room = keras.layers if side == "keras.layers" else rnn_tf
    names = [rnn_tf.hard_sigmoid_keras2 if each == "hard_sigmoid_keras2" else each for each in pair.activations]
    options: dict[str, Any] = {
        "activation": names[0],
        "recurrent_initializer": "zeros",
    }  # the usual one knows no bfloat16
    if pair.cell != "SimpleRNN":
        options["recurrent_activation"] = names[1]
    if "GRU" in pair.cell:
        options["reset_after"] = pair.cell == "GRU"

    def layer(state: bool) -> Any:
        made = getattr(room, CLASSES[pair.cell])(
            HIDDEN, use_bias=pair.biases != "none", return_sequences=True, return_state=state, dtype=dtype, **options
        )
        return keras.layers.Bidirectional(made, dtype=dtype) if pair.directions == 2 else made

    if pair.layers == 1:
        made, width = layer(pair.seed % 2 == 0), INPUT
    else:
        made, width = keras.Sequential([layer(False) for _ in range(pair.layers)]), INPUT
    made.build((None, None, width))
    return made


def fill(layer: Any, pair: Pair, random: np.random.Generator) -> None:
    """Every weight drawn: of a spread that keeps a state of order one, times the scale, at most 7.7, as in trained nets."""
    weights = layer.parameters() if isinstance(layer, nn.Module) else layer.trainable_variables
    for each in weights:
        shape = tuple(each.shape)
        drawn = np.clip(random.normal(0, pair.scale / np.sqrt(HIDDEN), shape), -7.7, 7.7)
        if pair.biases == "zero" and _is_bias(each, layer):
            drawn = np.zeros(shape)
        put(each, drawn)


def _is_bias(weight: Any, layer: Any) -> bool:
    if isinstance(layer, nn.Module):
        return bool(weight.dim() == 1)
    return "bias" in weight.name


def put(weight: Any, array: Any) -> None:
    if isinstance(weight, torch.Tensor):
        with torch.no_grad():
            weight.copy_(torch.from_numpy(np.asarray(array)))
    else:
        weight.assign(array)


def _merge_biases(module: nn.Module, cell: str) -> None:
    """Both biases in the first of the two; of a GRU those that are only added, z and r."""
    with torch.no_grad():
        for name, theirs in module.named_parameters():
            if not name.startswith("bias_hh"):
                continue
            mine = dict(module.named_parameters())[name.replace("_hh", "_ih")]
            part = slice(None, 2 * HIDDEN) if cell == "GRU" else slice(None)
            mine[part] += theirs[part]
            theirs[part] = 0
