"""What a file holds before anybody asks what it means: arrays by name, and what else it says of itself.

Each format has a module of its own, whose `read` gives `Contents`. None imports a framework, none calls a framework's loader, and
none unpickles or executes anything. What a file claims is checked before memory is asked for: `Budget` counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_common.reader import shown

Array = NDArray[Any]

LARGEST = 4 * 2**30  # bytes of all arrays of a file together
MOST = 100_000  # arrays in a file
RANK = 8  # axes of an array


class NotUnderstood(ValueError):
    """A file, or a part of one, that cannot be read; says what was expected and what came."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds.

    Attributes:
        path: of the file.
        format: in words, with the version that wrote it where the file says so: `"PyTorch checkpoint"`,
            `"Keras 2.1.5, weights only"`.
        arrays: by name, in the file's order, the folders of names apart by `/`: `"model_state/lstm.weight_ih_l0"`.
        config: what the file says about the network that the arrays are of, as it says it. Default None.
        version: of the program that wrote the file, as numbers: `(2, 1, 5)`. Default not known.
        notes: what a reader of the file should know, in sentences: `"bfloat16 is read as float32"`.
    """

    path: Path
    format: str
    arrays: Mapping[str, Array]
    config: Mapping[str, Any] | None = None
    version: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=())


class Budget:
    """What a file may still ask memory for."""

    def __init__(self, largest: int = LARGEST) -> None:
        self.left, self.arrays = largest, 0

    def take(self, name: str, shape: Any, dtype: np.dtype[Any]) -> tuple[int, ...]:
        """The shape of an array that is to be read, checked before it is.

        Raises:
            NotUnderstood: it is no shape of numbers, or the file asks for more than it may.
        """
        shape = tuple(shape)
        if len(shape) > RANK or any(type(size) is not int or not 0 <= size < 2**40 for size in map(_whole, shape)):
            raise NotUnderstood(
                f"{shown(name)} should have at most {RANK} axes, each of a whole size, got {shown(shape)}"
            )
        if dtype.hasobject or dtype.kind not in "fiub":
            raise NotUnderstood(f"{shown(name)} should be numbers, got {dtype}")
        self.arrays += 1
        self.left -= prod(shape) * dtype.itemsize
        if self.arrays > MOST:
            raise NotUnderstood(f"the file should hold at most {MOST:,} arrays")
        if self.left < 0:
            raise NotUnderstood(f"the arrays should have at most {LARGEST:,} bytes together, {shown(name)} goes beyond")
        return tuple(int(size) for size in shape)


def _whole(size: Any) -> Any:
    return int(size) if isinstance(size, np.integer) else size
