"""What the fast forms of the cells share: many steps run and differentiated by hand, arranged for speed, on any device.

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

import torch
from torch import Tensor

from rnn_torch.cells.base import Activation, State
from rnn_torch.cells.memory import CACHED, ROWS, Part, Steps, add_product, largest, packed_parts, zeros_for_sum

# From ∂L/∂y and y = f(a) to ∂L/∂a = ∂L/∂y f'(a), in the operations that autograd itself uses.
sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input
relu_backward = torch.ops.aten.threshold_backward.grad_input


def by_gate(blocks: Tensor, count: int) -> Tensor:
    """`(…, count · hidden)` as `(…, count, hidden)`."""
    return blocks.view(*blocks.shape[:-1], count, blocks.size(-1) // count)


class Kernel:
    """What the cells share. A kernel differs in how it goes over the steps of one part, forwards and backwards.

    The buffer `gates (time, batch, blocks · hidden)` holds a block for each gate; which rows of the packed weights go into
    which columns of it, `inputs` says for W and `recurrent` for R. Shapes are the same everywhere; where `feature_major`
    says so, the memory behind them is `(time, blocks · hidden, batch)`.

    Attributes:
        blocks: how many gates the buffer has.
        activations: those that the cell's step may be given, one set for each.
    """

    blocks: int
    activations: tuple[tuple[Activation, ...], ...]

    def __init__(self, activations: tuple[Activation, ...], weights: tuple[Tensor, ...]) -> None:
        self.activation = activations[0]
        self.W, self.R, *biases = weights
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
        return self.new(x, x.size(0) if keep else largest(self.parts(x, sizes)), self.blocks * self.hidden)

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
        return packed_parts(sizes, rows)

    def forward(self, x: Tensor, state: State, history: State, gates: Tensor, sizes: list[int] | None = None) -> State:
        """Fill the history and return the state after the last step; of packed data, that of the longest sequences.

        `gates` has room for all steps, and is filled, or for those of a part, and is used again for each.
        """
        keep, parts = len(gates) == x.size(0), self.parts(x, sizes)
        with torch.inference_mode():  # PyTorch does the least for each operation
            views = None if keep or sizes is not None else self.views(parts[0], gates)
            latest = self.new(x, largest(parts), self.hidden) if self.feature_major(x) else None
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
            zeros_for_sum(self.W),
            zeros_for_sum(self.R),
            zeros_for_sum(self.W.new_empty(self.blocks * self.hidden)),
        )
        d_state = tuple(
            self._new_state(x, h).copy_(self.W.new_zeros(()) if d is None else d)
            for h, d in zip(state, d_final, strict=True)
        )
        parts = self.parts(x, sizes)
        buffer = self.new(x, largest(parts), self.blocks * self.hidden)
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
                    add_product(d_W[rows], d_rows[:, columns].t(), x_rows)
                    if d_x is not None:
                        d_x[part.rows].flatten(0, -2).addmm_(d_rows[:, columns], self.W[rows], beta=min(i, 1))
                operands = self.operands(a, before[0])
                for (rows, columns), operand in zip(self.recurrent, operands, strict=True):
                    add_product(d_R[rows], d_rows[:, columns].t(), operand.flatten(0, -2))
                d_b += d_rows.sum(0, dtype=d_b.dtype)
        d_biases = [torch.cat([d_b[columns] for _, columns in each]) for each in (self.inputs, self.recurrent)]
        d_packed = [d.to(self.W.dtype) for d in (d_W, d_R, *(d_biases if self.has_biases else []))]
        return [d_x, *(d.contiguous() for d in d_state), *d_packed]

    def _new_state(self, x: Tensor, h: Tensor) -> Tensor:
        """Memory for the gradient of a state, arranged as the steps are."""
        return self.new(x, 1, self.hidden)[0] if x.dim() == 3 else h.new_empty(h.shape)
