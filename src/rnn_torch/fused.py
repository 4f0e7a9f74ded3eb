"""The engine `fused`: the kernels of `rnn_torch.kernels`, with back-propagation through time by hand.

- Padding and gaps: the valid steps of each sequence are brought together in front, and the states are spread out again.
- Second derivatives go through `reference`, whose operations autograd knows.
- `torch.compile` sees one operation forwards and one backwards.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from common.parameters import CELLS, CellName
from rnn_torch.cells import Recurrence, State, no_autocast
from rnn_torch.kernels import IN_PLACE, Kernel, kernel_of
from rnn_torch.reference import reference


def fused(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    valid: Tensor | None = None,
    reverse: bool = False,
    all_states: bool = False,
) -> tuple[State, State]:
    """Takes what `leaves` does not name, see `rnn_torch.engines`."""
    if leaves(recurrence, x, state, valid):
        return reference(recurrence, x, state, valid, reverse, all_states)
    if reverse:
        x = x.flip(0)
    if valid is None:
        history, final = _run(recurrence, x, state, all_states)
    else:
        history, final = _run_valid(recurrence, x, state, (valid.flip(0) if reverse else valid).squeeze(-1))
    history = history if all_states else history[:1]
    return tuple(h.flip(0) for h in history) if reverse else history, final


def leaves(recurrence: Recurrence, x: Tensor, state: State, valid: Tensor | None = None) -> str | None:
    """What about a case this engine leaves to `reference`; None for the cases that it takes."""
    if recurrence.masks:
        return "dropout of the hidden state"
    if recurrence.W_hr is not None:
        return "a projection"
    if recurrence.cell == "SimpleRNN":
        if recurrence.activation not in IN_PLACE:
            return "an activation other than tanh and relu"
        if recurrence.activation is torch.relu and valid is not None:
            return "relu and padding, on which an unbounded state may overflow"
    elif (recurrence.activation, recurrence.recurrent_activation) != (torch.tanh, torch.sigmoid):
        return "activations other than tanh and σ"
    # Operations of PyTorch's own are what these can store, and differentiate in their own ways.
    if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return "exporting and tracing"
    if torch._C._are_functorch_transforms_active():
        return "the transforms of torch.func"
    if any(map(_has_tangent, (x, *state, *recurrence.packed))):
        return "forward-mode differentiation"
    return None


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


# Padding and gaps


def _run_valid(recurrence: Recurrence, x: Tensor, state: State, valid: Tensor) -> tuple[State, State]:
    """Run over the steps at which `valid (time, batch)` is True; at the others the state stays as it is.

    What the padding behind the last valid step does to the state is never read, so its derivative is zero.
    """
    order = torch.argsort(valid.logical_not().byte(), dim=0, stable=True)
    count = valid.cumsum(0)  # how many valid steps there are up to and with each
    padding = (torch.arange(x.size(0), device=x.device)[:, None] >= count[-1]).unsqueeze(-1)
    history, _ = _run(recurrence, _take(x, order).masked_fill(padding, 0), state, all_states=True)
    begun, latest = (count > 0).unsqueeze(-1), (count - 1).clamp(min=0)
    history = tuple(torch.where(begun, _take(h, latest), h_0) for h, h_0 in zip(history, state, strict=True))
    return history, tuple(h[-1] for h in history)


def _take(sequence: Tensor, steps: Tensor) -> Tensor:
    """For each step and sequence of a batch, the step of that sequence that `steps (time, batch)` names."""
    return sequence.gather(0, steps.unsqueeze(-1).expand(*steps.shape, sequence.size(-1)))


# Forward and backward


def _run(recurrence: Recurrence, x: Tensor, state: State, all_states: bool) -> tuple[State, State]:
    """Every h_t, with `all_states` every c_t, and the states after the last step."""
    tensors = (x, *state, *recurrence.packed)
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if torch.compiler.is_compiling():
        run = torch.ops.rnn_torch.fused
        returned = run(*_signature(recurrence), differentiable or all_states, x, state, recurrence.packed)[:-1]
    elif differentiable:
        returned = _BackPropagation.apply(dataclasses.replace(recurrence, packed=()), *tensors)  # type: ignore[no-untyped-call]
    else:
        history, final, _ = _forward(recurrence, x, state, keep=False, all_states=all_states)
        return history, final
    return returned[: -len(state)], returned[-len(state) :]


def _forward(
    recurrence: Recurrence, x: Tensor, state: State, keep: bool, all_states: bool
) -> tuple[State, State, Tensor]:
    """History, final state, and the gates: of all steps to `keep` them for the backward pass, or some memory."""
    kernel = kernel_of(recurrence)
    history, latest = _new_history(kernel, x, state, keep or all_states)
    gates = history[0] if kernel.blocks == 1 else kernel.new_gates(x, keep)
    return history, kernel.forward(x, state, (*history, *latest), gates), gates


def _new_history(kernel: Kernel, x: Tensor, state: State, all_states: bool) -> tuple[State, State]:
    """Memory for every h_t and, with `all_states`, every c_t.

    Of a c_t that nobody asks for only the latest is kept, second: a history all of whose steps are the same memory.
    """
    h, *c = state
    history = x.new_empty(x.size(0), *h.shape)
    if all_states:
        return (history, *(kernel.new(x, x.size(0), kernel.hidden) for _ in c)), ()
    return (history,), tuple(kernel.new(x, 1, kernel.hidden).expand(x.size(0), *each.shape) for each in c)


class _BackPropagation(torch.autograd.Function):
    """Back-propagation through time, from the inputs `x`, the state and the packed weights to history and final state."""

    @staticmethod
    def forward(ctx: Any, options: Recurrence, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        states = len(CELLS[options.cell].states)
        recurrence = dataclasses.replace(options, packed=tensors[states:])
        history, final, gates = _forward(recurrence, x, tensors[:states], keep=True, all_states=True)
        ctx.options = options
        ctx.save_for_backward(x, *tensors, *history, gates)
        ctx.set_materialize_grads(False)
        return (*history, *final)

    @staticmethod
    def backward(ctx: Any, *d_returned: Tensor | None) -> Any:
        states = len(CELLS[ctx.options.cell].states)
        x, *tensors = ctx.saved_tensors
        state, packed = tensors[:states], tensors[states : -states - 1]
        history, gates = tensors[-states - 1 : -1], tensors[-1]
        recurrence = dataclasses.replace(ctx.options, packed=tuple(packed))
        with no_autocast(x):
            if torch.is_grad_enabled():  # create_graph=True
                inputs = [tensor for tensor in (x, *state, *packed) if tensor.requires_grad]
                found = iter(_differentiate(recurrence, x, tuple(state), inputs, d_returned))
                gradients = [next(found) if tensor.requires_grad else None for tensor in (x, *state, *packed)]
            else:
                gradients = kernel_of(recurrence).backward(
                    x, state, history, gates, d_returned[:states], d_returned[states:], ctx.needs_input_grad[1]
                )
        return None, *gradients


def _differentiate(
    recurrence: Recurrence, x: Tensor, state: State, inputs: list[Tensor], d_returned: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """The same gradients by way of `reference`, in operations that can be differentiated again."""
    with torch.enable_grad():
        history, final = reference(recurrence, x, state, all_states=True)
        returned = [(y, d_y) for y, d_y in zip((*history, *final), d_returned, strict=True) if d_y is not None]
        outputs, cotangents = zip(*returned, strict=True)
        return torch.autograd.grad(outputs, inputs, cotangents, create_graph=True, allow_unused=True)


# For torch.compile, which would write the loop out: forward and backward as one operation each, into which it does not look.


def _signature(recurrence: Recurrence) -> tuple[str, bool, bool]:
    return recurrence.cell, recurrence.reset_after, recurrence.activation is torch.relu


def _from_signature(cell: str, reset_after: bool, relu: bool, packed: list[Tensor]) -> Recurrence:
    return Recurrence(cast(CellName, cell), tuple(packed), reset_after, torch.relu if relu else torch.tanh)


@torch.library.custom_op("rnn_torch::fused", mutates_args=())
def _fused_op(
    cell: str, reset_after: bool, relu: bool, keep: bool, x: Tensor, state: list[Tensor], packed: list[Tensor]
) -> list[Tensor]:
    """History, final state, and what else the backward pass needs; without `keep`, of the history h_t alone."""
    recurrence = _from_signature(cell, reset_after, relu, packed)
    history, final, gates = _forward(recurrence, x, tuple(state), keep, all_states=keep)
    return [*history, *final, gates if keep and gates is not history[0] else x.new_empty(0)]


@_fused_op.register_fake
def _(cell: str, reset_after: bool, relu: bool, keep: bool, x: Tensor, state: Any, packed: Any) -> list[Tensor]:
    kernel = kernel_of(_from_signature(cell, reset_after, relu, packed))
    gates = kernel.new_gates(x, keep) if keep and kernel.blocks > 1 else x.new_empty(0)
    history, _ = _new_history(kernel, x, state, keep)
    return [*history, *(h.new_empty(h.shape) for h in state), gates]


@torch.library.custom_op("rnn_torch::fused_backward", mutates_args=())
def _fused_backward_op(
    cell: str,
    reset_after: bool,
    relu: bool,
    x: Tensor,
    state: list[Tensor],
    packed: list[Tensor],
    history: list[Tensor],
    gates: Tensor,
    d_history: list[Tensor],
    d_final: list[Tensor],
    needs_d_x: bool,
) -> list[Tensor]:
    """The gradients of `x` (empty if not needed), the initial state and the packed weights."""
    kernel = kernel_of(_from_signature(cell, reset_after, relu, packed))
    gates = gates if kernel.blocks > 1 else history[0]
    d_x, *others = kernel.backward(x, state, history, gates, tuple(d_history), tuple(d_final), needs_d_x)
    return [x.new_empty(0) if d_x is None else d_x, *cast(list[Tensor], others)]


@_fused_backward_op.register_fake
def _(cell: str, reset_after: bool, relu: bool, x: Tensor, state: Any, packed: Any, *rest: Any) -> list[Tensor]:
    return [x.new_empty(x.shape if rest[-1] else 0), *map(torch.empty_like, (*state, *packed))]


def _setup_context(ctx: Any, inputs: Any, output: list[Tensor]) -> None:
    *ctx.signature, _, x, state, packed = inputs
    ctx.states = len(state)
    ctx.save_for_backward(x, *state, *packed, *output[: len(state)], output[-1])


def _backward_op(ctx: Any, d_returned: list[Tensor]) -> Any:
    x, *tensors = ctx.saved_tensors
    n = ctx.states
    state, packed, history, gates = tensors[:n], tensors[n : -n - 1], tensors[-n - 1 : -1], tensors[-1]
    needs_d_x = ctx.needs_input_grad[4]
    d_x, *gradients = torch.ops.rnn_torch.fused_backward(
        *ctx.signature, x, state, packed, history, gates, d_returned[:n], d_returned[n : 2 * n], needs_d_x
    )
    return *[None] * 4, d_x if needs_d_x else None, gradients[:n], gradients[n:]


_fused_op.register_autograd(_backward_op, setup_context=_setup_context)
