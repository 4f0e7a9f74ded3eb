"""The LSTM (document, "LSTM")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from rnn_common.cells import CELLS, LSTMWeights
from rnn_torch.activations import Gated
from rnn_torch.cells import kernel
from rnn_torch.cells.base import Activation, RNNCell, State, apply, leaf
from rnn_torch.cells.memory import VECTOR, Part, Steps


def step(
    w: LSTMWeights,
    x_t: Tensor,
    state: State,
    activation: Activation = torch.tanh,
    recurrent_activation: Activation = torch.sigmoid,
) -> State:
    """One step of the LSTM (document, "LSTM"); `activation` stands in for tanh, `recurrent_activation` for σ.

    i_t = σ(W_ii x_t + W_hi h_{t−1} + b_i)
    f_t = σ(W_if x_t + W_hf h_{t−1} + b_f)
    o_t = σ(W_io x_t + W_ho h_{t−1} + b_o)
    c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t
    h_t = o_t ⊙ tanh(c_t)
    """
    h, c = state
    i_t = recurrent_activation(apply(w.W_ii, x_t) + apply(w.W_hi, h) + w.b_i)
    f_t = recurrent_activation(apply(w.W_if, x_t) + apply(w.W_hf, h) + w.b_f)
    o_t = recurrent_activation(apply(w.W_io, x_t) + apply(w.W_ho, h) + w.b_o)
    c_tilde = activation(apply(w.W_ic, x_t) + apply(w.W_hc, h) + w.b_c)
    c_t = f_t * c + i_t * c_tilde
    h_t = o_t * activation(c_t)
    return h_t, c_t


class Kernel(kernel.Kernel):
    """i_t, f_t, o_t = σ(a_·), c̃_t = tanh(a_c); c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t; h_t = o_t ⊙ tanh(c_t).

    Blocks: i f c̃ o, as PyTorch packs them.
    """

    blocks = 4
    activations = ((torch.tanh,), (torch.sigmoid,))

    def feature_major(self, x: Tensor) -> bool:
        return x.dim() == 3 and x.device.type == "cpu" and x.size(1) >= VECTOR

    def views(self, part: Part, gates: Tensor) -> Steps:
        return part.steps(gates, gates[..., self.block(0, 2)], *gates.chunk(4, -1))

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        h, c = state
        R = self.R.t()
        for (a_t, i_f_t, i_t, f_t, c_tilde, o_t), (h_t, c_t) in zip(gates, history, strict=False):
            a_t.addmm_(h, R)
            i_f_t.sigmoid_()
            c_tilde.tanh_()
            o_t.sigmoid_()
            torch.mul(f_t, c, out=c_t).addcmul_(i_t, c_tilde)
            torch.tanh(c_t, out=h_t).mul_(o_t)
            h, c = h_t, c_t
        return h, c

    def derivatives(
        self,
        part: Part,
        gates: Tensor,
        before: State,
        history: State,
        d_a: Tensor,
        d_history: tuple[Tensor | None, ...],
    ) -> Steps:
        i, f, c_tilde, o = gates.chunk(4, -1)
        a_i, a_f, a_c, a_o = d_a.chunk(4, -1)
        kernel.sigmoid_backward(c_tilde, i, grad_input=a_i)  # ∂c_t/∂a_i
        kernel.sigmoid_backward(before[1], f, grad_input=a_f)  # ∂c_t/∂a_f
        kernel.tanh_backward(i, c_tilde, grad_input=a_c)  # ∂c_t/∂a_c
        tanh_c = torch.tanh(history[1])
        kernel.sigmoid_backward(tanh_c, o, grad_input=a_o)  # ∂h_t/∂a_o
        h_by_c = kernel.tanh_backward(o, tanh_c, grad_input=tanh_c)  # ∂h_t/∂c_t
        return part.steps(d_a, kernel.by_gate(d_a[..., self.block(0, 3)], 3), a_o, h_by_c, f, *d_history)

    def retreat(self, steps: Steps, d_state: State) -> None:
        d_h, d_c = d_state
        d_c_by_gate = d_c.unsqueeze(1)
        for d_a_t, d_a_by_c, d_a_o, h_by_c_t, f_t, d_h_t, d_c_t in steps:
            if d_h_t is not None:
                d_h.add_(d_h_t)
            if d_c_t is not None:
                d_c.add_(d_c_t)
            d_c.addcmul_(d_h, h_by_c_t)
            d_a_by_c.mul_(d_c_by_gate)
            d_a_o.mul_(d_h)
            d_c.mul_(f_t)
            torch.mm(d_a_t, self.R, out=d_h)


class LSTMCell(Gated, RNNCell):
    """One step of an LSTM: drop-in for `nn.LSTMCell`.

    i, f, o = σ(W_i· x + W_h· h + b_·);  c̃ = tanh(W_ic x + W_hc h + b_c)
    c' = f ⊙ c + i ⊙ c̃;  h' = o ⊙ tanh(c')  (document, "LSTM")

    Args:
        input_size: width of x.
        hidden_size: width of h and c.
        bias: with `bias_ih` and `bias_hh`. Default True.
        device, dtype: of the parameters.
        activation, recurrent_activation: what stands for tanh and for σ, as of the layer. Default `"tanh"` and `"sigmoid"`.

    Inputs: `input (batch, input_size)` or `(input_size,)`; `hx = (h, c)`, each `(batch, hidden_size)` or
        `(hidden_size,)`, default zeros.

    Returns: `(h', c')`.

    Raises:
        ValueError: an input or a state with too few or too many dimensions; an unknown activation.
        RuntimeError: a wrong width or batch size.
    """

    cell = CELLS["LSTM"]
    builtin = nn.LSTMCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self._set_activations(activation, recurrent_activation)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        if isinstance(input, fx.Proxy):
            return leaf(self, input, hx)
        h, c = self._advance(input, hx, ("hx[0]", "hx[1]"))
        return h, c
