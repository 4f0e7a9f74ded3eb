"""What may stand for tanh and for σ in an LSTM or a GRU: functions by name, by what they compute, and of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rnn_common.exchange import description
from rnn_common.exchange.description import NAMED
from rnn_common.reader import shown

Activation = Callable[[Tensor], Tensor]


def hard_sigmoid_keras2(x: Tensor) -> Tensor:
    """max(0, min(1, 0.2 x + 0.5)), Keras's hard_sigmoid before version 3; since then it is PyTorch's, relu6(x + 3) / 6.

    Args:
        x: of any shape.
    """
    return torch.clamp(0.2 * x + 0.5, 0, 1)


def linear(x: Tensor) -> Tensor:
    return x


def hard_sigmoid(x: Tensor) -> Tensor:
    """In operations whose derivatives are exact: that of PyTorch's own has 1/6 in float32."""
    return functional.relu6(x + 3) / 6


def softplus(x: Tensor) -> Tensor:
    """ln(1 + eˣ). PyTorch's returns x from 20 on, where float64 still tells the two apart."""
    return functional.softplus(x, threshold=40.0)


def leaky_relu(x: Tensor) -> Tensor:
    """With Keras's slope; PyTorch's is 0.01."""
    return functional.leaky_relu(x, NAMED["leaky_relu"].slope)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": linear,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_keras2": hard_sigmoid_keras2,
    "softsign": functional.softsign,
    "softplus": softplus,
    "elu": functional.elu,
    "leaky_relu": leaky_relu,
}
# The same functions in another of PyTorch's rooms.
ALIASES: dict[str, Activation] = {
    "tanh": functional.tanh,
    "sigmoid": functional.sigmoid,
    "relu": functional.relu,
    "hard_sigmoid": functional.hardsigmoid,
}

# Of the functions by what they compute, those with a slope or an offset of their own.
SLOPED: dict[str, Callable[..., Tensor]] = {
    "hard_sigmoid": lambda x, slope, offset: torch.clamp(slope * x + offset, 0, 1),
    "leaky_relu": lambda x, slope, offset: functional.leaky_relu(x, slope),
    "elu": lambda x, slope, offset: functional.elu(x, slope),
}


def accepted(argument: str, given: Any) -> Any:
    """What a layer keeps of an activation: its name where it has one, else the description or the function itself.

    Raises:
        ValueError: it is none; names the argument, what is accepted and what came.
    """
    if isinstance(given, str) and given in ACTIVATIONS:
        return given
    if isinstance(given, description.Activation):
        if named := [name for name, computed in NAMED.items() if computed == given]:
            return named[0]
        if given.name in SLOPED:
            return given
    elif callable(given) and not isinstance(given, type):
        return name_of(given) or next((name for name, each in ALIASES.items() if each is given), given)
    raise ValueError(
        f"{argument} should be one of {', '.join(ACTIVATIONS)}, or a function of a tensor, got {shown(given)}"
    )


def name_of(function: Any) -> str:
    """The name of a function in `ACTIVATIONS`, or none. By identity: a user's need not have a hash, or an equality."""
    for name, each in ACTIVATIONS.items():
        if each is function:
            return name
    return ""


def described(kept: Any) -> Any:
    """An activation by what it computes, the same in both frameworks; a function of the user's own as it is."""
    return NAMED.get(kept if isinstance(kept, str) else name_of(kept), kept)


def function_of(kept: Any) -> Activation:
    """The function that a layer's activation is."""
    if isinstance(kept, str):
        return ACTIVATIONS[kept]
    if isinstance(kept, description.Activation):
        return partial(SLOPED[kept.name], slope=kept.slope, offset=kept.offset)
    return kept


class Gated:
    """What LSTMs and GRUs share, layers and cells: what stands for tanh and for σ."""

    activation: Any
    recurrent_activation: Any

    def _set_activations(self, activation: Any, recurrent_activation: Any) -> None:
        self.activation = accepted("activation", activation)
        self.recurrent_activation = accepted("recurrent_activation", recurrent_activation)

    def _activations(self) -> tuple[Activation, ...]:
        return function_of(self.activation), function_of(self.recurrent_activation)


def others(holder: Any) -> dict[str, str]:
    """The activations of a layer or cell that are not the default ones, in words by argument; `nn` has none of them."""
    if not isinstance(holder, Gated):
        return {}
    given = {"activation": holder.activation, "recurrent_activation": holder.recurrent_activation}
    defaults = zip(given.items(), ("tanh", "sigmoid"), strict=True)
    return {name: _words(kept) for (name, kept), default in defaults if not (isinstance(kept, str) and kept == default)}


def _words(kept: Any) -> str:
    if isinstance(kept, (str, description.Activation)):
        return str(kept)
    return str(getattr(kept, "__qualname__", type(kept).__name__))
