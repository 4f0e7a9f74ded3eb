"""How a network is trained, as plain data, so that either framework does the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from rnn_common.checks import one_of, whole
from rnn_common.reader import number, record

Optimizer = Literal["sgd", "adam"]
Schedule = Literal["constant", "cosine"]


def _float32(number: float) -> float:
    """Rounded to what float32 holds; infinite beyond it."""
    with np.errstate(over="ignore"):
        return float(np.float32(number))


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Args:
        optimizer: `"adam"` (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1; default) or `"sgd"` with momentum in the form of
            Sutskever et al. 2013: v ← μ v − α g, p ← p + v.
        learning_rate: α, above 0 and finite, also when rounded. Default 1e-3.
        momentum: μ of SGD, from 0 to below 1. Default 0.9.
        beta_1, beta_2: of Adam's means, from 0 to below 1. Default 0.9, 0.999.
        epsilon: of Adam, above 0 and finite: α m̂ / (√v̂ + ε). Default 1e-8.
        schedule: `"constant"` (default), or `"cosine"`: α falls towards 0 along half a wave over all updates.
        warm_up: updates over which α grows from nearly 0. Default 0.
        clip_norm: the gradients g of all weights are multiplied by min(1, clip_norm / ‖g‖) (Pascanu et al. 2013, arXiv
            1211.5063). Default 0: they are not.
        batch_size: sequences an update, at least 1. Default 32.
        epochs: passes over the data, at least 1. Default 10.
        patience: stop after so many epochs without a lower loss on the validation data, and take the weights of the lowest.
            Default 0: neither.
        bucket: fill batches with sequences of like length. Default False.
        seed: of the order of the data and of dropout, below 2³². Default 0.
        dtype: `"float32"` (default) or `"float64"`.

    α and the two β are rounded to numbers that float32 holds, for Keras rounds them so, and the frameworks are to agree.

    Raises:
        ValueError: a number out of range or an unknown name.
    """

    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    schedule: Schedule = "constant"
    warm_up: int = 0
    clip_norm: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    patience: int = 0
    bucket: bool = False
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        one_of("optimizer", self.optimizer, ["sgd", "adam"])
        one_of("schedule", self.schedule, ["constant", "cosine"])
        one_of("dtype", self.dtype, ["float32", "float64"])
        for name in ("learning_rate", "momentum", "beta_1", "beta_2", "epsilon", "clip_norm"):
            number(name, getattr(self, name))
        for name, rounded in (("learning_rate", _float32(self.learning_rate)), ("epsilon", self.epsilon)):
            if not 0 < rounded < math.inf:
                raise ValueError(f"{name} should be above 0 and finite, got {getattr(self, name)}")
        for name in ("momentum", "beta_1", "beta_2"):
            rounded = _float32(getattr(self, name))
            if not 0 <= rounded < 1:
                raise ValueError(f"{name} should be at least 0 and below 1, in float32, got {getattr(self, name)}")
            object.__setattr__(self, name, rounded)
        if not self.clip_norm >= 0:
            raise ValueError(f"clip_norm should be at least 0, got {self.clip_norm}")
        for name, least in (("warm_up", 0), ("batch_size", 1), ("epochs", 1), ("patience", 0), ("seed", 0)):
            whole(name, getattr(self, name), least)
        if self.seed >= 2**32:
            raise ValueError(f"seed should be below 2**32, got {self.seed}")

    def rate(self, update: int, updates: int) -> float:
        """α at an update, counted from 0, of so many; a number that float32 holds, above 0."""
        rate = self.learning_rate
        if update < self.warm_up:
            rate *= (update + 1) / (self.warm_up + 1)
        elif self.schedule == "cosine":
            rate *= (1 + math.cos(math.pi * (update - self.warm_up) / max(1, updates - self.warm_up))) / 2
        return max(_float32(rate), float(np.finfo(np.float32).tiny))

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """A recipe from what `as_dict` gave.

        Raises:
            ValueError: it describes no recipe; names the field.
        """
        return record(cls, data, "recipe")
