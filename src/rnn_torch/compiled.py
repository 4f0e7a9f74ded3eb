"""For torch.compile, which would write the loop out: forward and backward as one operation each, into which it does not look.
What no engine with a backward pass takes runs in these operations by way of `reference`, backwards a second time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnn_common.cells import CELLS
from rnn_torch import private
from rnn_torch.activations import ACTIVATIONS, name_of
from rnn_torch.call import Call, sizes_of
from rnn_torch.cells.base import Recurrence, State
from rnn_torch.engines import ENGINES, Engine, fused, native, order, reference, vendor

# Computed once and for all: the first time is under a lock in Python 3.11, which torch.compile does not enter.
MASKED = {cell.name: cell.recurrent_matrices for cell in CELLS.values()}


class _Signature(NamedTuple):
    """A recurrence in what an operation can be given: numbers, words and tensors."""

    cell: str
    activations: str
    projected: bool

    def recurrence(self, masks: Sequence[Tensor]) -> Recurrence:
        cell = CELLS[self.cell]
        by_name = dict(zip(MASKED[cell.name], masks, strict=False))
        return Recurrence(cell, tuple(ACTIVATIONS[name] for name in self.activations.split()), by_name, self.projected)


def _signature(recurrence: Recurrence) -> _Signature:
    names = " ".join(name_of(f) for f in recurrence.activations)
    return _Signature(recurrence.cell.name, names, recurrence.projected)


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
    masks = [recurrence.masks[name] for name in MASKED[recurrence.cell.name] if name in recurrence.masks]
    returned = torch.ops.rnn_torch.unroll(
        engine.name, *_signature(recurrence), all_states, keep, x, state, list(weights), masks, batch_sizes
    )
    histories, states = len(state) if keep else 1, len(state)
    return tuple(returned[:histories]), tuple(returned[histories : histories + states])


def _engine(name: str, recurrence: Recurrence, x: Tensor, all_states: bool) -> Engine:
    """The engine, or the next that takes the case: that is not asked before, so that a loop is one operation whatever runs it."""
    names = order(x.device.type, recurrence.cell.name)
    names = names[names.index(name) :] if name in names else (name, "reference")
    return next(ENGINES[each] for each in names if ENGINES[each].refuses(recurrence, x, all_states) is None)


@torch.library.custom_op("rnn_torch::unroll", mutates_args=())
def _unroll_op(
    engine: str,
    cell: str,
    activations: str,
    projected: bool,
    all_states: bool,
    keep: bool,
    x: Tensor,
    state: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    batch_sizes: Tensor | None,
) -> list[Tensor]:
    """History, final state, and what else the backward pass needs; without `keep`, of the history h_t alone.

    Of a c_t that an engine has not there is nothing, and of what `vendor` would save, which is a graph.
    """
    recurrence, sizes = _Signature(cell, activations, projected).recurrence(masks), sizes_of(batch_sizes)
    chosen = _engine(engine, recurrence, x, all_states)
    if chosen is reference:
        history, final, _ = reference.forward(recurrence, weights, x, tuple(state), sizes, keep)
        return [*history, *(h.clone() for h in final)]
    if chosen is vendor:
        history, final, _ = vendor.forward(recurrence, weights, x, tuple(state), sizes)
        return [*history, *(x.new_empty(0) for _ in state[1:] if keep), *final]
    history, final, saved = chosen.forward(recurrence, weights, x, tuple(state), sizes, keep, keep)
    return [*(history if keep else history[:1]), *final, *saved]


@_unroll_op.register_fake
def _(
    engine: str,
    cell: str,
    activations: str,
    projected: bool,
    all_states: bool,
    keep: bool,
    x: Any,
    state: Any,
    weights: Any,
    masks: Any,
    _: Any,
) -> Any:
    recurrence = _Signature(cell, activations, projected).recurrence(masks)
    chosen = _engine(engine, recurrence, x, all_states)
    history: Any = [x.new_empty(*x.shape[:-1], h.size(-1)) for h in (state if keep else state[:1])]
    saved: list[Any] = []
    if chosen is vendor:
        history[1:] = [x.new_empty(0) for _ in history[1:]]
    elif chosen is native and keep:
        gates = native.new_gates(recurrence, x, state, keep)
        saved = [gates] if gates.size(-1) else []
    elif chosen is fused:
        kernel = fused.make_kernel(recurrence, weights)
        history, _ = fused.new_history(kernel, x, state, keep)
        saved = [kernel.new_gates(x, keep)] if keep and kernel.blocks > 1 else []
    return [*history, *(h.new_empty(h.shape) for h in state), *saved]


@torch.library.custom_op("rnn_torch::unroll_backward", mutates_args=())
def _unroll_backward_op(
    engine: str,
    cell: str,
    activations: str,
    projected: bool,
    all_states: bool,
    x: Tensor,
    state: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    batch_sizes: Tensor | None,
    history: list[Tensor],
    saved: list[Tensor],
    d_history: list[Tensor],
    d_final: list[Tensor],
    needs_d_x: bool,
) -> list[Tensor]:
    """The gradients of `x` (empty if not needed), the initial state and the weights."""
    recurrence = _Signature(cell, activations, projected).recurrence(masks)
    call = Call(_engine(engine, recurrence, x, all_states), recurrence, sizes_of(batch_sizes), len(state), all_states)
    inputs = [x, *state, *weights]
    if call.engine is reference:
        return _differentiate_again(call, inputs, [*d_history, *d_final], needs_d_x)
    around: AbstractContextManager[Any] = nullcontext()
    if call.engine is vendor:
        history, d_history, around = history[:1], d_history[:1], private.above_autograd()
    with around:
        d_x, *others = call.backward(inputs, tuple(history), tuple(saved), [*d_history, *d_final], needs_d_x)
    if call.engine is vendor:
        others = [d.clone() for d in others]  # cuDNN's lie in one piece of memory
    return [x.new_empty(0) if d_x is None else d_x, *others]


def _differentiate_again(call: Call, inputs: list[Tensor], d_returned: list[Tensor], needs_d_x: bool) -> list[Tensor]:
    """The gradients that `unroll_backward` returns, of what is left to `reference`.

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


@_unroll_backward_op.register_fake
def _(
    engine: str,
    cell: str,
    activations: str,
    projected: bool,
    all_states: bool,
    x: Tensor,
    state: Any,
    weights: Any,
    *rest: Any,
) -> list[Tensor]:
    return [x.new_empty(x.shape if rest[-1] else 0), *(each.new_empty(each.shape) for each in (*state, *weights))]


def _setup_context(ctx: Any, inputs: Any, output: list[Tensor]) -> None:
    *ctx.signature, _, x, state, weights, masks, ctx.batch_sizes = inputs
    kept = [*output[: len(state)], *output[2 * len(state) :]]
    ctx.counts = [1, len(state), len(weights), len(masks), len(state), len(kept) - len(state)]
    ctx.save_for_backward(x, *state, *weights, *masks, *kept)


def _backward_op(ctx: Any, d_returned: list[Tensor]) -> Any:
    tensors = iter(ctx.saved_tensors)
    (x,), state, weights, masks, history, saved = [[next(tensors) for _ in range(count)] for count in ctx.counts]
    needs_d_x, n = ctx.needs_input_grad[6], len(state)
    d_x, *gradients = torch.ops.rnn_torch.unroll_backward(
        *ctx.signature,
        x,
        state,
        weights,
        masks,
        ctx.batch_sizes,
        history,
        saved,
        d_returned[:n],
        d_returned[n : 2 * n],
        needs_d_x,
    )
    d_masks = [None] * len(masks)
    return *[None] * 6, d_x if needs_d_x else None, gradients[:n], gradients[n:], d_masks, None


_unroll_op.register_autograd(_backward_op, setup_context=_setup_context)
