"""The simple RNN (document, "Simple RNN")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from rnn_common.cells import CELLS, SimpleRNNWeights
from rnn_torch.cells import kernel
from rnn_torch.cells.base import Activation, RNNCell, State, apply, leaf
from rnn_torch.cells.memory import Part, Steps

NONLINEARITIES: dict[str, Activation] = {"tanh": torch.tanh, "relu": torch.relu}
IN_PLACE: dict[Activation, Activation] = {torch.tanh: torch.tanh_, torch.relu: torch.relu_}


def step(w: SimpleRNNWeights, x_t: Tensor, state: State, activation: Activation = torch.tanh) -> State:
    """One step of the simple RNN (document, "Simple RNN"); `activation` stands in for tanh.

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)
    """
    (h,) = state
    h_t = activation(apply(w.W_hh, h) + apply(w.W_xh, x_t) + w.b_h)
    return (h_t,)


class Kernel(kernel.Kernel):
    """h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h); the buffer of the gates is the history itself."""

    blocks = 1
    activations = (tuple(IN_PLACE),)

    def views(self, part: Part, gates: Tensor) -> Steps:
        return part.steps(gates)

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        (h,) = state
        activation, R = IN_PLACE[self.activation], self.R.t()
        for (a_t,) in gates:
            h = activation(a_t.addmm_(h, R))
        return (h,)

    def derivatives(
        self,
        part: Part,
        gates: Tensor,
        before: State,
        history: State,
        d_a: Tensor,
        d_history: tuple[Tensor | None, ...],
    ) -> Steps:
        return part.steps(d_a, history[0], d_history[0])

    def retreat(self, steps: Steps, d_state: State) -> None:
        (d_h,) = d_state
        for d_a_t, h_t, d_h_t in steps:
            if d_h_t is not None:
                d_h.add_(d_h_t)
            if self.activation is torch.relu:
                kernel.relu_backward(d_h, h_t, 0, grad_input=d_a_t)
            else:
                kernel.tanh_backward(d_h, h_t, grad_input=d_a_t)
            torch.mm(d_a_t, self.R, out=d_h)


class SimpleRNNCell(RNNCell):
    """One step of a simple RNN: drop-in for `nn.RNNCell`.

    h' = tanh(W_xh x + W_hh h + b_h), with `b_h = bias_ih + bias_hh` (document, "Simple RNN")

    Args:
        input_size: width of x.
        hidden_size: width of h.
        bias: with `bias_ih` and `bias_hh`. Default True.
        nonlinearity: `"tanh"` (default) or `"relu"`.
        device, dtype: of the parameters.

    Inputs: `input (batch, input_size)` or `(input_size,)`; `hx (batch, hidden_size)` or `(hidden_size,)`, default zeros.

    Returns: h', shaped as `hx`.

    Raises:
        ValueError: an input or a state with too few or too many dimensions.
        RuntimeError: a wrong width or batch size; an unknown nonlinearity, at the first call as in `nn.RNNCell`.
    """

    cell = CELLS["SimpleRNN"]
    builtin = nn.RNNCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def _activations(self) -> tuple[Activation, ...]:
        if self.nonlinearity not in NONLINEARITIES:
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return (NONLINEARITIES[self.nonlinearity],)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if isinstance(input, fx.Proxy):
            return leaf(self, input, hx)
        (h,) = self._advance(input, hx, ("hidden",))
        return h
