"""One recurrent layer's weights under the document's names, validated, whatever framework they came from.

The names are the document's: `W_ii` multiplies the input on its way into gate `i`, `W_hi` the previous hidden state,
`b_i` is the gate's bias. A matrix has shape `(hidden, input)` or `(hidden, hidden)`, so that `W_ii x_t` is meant
literally; a bias has shape `(hidden,)`.

Two views of the same weights:

- `SimpleRNNWeights`, `LSTMWeights`, `GRUWeights` are named tuples of arrays of any framework, in which the equations are
  written. A layer without biases has the number 0 in their place.
- `Parameters` is the container that crosses between frameworks: NumPy arrays, checked when it is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnn_common.cells import CELLS, Cell, CellName, form_name
from rnn_common.checks import one_of


@dataclass(frozen=True, eq=False)
class Parameters(Mapping[str, NDArray[Any]]):
    """One layer's weights by the document's names: `parameters["W_ii"]`.

    Args:
        cell: `"SimpleRNN"`, `"LSTM"` or `"GRU"`.
        weights: every weight by name. Matrices `(hidden, input)` and `(hidden, hidden)`, biases `(hidden,)`, all of one
            floating-point dtype. The biases are there all together or not at all.
        reset_after: the form of the GRU, see `rnn_common.equations.gru_step`; of no meaning to the other cells. Default True.

    Raises:
        TypeError: a weight is no floating-point array, or the dtypes differ.
        ValueError: an unknown cell; a weight is missing, superfluous, misshapen or not finite.
    """

    cell: CellName
    weights: Mapping[str, NDArray[Any]]
    reset_after: bool = True

    def __post_init__(self) -> None:
        kind = CELLS[one_of("cell", self.cell, list(CELLS))]
        weights = {name: np.asarray(array) for name, array in self.weights.items()}
        matrices = [kind.input_weight(g) for g in kind.gates] + [kind.recurrent_weight(g) for g in kind.gates]
        biases = kind.bias_names(self.reset_after)
        expected = set(matrices) | (set(biases) if any(name in weights for name in biases) else set())
        if missing := sorted(expected - set(weights)):
            raise ValueError(f"weights of {self.cell} lack {', '.join(missing)}")
        if unknown := sorted(set(weights) - expected):
            raise ValueError(
                f"weights of {self.cell} should be {', '.join([*matrices, *biases])}, got {', '.join(unknown)}"
            )
        self._check_arrays(kind, weights)
        object.__setattr__(self, "weights", {name: weights[name] for name in [*matrices, *biases] if name in weights})

    def _check_arrays(self, kind: Cell, weights: Mapping[str, NDArray[Any]]) -> None:
        first = kind.input_weight(kind.gates[0])
        if weights[first].ndim != 2:
            raise ValueError(f"{first} should have shape (hidden, input), got {weights[first].shape}")
        hidden, width = weights[first].shape
        for name, array in weights.items():
            if not np.issubdtype(array.dtype, np.floating):
                raise TypeError(f"{name} should be of a floating-point dtype, got {array.dtype}")
            if array.dtype != weights[first].dtype:
                raise TypeError(f"{name} should be {weights[first].dtype} as {first} is, got {array.dtype}")
            if name.startswith("b_"):
                shape: tuple[int, ...] = (hidden,)
            else:
                shape = (hidden, width if name in map(kind.input_weight, kind.gates) else hidden)
            if array.shape != shape:
                raise ValueError(f"{name} should have shape {shape}, got {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} should be finite, got NaN or infinity")

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def form(self) -> str:
        """The cell and its form, in words."""
        return form_name(self.cell, self.reset_after)

    @property
    def kind(self) -> Cell:
        return CELLS[self.cell]

    @property
    def input_size(self) -> int:
        return int(self[self.kind.input_weight(self.kind.gates[0])].shape[1])

    @property
    def hidden_size(self) -> int:
        return int(self[self.kind.recurrent_weight(self.kind.gates[0])].shape[0])

    @property
    def bias(self) -> bool:
        return self.kind.bias(self.kind.gates[0]) in self.weights

    @property
    def dtype(self) -> np.dtype[Any]:
        return next(iter(self.weights.values())).dtype

    def astype(self, dtype: DTypeLike) -> Parameters:
        """The same weights, rounded to another floating-point dtype."""
        return Parameters(self.cell, {name: array.astype(dtype) for name, array in self.items()}, self.reset_after)


def shapes(
    cell: CellName, input_size: int, hidden_size: int, *, bias: bool = True, reset_after: bool = True
) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a layer, by name and in order.

    Args:
        cell, input_size, hidden_size, bias, reset_after: see `initialise`.
    """
    kind = CELLS[one_of("cell", cell, list(CELLS))]
    found: dict[str, tuple[int, ...]] = {kind.input_weight(g): (hidden_size, input_size) for g in kind.gates}
    found |= {kind.recurrent_weight(g): (hidden_size, hidden_size) for g in kind.gates}
    return found | (dict.fromkeys(kind.bias_names(reset_after), (hidden_size,)) if bias else {})


def initialise(
    cell: CellName,
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    reset_after: bool = True,
    scale: float = 1.0,
    seed: int = 0,
    dtype: DTypeLike = np.float64,
) -> Parameters:
    """Draw a layer's weights from U(−k, k) with k = scale / √hidden, PyTorch's default at `scale=1`.

    Args:
        cell: `"SimpleRNN"`, `"LSTM"` or `"GRU"`.
        input_size: width of x_t, at least 1.
        hidden_size: width of h_t, at least 1.
        bias: with biases, drawn from the same range. Default True.
        reset_after: the form of the GRU. Default True.
        scale: a factor on the range; 0 gives zeros. Default 1.
        seed: of the random generator. Default 0.
        dtype: of the weights; they are drawn in float64 and rounded. Default float64.

    Raises:
        ValueError: an unknown cell or a size below 1.
    """
    for argument, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if size < 1:
            raise ValueError(f"{argument} should be at least 1, got {size}")
    expected = shapes(cell, input_size, hidden_size, bias=bias, reset_after=reset_after)
    random = np.random.default_rng(seed)
    bound = scale / np.sqrt(hidden_size)
    weights = {name: random.uniform(-bound, bound, shape).astype(dtype) for name, shape in expected.items()}
    return Parameters(cell, weights, reset_after)
