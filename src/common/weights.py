"""One recurrent layer's weights under the document's names, validated, whatever framework they came from.

The names are the document's: `W_ii` multiplies the input on its way into gate `i`, `W_hi` the previous hidden state,
`b_i` is the gate's bias. A matrix has shape `(hidden, input)` or `(hidden, hidden)`, so that `W_ii x_t` is meant
literally; a bias has shape `(hidden,)`.

Two views of the same weights:

- The named tuples of `rnn_common.cells`, of arrays of any framework, in which the equations are written. A layer without
  biases has the number 0 in their place.
- `Parameters` is the container that crosses between frameworks: NumPy arrays, checked when it is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnn_common.cells import Cell, cell_of
from rnn_common.checks import at_least


@dataclass(frozen=True, eq=False)
class Parameters(Mapping[str, NDArray[Any]]):
    """One layer's weights by the document's names: `parameters["W_ii"]`.

    Args:
        cell: a cell, or the name of one in `rnn_common.cells.CELLS`.
        weights: every weight by name, of the shape that its role has, all of one floating-point dtype. The biases are there
            all together or not at all.

    Raises:
        TypeError: a weight is no floating-point array, or the dtypes differ.
        ValueError: an unknown cell; a weight is missing, superfluous, misshapen or not finite.
    """

    cell: Cell
    weights: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        cell = cell_of(self.cell)
        weights = {name: np.asarray(array) for name, array in self.weights.items()}
        biases = any(name in weights for name in cell.biases)
        expected = [name for name, role in cell.roles.items() if biases or role != "bias"]
        if missing := sorted(set(expected) - set(weights)):
            raise ValueError(f"weights of {cell.name} lack {', '.join(missing)}")
        if unknown := sorted(set(weights) - set(expected)):
            raise ValueError(f"weights of {cell.name} should be {', '.join(cell.roles)}, got {', '.join(unknown)}")
        self._check_arrays(cell, weights)
        object.__setattr__(self, "cell", cell)
        object.__setattr__(self, "weights", {name: weights[name] for name in expected})

    def _check_arrays(self, cell: Cell, weights: Mapping[str, NDArray[Any]]) -> None:
        first = cell.input_matrices[0]
        if weights[first].ndim != 2:
            raise ValueError(f"{first} should have shape (hidden, input), got {weights[first].shape}")
        hidden, width = weights[first].shape
        shapes = cell.shapes(width, hidden)
        for name, array in weights.items():
            if not np.issubdtype(array.dtype, np.floating):
                raise TypeError(f"{name} should be of a floating-point dtype, got {array.dtype}")
            if array.dtype != weights[first].dtype:
                raise TypeError(f"{name} should be {weights[first].dtype} as {first} is, got {array.dtype}")
            if array.shape != shapes[name]:
                raise ValueError(f"{name} should have shape {shapes[name]}, got {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} should be finite, got NaN or infinity")

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def input_size(self) -> int:
        return int(self[self.cell.input_matrices[0]].shape[1])

    @property
    def hidden_size(self) -> int:
        return int(self[self.cell.input_matrices[0]].shape[0])

    @property
    def bias(self) -> bool:
        return any(name in self.weights for name in self.cell.biases)

    @property
    def dtype(self) -> np.dtype[Any]:
        return next(iter(self.weights.values())).dtype

    def replace(self, weights: Mapping[str, NDArray[Any]]) -> Parameters:
        """The same layer with some other weights."""
        return Parameters(self.cell, {**self.weights, **weights})

    def astype(self, dtype: DTypeLike) -> Parameters:
        """The same weights, rounded to another floating-point dtype."""
        return self.replace({name: array.astype(dtype) for name, array in self.items()})


def initialise(
    cell: Cell | str,
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    scale: float = 1.0,
    seed: int = 0,
    dtype: DTypeLike = np.float64,
) -> Parameters:
    """Draw a layer's weights from U(−k, k) with k = scale / √hidden, PyTorch's default at `scale=1`.

    Args:
        cell: a cell, or the name of one in `rnn_common.cells.CELLS`.
        input_size: width of x_t, at least 1.
        hidden_size: width of h_t, at least 1.
        bias: with biases, drawn from the same range. Default True.
        scale: a factor on the range; 0 gives zeros. Default 1.
        seed: of the random generator. Default 0.
        dtype: of the weights; they are drawn in float64 and rounded. Default float64.

    Raises:
        ValueError: an unknown cell or a size below 1.
    """
    cell = cell_of(cell)
    at_least("input_size", input_size, 1)
    at_least("hidden_size", hidden_size, 1)
    random = np.random.default_rng(seed)
    bound = scale / np.sqrt(hidden_size)
    shapes = cell.shapes(input_size, hidden_size, bias=bias)
    return Parameters(
        cell, {name: random.uniform(-bound, bound, shape).astype(dtype) for name, shape in shapes.items()}
    )
