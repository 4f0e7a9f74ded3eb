"""The table of cells: a row says all that is data about a cell, and its weights are named as in the equations.

A weight's annotation says what it is, and so its shape:

| role | shape | what it does |
| --- | --- | --- |
| `InputMatrix` | `(hidden, input)` | multiplies x_t |
| `RecurrentMatrix` | `(hidden, hidden)` | multiplies a vector as wide as h_{t−1} |
| `Vector` | `(hidden,)` | multiplies such a vector entry by entry |
| `Bias` | `(hidden,)` | is added; the number 0 in a layer without biases |

The equations of a cell stand on a page of that name in `rnn_common.equations`, and in `cells` of either twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from rnn_common.checks import one_of
from rnn_common.files import run_file

Role = Literal["input matrix", "recurrent matrix", "vector", "bias"]
Packing = Literal["torch", "keras", "onnx"]

InputMatrix = Annotated[Any, "input matrix"]
RecurrentMatrix = Annotated[Any, "recurrent matrix"]
Vector = Annotated[Any, "vector"]
Bias = Annotated[Any, "bias"]


class SimpleRNNWeights(NamedTuple):
    """The weights of h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)."""

    W_xh: InputMatrix
    W_hh: RecurrentMatrix
    b_h: Bias = 0.0


class LSTMWeights(NamedTuple):
    """The weights of the LSTM's input gate i, forget gate f, candidate c̃ and output gate o."""

    W_ii: InputMatrix
    W_if: InputMatrix
    W_ic: InputMatrix
    W_io: InputMatrix
    W_hi: RecurrentMatrix
    W_hf: RecurrentMatrix
    W_hc: RecurrentMatrix
    W_ho: RecurrentMatrix
    b_i: Bias = 0.0
    b_f: Bias = 0.0
    b_c: Bias = 0.0
    b_o: Bias = 0.0


class GRUWeights(NamedTuple):
    """The weights of the GRU's reset gate r, update gate z and candidate ñ, whose recurrent bias b_hn stays apart."""

    W_ir: InputMatrix
    W_iz: InputMatrix
    W_in: InputMatrix
    W_hr: RecurrentMatrix
    W_hz: RecurrentMatrix
    W_hn: RecurrentMatrix
    b_r: Bias = 0.0
    b_z: Bias = 0.0
    b_n: Bias = 0.0
    b_hn: Bias = 0.0


class GRUv3Weights(NamedTuple):
    """The weights of the reset gate r, update gate z and candidate ñ of the GRU's third form."""

    W_ir: InputMatrix
    W_iz: InputMatrix
    W_in: InputMatrix
    W_hr: RecurrentMatrix
    W_hz: RecurrentMatrix
    W_hn: RecurrentMatrix
    b_r: Bias = 0.0
    b_z: Bias = 0.0
    b_n: Bias = 0.0


@dataclass(frozen=True, eq=False)
class Cell:
    """A row of the table.

    Args:
        name: what the cell is called: `"LSTM"`.
        states: the state's parts: `("h",)`, or `("h", "c")` of an LSTM. The first is the output.
        weights: a `NamedTuple` of the weights by the equations' names, annotated with their roles: input matrices, recurrent
            matrices, vectors and, with 0 as default, biases.
        activations: what the step is given besides, by default: names among `"tanh"` and `"sigmoid"`. Default none.
        gates: of a cell that the frameworks pack, the gates in the order of the weights. Default none: every weight is a
            parameter of its own.
        orders: the gates' order in each packing, by `"torch"`, `"keras"` and `"onnx"`.
        apart: the gates whose two biases stay apart in a packing that has two. Default none.
        layer: the name of the class of its layer, in either twin. Default: the cell's own.
        options: what that class is given to be of this cell. Default nothing.
        builtin: the twins whose framework has such a layer, among `"torch"` and `"tf"`. Default none.
        start: the number that a bias starts with, by name. Default 0 for each.
        memory: the biases that decide how long is remembered, by name, with the sign in which they do. Default none.
        numpy, torch, tf: of a cell of the user's own, the step in each of the three; see docs/own-cell.md.
    """

    name: str
    states: tuple[str, ...]
    weights: Any
    activations: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    apart: tuple[str, ...] = ()
    layer: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    builtin: tuple[str, ...] = ()
    start: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    numpy: Callable[..., Any] | None = None
    torch: Callable[..., Any] | None = None
    tf: Callable[..., Any] | None = None

    @cached_property
    def roles(self) -> dict[str, Role]:
        """What each weight is, by name and in order."""
        hints = get_type_hints(self.weights, include_extras=True)
        return {name: hints[name].__metadata__[0] for name in self.weights._fields}

    def _with_role(self, role: Role) -> tuple[str, ...]:
        return tuple(name for name, each in self.roles.items() if each == role)

    @cached_property
    def input_matrices(self) -> tuple[str, ...]:
        return self._with_role("input matrix")

    @cached_property
    def recurrent_matrices(self) -> tuple[str, ...]:
        return self._with_role("recurrent matrix")

    @cached_property
    def biases(self) -> tuple[str, ...]:
        return self._with_role("bias")

    def input_weight(self, gate: str) -> str:
        return self.input_matrices[self.gates.index(gate)]

    def recurrent_weight(self, gate: str) -> str:
        return self.recurrent_matrices[self.gates.index(gate)]

    def bias(self, gate: str) -> str:
        return self.biases[self.gates.index(gate)]

    def shapes(self, input_size: int, hidden_size: int, *, bias: bool = True) -> dict[str, tuple[int, ...]]:
        """The shape of every weight, by name and in order; `bias` says whether there are biases."""
        shape_of: dict[Role, tuple[int, ...]] = {
            "input matrix": (hidden_size, input_size),
            "recurrent matrix": (hidden_size, hidden_size),
            "vector": (hidden_size,),
            "bias": (hidden_size,),
        }
        return {name: shape_of[role] for name, role in self.roles.items() if bias or role != "bias"}

    @property
    def in_table(self) -> bool:
        """Whether this is a row of `CELLS`, and not a cell of the user's own, which may bear the same name."""
        return CELLS.get(self.name) is self

    @property
    def layer_class(self) -> str:
        """The name of the class of its layer, in either twin."""
        return self.layer or self.name

    def __repr__(self) -> str:
        return f"<cell {self.name}>"


_GRU = {"torch": ("r", "z", "n"), "keras": ("z", "r", "n"), "onnx": ("z", "r", "n")}

CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell(
            "SimpleRNN",
            ("h",),
            SimpleRNNWeights,
            ("tanh",),
            gates=("h",),
            orders={"torch": ("h",), "keras": ("h",), "onnx": ("h",)},
            builtin=("torch", "tf"),
        ),
        Cell(
            "LSTM",
            ("h", "c"),
            LSTMWeights,
            ("tanh", "sigmoid"),
            gates=("i", "f", "c", "o"),
            orders={"torch": ("i", "f", "c", "o"), "keras": ("i", "f", "c", "o"), "onnx": ("i", "o", "f", "c")},
            builtin=("torch", "tf"),
            start={"b_f": 1.0},
            memory={"b_f": 1.0, "b_i": -1.0},
        ),
        Cell(
            "GRU",
            ("h",),
            GRUWeights,
            ("tanh", "sigmoid"),
            gates=("r", "z", "n"),
            orders=_GRU,
            apart=("n",),
            builtin=("torch", "tf"),
            memory={"b_z": 1.0},
        ),
        Cell(
            "GRU v3",
            ("h",),
            GRUv3Weights,
            ("tanh", "sigmoid"),
            gates=("r", "z", "n"),
            orders=_GRU,
            layer="GRU",
            options={"reset_after": False},
            builtin=("tf",),
            memory={"b_z": 1.0},
        ),
    )
}

# The cells that either framework has a layer of: those that are trained and timed by default.
IN_BOTH = tuple(name for name, cell in CELLS.items() if set(cell.builtin) == {"torch", "tf"})


def cell_in(layer_class: str, holder: Any) -> Cell:
    """The cell of which a layer or cell of that class is, by what its options are.

    Args:
        layer_class: the name of the layer's class: `"GRU"`.
        holder: the object with the options as attributes.
    """
    fitting = [
        cell
        for cell in CELLS.values()
        if cell.layer_class == layer_class
        and all(getattr(holder, option, None) == value for option, value in cell.options.items())
    ]
    return max(fitting, key=lambda cell: len(cell.options))


def cell_of(cell: Cell | str) -> Cell:
    """The cell itself, the one in the table that is called so, or the user's own in a file: `"path/to/file.py:NAME"`.

    Raises:
        ValueError: there is none; names what is wrong.
    """
    if isinstance(cell, Cell):
        return cell
    path, colon, name = cell.rpartition(":")
    return _from_file(Path(path), name) if colon else CELLS[one_of("cell", cell, list(CELLS))]


@cache
def _from_file(path: Path, name: str) -> Cell:
    """The cell of that name in a file of the user's own, which is run as an import would."""
    module = run_file("cell", path)
    found = getattr(module, name, None)
    if not isinstance(found, Cell):
        cells = [name for name, value in vars(module).items() if isinstance(value, Cell)]
        raise ValueError(f"cell should be a Cell in {path} ({', '.join(cells) or 'which has none'}), got {name}")
    return found
