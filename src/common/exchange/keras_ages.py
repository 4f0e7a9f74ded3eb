"""What Keras takes where a file says nothing, and what its names mean: both depend on the version that wrote the file.

| | Keras 1, 2.0 – 2.2, TensorFlow 1's | Keras 2.3 | TensorFlow 2's | Keras 3 |
| --- | --- | --- | --- | --- |
| `recurrent_activation` by default | hard_sigmoid | sigmoid | sigmoid | sigmoid |
| `hard_sigmoid` | 0.2 a + 0.5 | 0.2 a + 0.5 | 0.2 a + 0.5 | a/6 + 0.5 |
| a GRU's `reset_after` by default | False | False | True | True |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rnn_common.exchange.contents import Contents
from rnn_common.exchange.description import HARD_SIGMOID, HARD_SIGMOID_KERAS_2, LINEAR, SIGMOID, Activation
from rnn_common.reader import number, shown

PLAIN = ("tanh", "sigmoid", "relu", "linear", "softsign", "softplus", "softmax")
# Functions that are known by the name under which `rnn_tf` registers them.
REGISTERED = {"rnn_tf>hard_sigmoid_keras2": HARD_SIGMOID_KERAS_2}
# Layers that are an activation, and the argument that is its slope, with the older name and the default.
SLOPES = {"LeakyReLU": ("leaky_relu", ("negative_slope", "alpha"), 0.3), "ELU": ("elu", ("alpha",), 1.0)}


@dataclass(frozen=True)
class Age:
    """The Keras that wrote a file.

    Attributes:
        version: as numbers: `(2, 1, 5)`.
        tensorflow: whether it is said to be TensorFlow's, as from 1.13 to 2.2 it was.
    """

    version: tuple[int, ...]
    tensorflow: bool = False

    @staticmethod
    def of(contents: Contents) -> Age:
        said = (contents.config or {}).get("keras_version")
        return Age(contents.version, isinstance(said, str) and said.endswith("-tf"))

    @property
    def _tensorflow_2(self) -> bool:
        """TensorFlow's from 2.0 on; what TensorFlow 1.13 to 1.15 wrote has the same number."""
        return self.version >= (2, 4) or (self.tensorflow and self.version >= (2, 2, 4))

    @property
    def doubtful(self) -> bool:
        """Whether the number can be of TensorFlow 1 or 2."""
        return self.tensorflow and self.version == (2, 2, 4)

    @property
    def recurrent_activation(self) -> Activation:
        """Of a layer that does not say."""
        return SIGMOID if self._tensorflow_2 or self.version >= (2, 3) else HARD_SIGMOID_KERAS_2

    @property
    def reset_after(self) -> bool:
        """Of a GRU that does not say."""
        return self._tensorflow_2

    @property
    def hard_sigmoid(self) -> Activation:
        return HARD_SIGMOID if self.version >= (3,) else HARD_SIGMOID_KERAS_2

    def __str__(self) -> str:
        return f"Keras {'.'.join(map(str, self.version))}{'-tf' if self.tensorflow else ''}"

    def activation(self, said: Any) -> Activation | None:
        """The activation that a configuration names, or None if it is none of those that are known here.

        Args:
            said: a name, None, or a layer or a function as Keras writes objects.
        """
        if said is None:
            return LINEAR
        if isinstance(said, Mapping):
            if said.get("class_name") == "function":  # a function as Keras 3 writes those that it does not know
                return REGISTERED.get(str(said.get("config")))
            inner = said.get("config")
            return self.layer(str(said.get("class_name")), inner if isinstance(inner, Mapping) else {})
        if said == "hard_sigmoid":
            return self.hard_sigmoid
        if said == "elu":
            return Activation("elu", 1.0)
        if said == "leaky_relu":
            return Activation("leaky_relu", 0.2)
        return Activation(said) if said in PLAIN else None

    def layer(self, kind: str, options: Mapping[str, Any]) -> Activation | None:
        """What a layer that is an activation computes; None if it is no such layer, or one that is not known here."""
        if kind == "Activation":
            return self.activation(options.get("activation"))
        if kind == "Softmax":
            return Activation("softmax") if options.get("axis", -1) in (-1, [-1]) else None
        if kind == "ReLU":
            plain = options.get("max_value") is None and not options.get("threshold")
            slope = _slope("negative_slope", options.get("negative_slope") or 0.0)
            return (Activation("leaky_relu", slope) if slope else Activation("relu")) if plain else None
        if kind in SLOPES:
            name, arguments, default = SLOPES[kind]
            said = next((options[argument] for argument in arguments if argument in options), default)
            return Activation(name, _slope(arguments[0], said))
        return None


ACTIVATION_LAYERS = ("Activation", "Softmax", "ReLU", *SLOPES)


def _slope(argument: str, said: Any) -> float:
    """A number, or an array of one as Keras 2 writes it."""
    return number(argument, said.get("value") if isinstance(said, Mapping) else said)


def named(said: Any) -> str:
    """An activation in a configuration, in words."""
    return shown(said.get("registered_name") or said.get("class_name")) if isinstance(said, Mapping) else shown(said)
