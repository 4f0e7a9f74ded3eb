"""What is fixed about each kind of cell, and its weights under the document's names, in which the equations are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

CellName = Literal["SimpleRNN", "LSTM", "GRU"]


class SimpleRNNWeights(NamedTuple):
    """The weights of `h_t = tanh(W_hh h_{t-1} + W_xh x_t + b_h)`."""

    W_xh: Any
    W_hh: Any
    b_h: Any = 0.0


class LSTMWeights(NamedTuple):
    """The weights of the LSTM's input gate i, forget gate f, candidate c̃ and output gate o."""

    W_ii: Any
    W_if: Any
    W_ic: Any
    W_io: Any
    W_hi: Any
    W_hf: Any
    W_hc: Any
    W_ho: Any
    b_i: Any = 0.0
    b_f: Any = 0.0
    b_c: Any = 0.0
    b_o: Any = 0.0


class GRUWeights(NamedTuple):
    """The weights of the GRU's reset gate r, update gate z and candidate ñ; `b_hn` only where `reset_after`."""

    W_ir: Any
    W_iz: Any
    W_in: Any
    W_hr: Any
    W_hz: Any
    W_hn: Any
    b_r: Any = 0.0
    b_z: Any = 0.0
    b_n: Any = 0.0
    b_hn: Any = 0.0


Weights = SimpleRNNWeights | LSTMWeights | GRUWeights


@dataclass(frozen=True)
class Cell:
    """What is fixed about a kind of cell: its gates, its states, and the named tuple its equations are written in."""

    name: CellName
    gates: tuple[str, ...]
    states: tuple[str, ...]
    weights: type[SimpleRNNWeights] | type[LSTMWeights] | type[GRUWeights]

    def input_weight(self, gate: str) -> str:
        return "W_xh" if self.name == "SimpleRNN" else f"W_i{gate}"

    def recurrent_weight(self, gate: str) -> str:
        return f"W_h{gate}"

    def bias(self, gate: str) -> str:
        return f"b_{gate}"

    def bias_names(self, reset_after: bool = True) -> tuple[str, ...]:
        """The biases, in order; a GRU with `reset_after` has the recurrent bias `b_hn` besides."""
        recurrent = ("b_hn",) if self.name == "GRU" and reset_after else ()
        return tuple(self.bias(gate) for gate in self.gates) + recurrent


CELLS: dict[CellName, Cell] = {
    "SimpleRNN": Cell("SimpleRNN", ("h",), ("h",), SimpleRNNWeights),
    "LSTM": Cell("LSTM", ("i", "f", "c", "o"), ("h", "c"), LSTMWeights),
    "GRU": Cell("GRU", ("r", "z", "n"), ("h",), GRUWeights),
}


def form_name(cell: CellName, reset_after: bool) -> str:
    """What to call a cell and its form: "LSTM", "GRU", "GRU reset_after=False"."""
    return cell if cell != "GRU" or reset_after else "GRU reset_after=False"
