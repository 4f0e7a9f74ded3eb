"""The cells of `rnn_torch.cells` run over many steps and differentiated by hand, arranged for speed, on any device.

- Forward, a part of the sequence at a time: one product gives W x_t + b for all its steps; each step adds W_h h_{t−1} and
  turns the sums into the gates, in place. Training keeps the gates and the states; inference reuses one buffer.
- Sequences of several lengths come packed: the rows of each step after those of the step before, longest sequence first.
  A step has the rows of the sequences that still go on; the state of the others stays as it is.
- Backward, the parts in reverse: what multiplies ∂L/∂h_t and ∂L/∂c_t on the way to the pre-activations depends on the
  forward pass alone, so it is computed for all steps of a part at once. Each step then scales it, in place, to ∂L/∂a_t and
  carries ∂L/∂h_{t−1} on. The gradients of the weights are one product over all steps of the part.

In what follows `a_q` is the pre-activation of gate q, and `d_q` is ∂L/∂q.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, repeat
from typing import Any, NamedTuple

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


Steps = list[tuple[Any, ...]]


class Part(NamedTuple):
    """Steps that are worked on together.

    Attributes:
        rows: where they are along the first axis of the data.
        runs: the steps that follow each other with the same sequences, and how many sequences those are.
        sizes: of packed data, how many sequences each step has, and the step before the part; else None.
    """

    rows: slice
    runs: list[tuple[slice, int]]
    sizes: list[int] | None = None
    size_before: int = 0

    def steps(self, *tensors: Tensor | None) -> Steps:
        """The tensors of each step; None for each step of a tensor that is None.

        A view takes as long to make as a small product, so that it is made once, not when used.
        """
        return list(zip(*map(self._each, tensors), strict=False))

    def _each(self, tensor: Tensor | None) -> Iterable[Tensor | None]:
        if tensor is None:
            return repeat(None)
        return tensor.unbind(0) if self.sizes is None else torch.split(tensor, self.sizes)

    def before(self, history: Tensor, initial: Tensor) -> Tensor:
        """The state before each step, arranged as `history`."""
        first, stop = self.rows.start, self.rows.stop
        if self.sizes is None:
            return history[first - 1 : stop - 1] if first else torch.cat([initial.unsqueeze(0), history[: stop - 1]])
        states = [
            history[first - self.size_before : first] if first else initial,
            *torch.split(history[self.rows], self.sizes),
        ]
        return torch.cat([h[:size] for h, size in zip(states, self.sizes, strict=False)])


def _largest(parts: list[Part]) -> int:
    """How long the longest part is along the first axis of the data."""
    return max((part.rows.stop - part.rows.start for part in parts), default=0)


def _zeros_like(weight: Tensor) -> Tensor:
    """Memory for a sum over parts, in float32 at least: in a lower precision the sum would lose what is added last."""
    return torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)


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

    def new(self, x: Tensor, length: int, features: int) -> Tensor:
        """Memory arranged as the data `x`: `(length, batch, features)`, or packed `(length, features)`."""
        if self.feature_major(x):
            return x.new_empty(length, features, x.size(1)).transpose(1, 2)
        return x.new_empty(length, *x.shape[1:-1], features)

    def new_gates(self, x: Tensor, keep: bool, sizes: list[int] | None = None) -> Tensor:
        """Memory for the gates of all steps, to `keep` them, or for those of a part."""
        return self.new(x, x.size(0) if keep else _largest(self.parts(x, sizes)), self.blocks * self.hidden)

    def project(self, x: Tensor, gates: Tensor) -> None:
        """W x_t + b for all steps of a part."""
        for rows, columns in self.inputs:
            W, b, a = self.W[rows], self.b[rows], gates[..., columns]
            if self.feature_major(x):
                torch.baddbmm(b[:, None], W.expand(x.size(0), *W.shape), x.transpose(1, 2), out=a.transpose(1, 2))
            else:
                torch.addmm(b, x.flatten(0, -2), W.t(), out=a.flatten(0, -2))

    def views(self, part: Part, gates: Tensor) -> Steps:
        """What `advance` needs of the gates at each step."""
        raise NotImplementedError

    def advance(self, gates: Steps, state: State, history: Steps) -> State:
        """Run over steps with the same sequences, from the inputs' share of the pre-activations in `gates`.

        Fills `gates` and `history`, and returns the state after the last step.
        """
        raise NotImplementedError

    def derivatives(
        self,
        part: Part,
        gates: Tensor,
        before: State,
        history: State,
        d_a: Tensor,
        d_history: tuple[Tensor | None, ...],
    ) -> Steps:
        """What `retreat` needs at each step: in `d_a`, shaped as `gates`, what ∂L/∂h_t and ∂L/∂c_t are to be multiplied by."""
        raise NotImplementedError

    def retreat(self, steps: Steps, d_state: State) -> None:
        """Walk backwards over steps with the same sequences: scale `d_a`, change `d_state` from after them to before them."""
        raise NotImplementedError

    def parts(self, x: Tensor, sizes: list[int] | None = None) -> list[Part]:
        """The parts of the data that are worked on one after the other; on a GPU the whole."""
        rows = max(ROWS, CACHED // (self.blocks * self.hidden)) if x.device.type == "cpu" else max(1, x[..., 0].numel())
        if sizes is None:
            time, batch = x.shape[:2]
            steps = max(1, rows // max(1, batch))
            stops = [(start, min(start + steps, time)) for start in range(0, time, steps)]
            return [Part(slice(start, stop), [(slice(0, stop - start), batch)]) for start, stop in stops]
        return _packed_parts(sizes, rows)

    def forward(self, x: Tensor, state: State, history: State, gates: Tensor, sizes: list[int] | None = None) -> State:
        """Fill the history and return the state after the last step; of packed data, that of the longest sequences.

        `gates` has room for all steps, and is filled, or for those of a part, and is used again for each.
        """
        keep, parts = len(gates) == x.size(0), self.parts(x, sizes)
        with torch.inference_mode():  # PyTorch does the least for each operation
            views = None if keep or sizes is not None else self.views(parts[0], gates)
            latest = self.new(x, _largest(parts), self.hidden) if self.feature_major(x) else None
            for part in parts:
                length = part.rows.stop - part.rows.start
                a = gates[part.rows] if keep else gates[:length]
                self.project(x[part.rows], a)
                h, *c = (each[part.rows] for each in history)
                written = h if latest is None else latest[:length]
                steps, filled = views or self.views(part, a), part.steps(written, *c)
                for run, size in part.runs:
                    state = state if sizes is None else tuple(each[:size] for each in state)
                    state = self.advance(steps[run], state, filled[run])
                if latest is not None:
                    h.copy_(written)
        return tuple(each.clone(memory_format=torch.contiguous_format) for each in state)

    def backward(
        self,
        x: Tensor,
        state: State,
        history: State,
        gates: Tensor,
        d_history: tuple[Tensor | None, ...],
        d_final: tuple[Tensor | None, ...],
        needs_d_x: bool,
        sizes: list[int] | None = None,
    ) -> list[Tensor | None]:
        """The gradients of `x`, the initial state and the packed weights."""
        d_x = torch.empty_like(x, memory_format=torch.contiguous_format) if needs_d_x else None
        d_W, d_R, d_b = (
            _zeros_like(self.W),
            _zeros_like(self.R),
            _zeros_like(self.W.new_empty(self.blocks * self.hidden)),
        )
        d_state = tuple(
            self._new_state(x, h).copy_(self.W.new_zeros(()) if d is None else d)
            for h, d in zip(state, d_final, strict=True)
        )
        parts = self.parts(x, sizes)
        buffer = self.new(x, _largest(parts), self.blocks * self.hidden)
        if self.feature_major(x):
            self.R = self.R.t().contiguous().t()  # for products with it, not with its transpose
        with torch.inference_mode():
            for part in reversed(parts):
                a, states = gates[part.rows], tuple(h[part.rows] for h in history)
                before = tuple(part.before(h, h_0) for h, h_0 in zip(history, state, strict=True))
                d_a = buffer[: len(a)]
                d_part = tuple(None if d is None else d[part.rows] for d in d_history)
                steps = self.derivatives(part, a, before, states, d_a, d_part)
                for run, size in reversed(part.runs):
                    # The sequences that have ended before this run wait in the rows behind.
                    self.retreat(steps[run][::-1], d_state if sizes is None else tuple(d[:size] for d in d_state))
                d_rows, x_rows = d_a.flatten(0, -2), x[part.rows].flatten(0, -2)
                for i, (rows, columns) in enumerate(self.inputs):
                    _add_product(d_W[rows], d_rows[:, columns].t(), x_rows)
                    if d_x is not None:
                        d_x[part.rows].flatten(0, -2).addmm_(d_rows[:, columns], self.W[rows], beta=min(i, 1))
                operands = self.operands(a, before[0])
                for (rows, columns), operand in zip(self.recurrent, operands, strict=True):
                    _add_product(d_R[rows], d_rows[:, columns].t(), operand.flatten(0, -2))
                d_b += d_rows.sum(0, dtype=d_b.dtype)
        d_biases = [torch.cat([d_b[columns] for _, columns in each]) for each in (self.inputs, self.recurrent)]
        d_packed = [d.to(self.W.dtype) for d in (d_W, d_R, *(d_biases if self.has_biases else []))]
        return [d_x, *(d.contiguous() for d in d_state), *d_packed]

    def _new_state(self, x: Tensor, h: Tensor) -> Tensor:
        """Memory for the gradient of a state, arranged as the steps are."""
        return self.new(x, 1, self.hidden)[0] if x.dim() == 3 else h.new_empty(h.shape)


def _packed_parts(sizes: list[int], limit: int) -> list[Part]:
    """Parts of packed data, each of as many steps as do not go beyond `limit` rows, or of one."""
    parts: list[Part] = []
    first, start = 0, 0
    while first < len(sizes):
        last, stop = first + 1, start + sizes[first]
        while last < len(sizes) and stop + sizes[last] - start <= limit:
            stop += sizes[last]
            last += 1
        runs, step = [], 0
        for size, group in groupby(sizes[first:last]):
            steps = len(list(group))
            runs.append((slice(step, step + steps), size))
            step += steps
        parts.append(Part(slice(start, stop), runs, sizes[first:last], sizes[first - 1] if first else 0))
        first, start = last, stop
    return parts


class SimpleRNNKernel(Kernel):
    """h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h); the buffer of the gates is the history itself."""

    blocks = 1

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
                _relu_backward(d_h, h_t, 0, grad_input=d_a_t)
            else:
                _tanh_backward(d_h, h_t, grad_input=d_a_t)
            torch.mm(d_a_t, self.R, out=d_h)


class LSTMKernel(Kernel):
    """i_t, f_t, o_t = σ(a_·), c̃_t = tanh(a_c); c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t; h_t = o_t ⊙ tanh(c_t).

    Blocks: i f c̃ o, as PyTorch packs them.
    """

    blocks = 4

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
        _sigmoid_backward(c_tilde, i, grad_input=a_i)  # ∂c_t/∂a_i
        _sigmoid_backward(before[1], f, grad_input=a_f)  # ∂c_t/∂a_f
        _tanh_backward(i, c_tilde, grad_input=a_c)  # ∂c_t/∂a_c
        tanh_c = torch.tanh(history[1])
        _sigmoid_backward(tanh_c, o, grad_input=a_o)  # ∂h_t/∂a_o
        h_by_c = _tanh_backward(o, tanh_c, grad_input=tanh_c)  # ∂h_t/∂c_t
        return part.steps(d_a, _by_gate(d_a[..., self.block(0, 3)], 3), a_o, h_by_c, f, *d_history)

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


class GRUKernel(Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + r_t ⊙ q_t) with q_t = W_hn h_{t−1} + b_hn;
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Blocks: r z q ñ, so that the recurrent product, whose rows are packed r z n, is one.
    """

    blocks = 4

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
        _tanh_backward(1 - z, n_tilde, grad_input=a_n)  # ∂h_t/∂a_n
        _sigmoid_backward(before[0] - n_tilde, z, grad_input=a_z)  # ∂h_t/∂a_z
        _sigmoid_backward(q, r, grad_input=a_r).mul_(a_n)  # ∂h_t/∂a_r
        torch.mul(r, a_n, out=d_q)  # ∂h_t/∂q_t
        return part.steps(_by_gate(d_a, 4), d_a[..., self.block(0, 3)], z, d_history[0])

    def retreat(self, steps: Steps, d_state: State) -> None:
        (d_h,) = d_state
        d_h_by_gate = d_h.unsqueeze(1)
        for d_a_t, d_r_z_q, z_t, d_h_t in steps:
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
        _tanh_backward(1 - z, n_tilde, grad_input=a_n)  # ∂h_t/∂a_n
        _sigmoid_backward(before[0] - n_tilde, z, grad_input=a_z)  # ∂h_t/∂a_z
        _sigmoid_backward(before[0], r, grad_input=a_r)  # ∂(r_t ⊙ h_{t−1})/∂a_r
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


def kernel_of(recurrence: Recurrence) -> Kernel:
    """The kernel of a cell with its weights."""
    if recurrence.cell == "GRU":
        return GRUKernel(recurrence) if recurrence.reset_after else GRUResetBeforeKernel(recurrence)
    return LSTMKernel(recurrence) if recurrence.cell == "LSTM" else SimpleRNNKernel(recurrence)
