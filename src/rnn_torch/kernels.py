"""The cells of `rnn_torch.cells` run over many steps and differentiated by hand, arranged for speed, on any device.

- Forward, a part of the sequence at a time: one product gives W x_t + b for all its steps; each step adds W_h h_{t−1} and
  turns the sums into the gates, in place. Training keeps the gates and the states; inference reuses one buffer.
- Backward, the parts in reverse: what multiplies ∂L/∂h_t and ∂L/∂c_t on the way to the pre-activations depends on the
  forward pass alone, so it is computed for all steps of a part at once. Each step then scales it, in place, to ∂L/∂a_t and
  carries ∂L/∂h_{t−1} on. The gradients of the weights are one product over all steps of the part.

In what follows `a_q` is the pre-activation of gate q, and `d_q` is ∂L/∂q.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from rnn_torch.cells import Activation, Recurrence, State

# The batch from which on a CPU multiplies faster what is stored feature by feature: a vector register's worth of float32.
VECTOR = 16

# Rows, steps × batch, of one part on a CPU: enough for a product to run at full rate, or more if their gates, in numbers,
# still stay in a cache.
ROWS, CACHED = 512, 2**18

IN_PLACE: dict[Activation, Activation] = {torch.tanh: torch.tanh_, torch.relu: torch.relu_}

# From ∂L/∂y and y = f(a) to ∂L/∂a = ∂L/∂y f'(a), in the operations that autograd itself uses.
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_relu_backward = torch.ops.aten.threshold_backward.grad_input


def _before(history: Tensor, initial: Tensor, part: slice) -> Tensor:
    """The state before each step of a part."""
    if part.start:
        return history[part.start - 1 : part.stop - 1]
    return torch.cat([initial.unsqueeze(0), history[: part.stop - 1]])


Steps = list[tuple[Tensor, ...]]


def _steps(*tensors: Tensor) -> Steps:
    """The tensors of each step. A view takes as long to make as a small product, so that it is made once, not when used."""
    return list(zip(*(tensor.unbind(0) for tensor in tensors), strict=True))


def _steps_reversed(*tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """The steps from the last to the first; None for each step of a tensor that is None."""
    return zip(*(repeat(None) if t is None else reversed(t.unbind(0)) for t in tensors), strict=False)


def _by_gate(blocks: Tensor, count: int) -> Tensor:
    """`(…, count · hidden)` as `(…, count, hidden)`."""
    return blocks.view(*blocks.shape[:-1], count, blocks.size(-1) // count)


class Kernel:
    """What the cells share. A kernel differs in how it goes over the steps of one part, forwards and backwards.

    The buffer `gates (time, batch, blocks · hidden)` holds a block for each gate; which rows of the packed weights go into
    which columns of it, `inputs` says for W and `recurrent` for R. Shapes are the same everywhere; where `feature_major`
    says so, the memory behind them is `(time, blocks · hidden, batch)`.
    """

    blocks: int

    def __init__(self, recurrence: Recurrence) -> None:
        self.activation = recurrence.activation
        self.W, self.R, *biases = recurrence.packed
        self.hidden = self.R.size(1)
        self.has_biases = bool(biases)
        b, b_h = biases or [self.W.new_zeros(len(self.W))] * 2
        self.set_biases(b, b_h)

    def set_biases(self, b: Tensor, b_h: Tensor) -> None:
        self.b = b + b_h

    def block(self, first: int, stop: int) -> slice:
        return slice(first * self.hidden, stop * self.hidden)

    @property
    def inputs(self) -> list[tuple[slice, slice]]:
        return [(self.block(0, self.blocks), self.block(0, self.blocks))]

    @property
    def recurrent(self) -> list[tuple[slice, slice]]:
        return [(self.block(0, self.blocks), self.block(0, self.blocks))]

    def operands(self, gates: Tensor, h: Tensor) -> list[Tensor]:
        """What each of `recurrent` multiplies, given the states before."""
        return [h]

    def feature_major(self, x: Tensor) -> bool:
        """Whether memory is laid out feature by feature, for a faster recurrent product, rather than sequence by sequence."""
        return False

    def new(self, x: Tensor, steps: int, features: int) -> Tensor:
        """Memory `(steps, batch, features)`."""
        if self.feature_major(x):
            return x.new_empty(steps, features, x.size(1)).transpose(1, 2)
        return x.new_empty(steps, x.size(1), features)

    def new_gates(self, x: Tensor, keep: bool) -> Tensor:
        """Memory for the gates of all steps, to `keep` them, or for those of a part."""
        return self.new(x, x.size(0) if keep else self.parts(x)[0].stop, self.blocks * self.hidden)

    def project(self, x: Tensor, gates: Tensor) -> None:
        """W x_t + b for all steps of a part."""
        for rows, columns in self.inputs:
            W, b, a = self.W[rows], self.b[rows], gates[..., columns]
            if self.feature_major(x):
                torch.baddbmm(b[:, None], W.expand(x.size(0), *W.shape), x.transpose(1, 2), out=a.transpose(1, 2))
            else:
                torch.addmm(b, x.flatten(0, 1), W.t(), out=a.flatten(0, 1))

    def views(self, gates: Tensor) -> Steps:
        """What `advance` needs of the gates at each step."""
        raise NotImplementedError

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        """Run over a part, from the inputs' share of the pre-activations in `gates`; fill `gates` and `history`."""
        raise NotImplementedError

    def retreat(
        self,
        gates: Tensor,
        before: State,
        history: State,
        d_a: Tensor,
        d_history: tuple[Tensor | None, ...],
        d_state: State,
    ) -> None:
        """Walk a part backwards: fill `d_a`, shaped as `gates`, and change `d_state` from after the part to before it."""
        raise NotImplementedError

    def parts(self, x: Tensor) -> list[slice]:
        """The parts of a sequence `(time, batch, …)` that are worked on one after the other; on a GPU the whole."""
        time, batch = x.shape[:2]
        rows = max(ROWS, CACHED // (self.blocks * self.hidden))
        steps = max(1, rows // max(1, batch)) if x.device.type == "cpu" else time
        return [slice(start, min(start + steps, time)) for start in range(0, time, steps)]

    def forward(self, x: Tensor, state: State, history: State, gates: Tensor) -> State:
        """Fill the history and return the final state.

        `gates` has room for all steps, and is filled, or for those of a part, and is used again for each.
        """
        keep, parts = len(gates) == x.size(0), self.parts(x)
        with torch.inference_mode():  # PyTorch does the least for each operation
            views = None if keep else self.views(gates)
            latest = self.new(x, parts[0].stop, self.hidden) if self.feature_major(x) else None
            for part in parts:
                steps = part.stop - part.start
                a = gates[part] if keep else gates[:steps]
                self.project(x[part], a)
                h, *c = (each[part] for each in history)
                written = h if latest is None else latest[:steps]
                state = self.advance(views or self.views(a), state, _steps(written, *c))
                if latest is not None:
                    h.copy_(written)
        return tuple(each.clone(memory_format=torch.contiguous_format) for each in state)

    def backward(
        self,
        x: Tensor,
        state: list[Tensor],
        history: list[Tensor],
        gates: Tensor,
        d_history: tuple[Tensor | None, ...],
        d_final: tuple[Tensor | None, ...],
        needs_d_x: bool,
    ) -> list[Tensor | None]:
        """The gradients of `x`, the initial state and the packed weights."""
        d_x = torch.empty_like(x, memory_format=torch.contiguous_format) if needs_d_x else None
        d_W, d_R, d_b = torch.zeros_like(self.W), torch.zeros_like(self.R), gates.new_zeros(self.blocks * self.hidden)
        d_state = tuple(self.new(x, 1, self.hidden)[0].copy_(self.W.new_zeros(()) if d is None else d) for d in d_final)
        parts = self.parts(x)
        buffer = self.new(x, parts[0].stop, self.blocks * self.hidden)
        if self.feature_major(x):
            self.R = self.R.t().contiguous().t()  # for products with it, not with its transpose
        with torch.inference_mode():
            for part in reversed(parts):
                before = tuple(_before(h, h_0, part) for h, h_0 in zip(history, state, strict=True))
                d_a = buffer[: part.stop - part.start]
                d_part = tuple(None if d is None else d[part] for d in d_history)
                self.retreat(gates[part], before, tuple(h[part] for h in history), d_a, d_part, d_state)
                d_rows = d_a.flatten(0, 1)
                for i, (rows, columns) in enumerate(self.inputs):
                    d_W[rows].addmm_(d_rows[:, columns].t(), x[part].flatten(0, 1))
                    if d_x is not None:
                        d_x[part].flatten(0, 1).addmm_(d_rows[:, columns], self.W[rows], beta=min(i, 1))
                operands = self.operands(gates[part], before[0])
                for (rows, columns), operand in zip(self.recurrent, operands, strict=True):
                    d_R[rows].addmm_(d_rows[:, columns].t(), operand.flatten(0, 1))
                d_b += d_rows.sum(0)
        d_biases = [torch.cat([d_b[columns] for _, columns in each]) for each in (self.inputs, self.recurrent)]
        return [d_x, *(d.contiguous() for d in d_state), d_W, d_R, *(d_biases if self.has_biases else [])]


class SimpleRNNKernel(Kernel):
    """h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h); the buffer of the gates is the history itself."""

    blocks = 1

    def views(self, gates: Tensor) -> Steps:
        return _steps(gates)

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        (h,) = state
        activation, R = IN_PLACE[self.activation], self.R.t()
        for (a_t,) in gates:
            h = activation(a_t.addmm_(h, R))
        return (h,)

    def retreat(
        self,
        gates: Tensor,
        before: State,
        history: State,
        d_a: Tensor,
        d_history: tuple[Tensor | None, ...],
        d_state: State,
    ) -> None:
        (d_h,) = d_state
        ones = torch.ones_like(d_a)
        if self.activation is torch.relu:
            _relu_backward(ones, history[0], 0, grad_input=d_a)
        else:
            _tanh_backward(ones, history[0], grad_input=d_a)
        for d_a_t, d_h_t in _steps_reversed(d_a, d_history[0]):
            if d_h_t is not None:
                d_h.add_(d_h_t)
            d_a_t.mul_(d_h)
            torch.mm(d_a_t, self.R, out=d_h)


class LSTMKernel(Kernel):
    """i_t, f_t, o_t = σ(a_·), c̃_t = tanh(a_c); c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t; h_t = o_t ⊙ tanh(c_t).

    Blocks: i f c̃ o, as PyTorch packs them.
    """

    blocks = 4

    def feature_major(self, x: Tensor) -> bool:
        return x.device.type == "cpu" and x.size(1) >= VECTOR

    def views(self, gates: Tensor) -> Steps:
        return _steps(gates, gates[..., self.block(0, 2)], *gates.chunk(4, -1))

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

    def retreat(
        self,
        gates: Tensor,
        before: State,
        history: State,
        d_a: Tensor,
        d_history: tuple[Tensor | None, ...],
        d_state: State,
    ) -> None:
        d_h, d_c = d_state
        i, f, c_tilde, o = gates.chunk(4, -1)
        a_i, a_f, a_c, a_o = d_a.chunk(4, -1)
        _sigmoid_backward(c_tilde, i, grad_input=a_i)  # ∂c_t/∂a_i
        _sigmoid_backward(before[1], f, grad_input=a_f)  # ∂c_t/∂a_f
        _tanh_backward(i, c_tilde, grad_input=a_c)  # ∂c_t/∂a_c
        tanh_c = torch.tanh(history[1])
        _sigmoid_backward(tanh_c, o, grad_input=a_o)  # ∂h_t/∂a_o
        h_by_c = _tanh_backward(o, tanh_c, grad_input=tanh_c)  # ∂h_t/∂c_t
        by_c, d_c_by_gate = _by_gate(d_a[..., self.block(0, 3)], 3), d_c.unsqueeze(1)
        for d_a_t, d_a_by_c, d_a_o, h_by_c_t, f_t, d_h_t, d_c_t in _steps_reversed(
            d_a, by_c, a_o, h_by_c, f, *d_history
        ):
            if d_h_t is not None:
                d_h.add_(d_h_t)
            if d_c_t is not None:
                d_c.add_(d_c_t)
            d_c.addcmul_(d_h, h_by_c_t)
            d_a_by_c.mul_(d_c_by_gate)
            d_a_o.mul_(d_h)
            d_c.mul_(f_t)
            torch.mm(d_a_t, self.R, out=d_h)


class GRUKernel(Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + r_t ⊙ q_t) with q_t = W_hn h_{t−1} + b_hn;
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Blocks: r z q ñ, so that the recurrent product, whose rows are packed r z n, is one.
    """

    blocks = 4

    def feature_major(self, x: Tensor) -> bool:
        return x.device.type == "cpu" and VECTOR <= x.size(1) <= self.hidden

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

    def views(self, gates: Tensor) -> Steps:
        return _steps(gates[..., self.block(0, 3)], gates[..., self.block(0, 2)], *gates.chunk(4, -1))

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        (h,) = state
        R = self.R.t()
        for (a_r_z_q, r_z_t, r_t, z_t, q_t, n_tilde), (h_t,) in zip(gates, history, strict=False):
            a_r_z_q.addmm_(h, R)
            r_z_t.sigmoid_()
            n_tilde.addcmul_(r_t, q_t).tanh_()
            h = torch.lerp(n_tilde, h, z_t, out=h_t)
        return (h,)

    def retreat(
        self,
        gates: Tensor,
        before: State,
        history: State,
        d_a: Tensor,
        d_history: tuple[Tensor | None, ...],
        d_state: State,
    ) -> None:
        (d_h,) = d_state
        r, z, q, n_tilde = gates.chunk(4, -1)
        a_r, a_z, d_q, a_n = d_a.chunk(4, -1)
        _tanh_backward(1 - z, n_tilde, grad_input=a_n)  # ∂h_t/∂a_n
        _sigmoid_backward(before[0] - n_tilde, z, grad_input=a_z)  # ∂h_t/∂a_z
        _sigmoid_backward(q, r, grad_input=a_r).mul_(a_n)  # ∂h_t/∂a_r
        torch.mul(r, a_n, out=d_q)  # ∂h_t/∂q_t
        d_h_by_gate = d_h.unsqueeze(1)
        for d_a_t, d_r_z_q, z_t, d_h_t in _steps_reversed(
            _by_gate(d_a, 4), d_a[..., self.block(0, 3)], z, d_history[0]
        ):
            if d_h_t is not None:
                d_h.add_(d_h_t)
            d_a_t.mul_(d_h_by_gate)
            d_h.mul_(z_t).addmm_(d_r_z_q, self.R)


class GRUResetBeforeKernel(Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1})); h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Blocks: r z ñ.
    """

    blocks = 3

    @property
    def recurrent(self) -> list[tuple[slice, slice]]:
        return [(self.block(0, 2), self.block(0, 2)), (self.block(2, 3), self.block(2, 3))]

    def operands(self, gates: Tensor, h: Tensor) -> list[Tensor]:
        return [h, gates[..., self.block(0, 1)] * h]

    def views(self, gates: Tensor) -> Steps:
        return _steps(gates[..., self.block(0, 2)], *gates.chunk(3, -1))

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        (h,) = state
        R_rz, R_n = self.R[self.block(0, 2)].t(), self.R[self.block(2, 3)].t()
        for (a_rz, r_t, z_t, n_tilde), (h_t,) in zip(gates, history, strict=False):
            a_rz.addmm_(h, R_rz).sigmoid_()
            n_tilde.addmm_(r_t * h, R_n).tanh_()
            h = torch.lerp(n_tilde, h, z_t, out=h_t)
        return (h,)

    def retreat(
        self,
        gates: Tensor,
        before: State,
        history: State,
        d_a: Tensor,
        d_history: tuple[Tensor | None, ...],
        d_state: State,
    ) -> None:
        (d_h,) = d_state
        r, z, n_tilde = gates.chunk(3, -1)
        a_r, a_z, a_n = d_a.chunk(3, -1)
        _tanh_backward(1 - z, n_tilde, grad_input=a_n)  # ∂h_t/∂a_n
        _sigmoid_backward(before[0] - n_tilde, z, grad_input=a_z)  # ∂h_t/∂a_z
        _sigmoid_backward(before[0], r, grad_input=a_r)  # ∂(r_t ⊙ h_{t−1})/∂a_r
        R_rz, R_n = self.R[self.block(0, 2)], self.R[self.block(2, 3)]
        for d_a_rz, d_a_r, d_a_z, d_a_n, r_t, z_t, d_h_t in _steps_reversed(
            d_a[..., self.block(0, 2)], a_r, a_z, a_n, r, z, d_history[0]
        ):
            if d_h_t is not None:
                d_h.add_(d_h_t)
            d_a_z.mul_(d_h)
            d_a_n.mul_(d_h)
            d_reset_h = torch.mm(d_a_n, R_n)
            d_a_r.mul_(d_reset_h)
            d_h.mul_(z_t).addcmul_(d_reset_h, r_t).addmm_(d_a_rz, R_rz)


def kernel_of(recurrence: Recurrence) -> Kernel:
    """The kernel of a cell with its weights."""
    if recurrence.cell == "GRU":
        return GRUKernel(recurrence) if recurrence.reset_after else GRUResetBeforeKernel(recurrence)
    return LSTMKernel(recurrence) if recurrence.cell == "LSTM" else SimpleRNNKernel(recurrence)
