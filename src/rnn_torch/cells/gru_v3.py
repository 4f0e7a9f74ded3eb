"""The GRU in its third form, whose reset gate acts before the recurrent product (Cho et al. 2014, arXiv 1406.1078v3)."""

from __future__ import annotations

import torch
from torch import Tensor

from rnn_common.cells import GRUv3Weights
from rnn_torch.cells import kernel
from rnn_torch.cells.base import Activation, State, apply
from rnn_torch.cells.memory import Part, Steps


def step(
    w: GRUv3Weights,
    x_t: Tensor,
    state: State,
    activation: Activation = torch.tanh,
    recurrent_activation: Activation = torch.sigmoid,
) -> State:
    """One step of the third form of the GRU (Cho et al. 2014, arXiv 1406.1078v3).

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1}))
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    r_t = recurrent_activation(apply(w.W_ir, x_t) + apply(w.W_hr, h) + w.b_r)
    z_t = recurrent_activation(apply(w.W_iz, x_t) + apply(w.W_hz, h) + w.b_z)
    n_tilde = activation(apply(w.W_in, x_t) + w.b_n + apply(w.W_hn, r_t * h))
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,)


class Kernel(kernel.Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1})); h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Blocks: r z ñ.
    """

    blocks = 3
    activations = ((torch.tanh,), (torch.sigmoid,))

    @property
    def recurrent(self) -> list[tuple[slice, slice]]:
        return [(self.block(0, 2), self.block(0, 2)), (self.block(2, 3), self.block(2, 3))]

    def operands(self, gates: Tensor, h: Tensor) -> list[Tensor]:
        return [h, gates[..., self.block(0, 1)] * h]

    def views(self, part: Part, gates: Tensor) -> Steps:
        return part.steps(gates[..., self.block(0, 2)], *gates.chunk(3, -1))

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        (h,) = state
        one = self.R.new_ones(())
        R_rz, R_n = self.R[self.block(0, 2)].t(), self.R[self.block(2, 3)].t()
        for (a_rz, r_t, z_t, n_tilde), (h_t,) in zip(gates, history, strict=False):
            a_rz.addmm_(h, R_rz).sigmoid_()
            n_tilde.addmm_(r_t * h, R_n).tanh_()
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
        r, z, n_tilde = gates.chunk(3, -1)
        a_r, a_z, a_n = d_a.chunk(3, -1)
        kernel.tanh_backward(1 - z, n_tilde, grad_input=a_n)  # ∂h_t/∂a_n
        kernel.sigmoid_backward(before[0] - n_tilde, z, grad_input=a_z)  # ∂h_t/∂a_z
        kernel.sigmoid_backward(before[0], r, grad_input=a_r)  # ∂(r_t ⊙ h_{t−1})/∂a_r
        return part.steps(d_a[..., self.block(0, 2)], a_r, a_z, a_n, r, z, d_history[0])

    def retreat(self, steps: Steps, d_state: State) -> None:
        (d_h,) = d_state
        R_rz, R_n = self.R[self.block(0, 2)], self.R[self.block(2, 3)]
        for d_a_rz, d_a_r, d_a_z, d_a_n, r_t, z_t, d_h_t in steps:
            if d_h_t is not None:
                d_h.add_(d_h_t)
            d_a_z.mul_(d_h)
            d_a_n.mul_(d_h)
            d_reset_h = torch.mm(d_a_n, R_n)
            d_a_r.mul_(d_reset_h)
            d_h.mul_(z_t).addcmul_(d_reset_h, r_t).addmm_(d_a_rz, R_rz)
