"""Layers of cells of the user's own: all that does not depend on the cell."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from rnn_common.cells import Cell, cell_of
from rnn_common.checks import whole
from rnn_torch import unroll
from rnn_torch.layer import Layer, check_rate


class OwnLayer(Layer):
    """A cell of the user's own over a sequence, as `nn.RNN` would run it.

    Its parameters are the cell's weights by name, with PyTorch's endings: `W_ii_l0`, `W_ii_l1_reverse`. They are drawn from
    U(−k, k) with k = 1 / √hidden_size.

    Args:
        input_size: width of x_t.
        hidden_size: width of every state.
        num_layers: layers stacked, each fed the outputs of the one below. Default 1.
        bias: with biases. Default True.
        batch_first: input and output are `(batch, time, …)`, not `(time, batch, …)`. Default False.
        dropout: of every layer's outputs but the last's, in [0, 1], in training. Default 0.
        bidirectional: run over the sequence both ways and concatenate the outputs. Default False.
        device, dtype: of the parameters.
        recurrent_dropout: of the inputs of the cell's recurrent matrices, in [0, 1], in training. Default 0.
        return_all_states: return every state at every step besides. Default False.
        engine: a name in `rnn_torch.ENGINES` or `"auto"` (default); all are `reference`, for the cell has no fast form.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.
    """

    cell: Cell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        recurrent_dropout: float = 0.0,
        return_all_states: bool = False,
        engine: str = "auto",
    ) -> None:
        nn.Module.__init__(self)  # not RNNBase's, which makes packed weights
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, value in sizes.items():
            whole(name, value, 1)
            setattr(self, name, value)
        for name, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            check_rate(name, rate)
            setattr(self, name, float(rate))
        self.mode, self.proj_size = self.cell.name, 0
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.return_all_states, self.engine = return_all_states, unroll.check(engine)
        self._flat_weights_names, self._all_weights = [], []
        for layer in range(num_layers):
            width = input_size if layer == 0 else self.output_size
            for suffix in self._suffixes(layer):
                shapes = self.cell.shapes(width, hidden_size, bias=bias)
                for name, shape in shapes.items():
                    self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
                self._all_weights.append([name + suffix for name in shapes])
                self._flat_weights_names += self._all_weights[-1]
        self._init_flat_weights()
        self.reset_parameters()

    def _weight_names(self) -> list[str]:
        return [name for name, role in self.cell.roles.items() if self.bias or role != "bias"]

    def flatten_parameters(self) -> None:
        """Nothing: there is no cuDNN kernel that would want the weights in one piece."""

    def _state_shapes(self, batch: int) -> tuple[tuple[int, int, int], ...]:
        return super()._state_shapes(batch) * len(self.cell.states)


@cache
def layer_of(cell: Cell | str) -> type[OwnLayer]:
    """The class of a cell's layer: `layer_of(CELL)(input_size, hidden_size)`; see docs/own-cell.md.

    Args:
        cell: a cell with a step in PyTorch, or where it stands: `"path/to/file.py:NAME"`.

    Raises:
        ValueError: it has none; or it is of the table, whose layers have names.
    """
    cell = cell_of(cell)
    if cell.torch is None:
        raise ValueError(f"cell {cell.name} should have a step in PyTorch, its argument torch, got none")
    return type(cell.name, (OwnLayer,), {"cell": cell, "__doc__": OwnLayer.__doc__, "__module__": __name__})
