"""For torch.compile, which would write the loop out: forward and backward as one operation each, into which it does not look.
What the fast forms do not take runs in these operations by way of `reference`, backwards a second time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnn_common.cells import CELLS
from rnn_torch.call import Call, sizes_of
from rnn_torch.cells.base import ACTIVATIONS, Recurrence, State
from rnn_torch.engines import Engine, fused, reference


class _Signature(NamedTuple):
    """A recurrence in what an operation can be given: numbers, words and tensors."""

    cell: str
    activations: str
    projected: bool

    def recurrence(self, masks: Sequence[Tensor]) -> Recurrence:
        cell = CELLS[self.cell]
        by_name = dict(zip(cell.recurrent_matrices, masks, strict=False))
        return Recurrence(cell, tuple(ACTIVATIONS[name] for name in self.activations.split()), by_name, self.projected)


def _signature(recurrence: Recurrence) -> _Signature:
    names = {f: name for name, f in ACTIVATIONS.items()}
    return _Signature(recurrence.cell.name, " ".join(names[f] for f in recurrence.activations), recurrence.projected)


def run(
    engine: Engine,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    batch_sizes: Tensor | None,
    all_states: bool,
) -> tuple[State, State]:
    """History and final state, by one operation."""
    keep = all_states or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *state, *weights)))
    masks = [recurrence.masks[name] for name in recurrence.cell.recurrent_matrices if name in recurrence.masks]
    *returned, _ = torch.ops.rnn_torch.fused(*_signature(recurrence), keep, x, state, list(weights), masks, batch_sizes)
    return tuple(returned[: -len(state)]), tuple(returned[-len(state) :])


@torch.library.custom_op("rnn_torch::fused", mutates_args=())
def _fused_op(
    cell: str,
    activations: str,
    projected: bool,
    keep: bool,
    x: Tensor,
    state: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    batch_sizes: Tensor | None,
) -> list[Tensor]:
    """History, final state, and what else the backward pass needs; without `keep`, of the history h_t alone."""
    recurrence, sizes = _Signature(cell, activations, projected).recurrence(masks), sizes_of(batch_sizes)
    if fused.refuses(recurrence, x):
        history, final, _ = reference.forward(recurrence, weights, x, tuple(state), sizes, keep)
        return [*history, *(h.clone() for h in final), x.new_empty(0)]
    history, final, gates = fused.forward(recurrence, weights, x, tuple(state), sizes, keep, keep)
    return [*history, *final, gates if keep and gates is not history[0] else x.new_empty(0)]


@_fused_op.register_fake
def _(
    cell: str, activations: str, projected: bool, keep: bool, x: Any, state: Any, weights: Any, masks: Any, _: Any
) -> Any:
    recurrence = _Signature(cell, activations, projected).recurrence(masks)
    if fused.refuses(recurrence, x):
        history: Any = [x.new_empty(*x.shape[:-1], h.size(-1)) for h in (state if keep else state[:1])]
        gates = x.new_empty(0)
    else:
        kernel = fused.make_kernel(recurrence, weights)
        history, _ = fused.new_history(kernel, x, state, keep)
        gates = kernel.new_gates(x, keep) if keep and kernel.blocks > 1 else x.new_empty(0)
    return [*history, *(h.new_empty(h.shape) for h in state), gates]


@torch.library.custom_op("rnn_torch::fused_backward", mutates_args=())
def _fused_backward_op(
    cell: str,
    activations: str,
    projected: bool,
    x: Tensor,
    state: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    batch_sizes: Tensor | None,
    history: list[Tensor],
    gates: Tensor,
    d_history: list[Tensor],
    d_final: list[Tensor],
    needs_d_x: bool,
) -> list[Tensor]:
    """The gradients of `x` (empty if not needed), the initial state and the weights."""
    recurrence = _Signature(cell, activations, projected).recurrence(masks)
    call = Call(fused, recurrence, sizes_of(batch_sizes), len(state))
    inputs, d_returned = [x, *state, *weights], [*d_history, *d_final]
    if fused.refuses(recurrence, x):
        return _differentiate_again(call, inputs, d_returned, needs_d_x)
    kept = [*history, gates if len(gates) else history[0]]
    d_x, *others = call.backward(inputs, kept, d_returned, needs_d_x)
    return [x.new_empty(0) if d_x is None else d_x, *others]


def _differentiate_again(call: Call, inputs: list[Tensor], d_returned: list[Tensor], needs_d_x: bool) -> list[Tensor]:
    """The gradients that `fused_backward` returns, of what is left to `reference`.

    By `torch.func`, since an operation runs below autograd, which would record nothing here.
    """

    def run(*inputs: Tensor) -> list[Tensor]:
        history, final, _ = reference.forward(call.recurrence, *call.split(inputs), call.sizes, all_states=True)
        return [*history, *final]

    vjp: Any = torch.func.vjp
    _, pull_back = vjp(run, *inputs)
    d_x, *others = pull_back(d_returned)
    # Biases that are added have one gradient; what an operation returns must be a tensor each.
    return [d_x.clone() if needs_d_x else d_x.new_empty(0), *(d.clone() for d in others)]


@_fused_backward_op.register_fake
def _(cell: str, activations: str, projected: bool, x: Tensor, state: Any, weights: Any, *rest: Any) -> list[Tensor]:
    return [x.new_empty(x.shape if rest[-1] else 0), *map(torch.empty_like, (*state, *weights))]


def _setup_context(ctx: Any, inputs: Any, output: list[Tensor]) -> None:
    *ctx.signature, _, x, state, weights, masks, ctx.batch_sizes = inputs
    ctx.counts = [1, len(state), len(weights), len(masks), len(state), 1]
    ctx.save_for_backward(x, *state, *weights, *masks, *output[: len(state)], output[-1])


def _backward_op(ctx: Any, d_returned: list[Tensor]) -> Any:
    tensors = iter(ctx.saved_tensors)
    (x,), state, weights, masks, history, (gates,) = [[next(tensors) for _ in range(count)] for count in ctx.counts]
    needs_d_x, n = ctx.needs_input_grad[4], len(state)
    d_x, *gradients = torch.ops.rnn_torch.fused_backward(
        *ctx.signature,
        x,
        state,
        weights,
        masks,
        ctx.batch_sizes,
        history,
        gates,
        d_returned[:n],
        d_returned[n : 2 * n],
        needs_d_x,
    )
    d_masks = [None] * len(masks)
    return *[None] * 4, d_x if needs_d_x else None, gradients[:n], gradients[n:], d_masks, None


_fused_op.register_autograd(_backward_op, setup_context=_setup_context)
