"""The GRU in its first form, whose reset gate acts after the recurrent product (Cho et al. 2014, arXiv 1406.1078v1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from rnn_common.cells import CELLS, Cell, GRUWeights
from rnn_torch.activations import Gated
from rnn_torch.cells import kernel
from rnn_torch.cells.base import Activation, RNNCell, State, apply, leaf
from rnn_torch.cells.memory import VECTOR, Part, Steps


def step(
    w: GRUWeights,
    x_t: Tensor,
    state: State,
    activation: Activation = torch.tanh,
    recurrent_activation: Activation = torch.sigmoid,
) -> State:
    """One step of the GRU (Cho et al. 2014, arXiv 1406.1078); `activation` for tanh, `recurrent_activation` for σ.

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn))
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    r_t = recurrent_activation(apply(w.W_ir, x_t) + apply(w.W_hr, h) + w.b_r)
    z_t = recurrent_activation(apply(w.W_iz, x_t) + apply(w.W_hz, h) + w.b_z)
    q_t = apply(w.W_hn, h) + w.b_hn
    n_tilde = activation(apply(w.W_in, x_t) + w.b_n + r_t * q_t)
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,)


class Kernel(kernel.Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + r_t ⊙ q_t) with q_t = W_hn h_{t−1} + b_hn;
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Blocks: r z q ñ, so that the recurrent product, whose rows are packed r z n, is one.
    """

    blocks = 4
    activations = ((torch.tanh,), (torch.sigmoid,))

    def feature_major(self, x: Tensor) -> bool:
        return x.dim() == 3 and x.device.type == "cpu" and VECTOR <= x.size(1) <= self.hidden

    def set_biases(self, b: Tensor, b_h: Tensor) -> None:
        self.b = b.clone()
        self.b[self.block(0, 2)] += b_h[self.block(0, 2)]
        self.b_hn = b_h[self.block(2, 3)]

    @property
    def inputs(self) -> list[tuple[slice, slice]]:
        return [(self.block(0, 2), self.block(0, 2)), (self.block(2, 3), self.block(3, 4))]

    @property
    def recurrent(self) -> list[tuple[slice, slice]]:
        return [(self.block(0, 3), self.block(0, 3))]

    def project(self, x: Tensor, gates: Tensor) -> None:
        super().project(x, gates)
        gates[..., self.block(2, 3)] = self.b_hn

    def views(self, part: Part, gates: Tensor) -> Steps:
        return part.steps(gates[..., self.block(0, 3)], gates[..., self.block(0, 2)], *gates.chunk(4, -1))

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        (h,) = state
        R, one = self.R.t(), self.R.new_ones(())
        for (a_r_z_q, r_z_t, r_t, z_t, q_t, n_tilde), (h_t,) in zip(gates, history, strict=False):
            a_r_z_q.addmm_(h, R)
            r_z_t.sigmoid_()
            n_tilde.addcmul_(r_t, q_t).tanh_()
            h = torch.sub(one, z_t, out=h_t).mul_(n_tilde).addcmul_(z_t, h)
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
        r, z, q, n_tilde = gates.chunk(4, -1)
        a_r, a_z, d_q, a_n = d_a.chunk(4, -1)
        kernel.tanh_backward(1 - z, n_tilde, grad_input=a_n)  # ∂h_t/∂a_n
        kernel.sigmoid_backward(before[0] - n_tilde, z, grad_input=a_z)  # ∂h_t/∂a_z
        kernel.sigmoid_backward(q, r, grad_input=a_r).mul_(a_n)  # ∂h_t/∂a_r
        torch.mul(r, a_n, out=d_q)  # ∂h_t/∂q_t
        return part.steps(kernel.by_gate(d_a, 4), d_a[..., self.block(0, 3)], z, d_history[0])

    def retreat(self, steps: Steps, d_state: State) -> None:
        (d_h,) = d_state
        d_h_by_gate = d_h.unsqueeze(1)
        for d_a_t, d_r_z_q, z_t, d_h_t in steps:
            if d_h_t is not None:
                d_h.add_(d_h_t)
            d_a_t.mul_(d_h_by_gate)
            d_h.mul_(z_t).addmm_(d_r_z_q, self.R)


class GRUCell(Gated, RNNCell):
    """One step of a GRU: drop-in for `nn.GRUCell`.

    r, z = σ(W_i· x + W_h· h + b_·)
    ñ = tanh(W_in x + b_n + r ⊙ (W_hn h + b_hn)), or tanh(W_in x + b_n + W_hn (r ⊙ h)) without `reset_after`
    h' = (1 − z) ⊙ ñ + z ⊙ h  (Cho et al. 2014, arXiv 1406.1078)

    Args:
        input_size: width of x.
        hidden_size: width of h.
        bias: with `bias_ih` and `bias_hh`. Default True.
        device, dtype: of the parameters.
        reset_after: whether the reset gate acts after the recurrent product (default, `nn`'s form) or before it, in
            which case both biases of every gate are added.
        activation, recurrent_activation: what stands for tanh and for σ, as of the layer. Default `"tanh"` and `"sigmoid"`.

    Inputs: `input (batch, input_size)` or `(input_size,)`; `hx (batch, hidden_size)` or `(hidden_size,)`, default zeros.

    Returns: h', shaped as `hx`.

    Raises:
        ValueError: an input or a state with too few or too many dimensions; an unknown activation.
        RuntimeError: a wrong width or batch size.
    """

    builtin = nn.GRUCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
    ) -> None:
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self._set_activations(activation, recurrent_activation)

    @property
    def cell(self) -> Cell:
        return CELLS["GRU" if self.reset_after else "GRU v3"]

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if isinstance(input, fx.Proxy):
            return leaf(self, input, hx)
        (h,) = self._advance(input, hx, ("hidden",))
        return h

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
