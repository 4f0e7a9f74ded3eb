"""The engine `fused`: the kernels of `rnn_torch.kernels`, with back-propagation through time by hand.

- Sequences of several lengths are run packed, so that the cost follows the steps that there are.
- The gradient is a function of its own, `_Gradient`, whose derivative goes through `reference`: on tensors cut off from the
  graph around the layer, which must not be walked a second time.
- What watches or replaces PyTorch's operations (exporting, transforms, modes, tensors of other classes) sees `reference`.
- `torch.compile` sees one operation forwards and one backwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rnn_common.cells import CELLS, CellName
from rnn_torch.cells import Recurrence, State, no_autocast
from rnn_torch.kernels import IN_PLACE, Kernel, kernel_of
from rnn_torch.reference import reference


def fused(
    recurrence: Recurrence,
    x: Tensor,
    state: State,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
    all_states: bool = False,
) -> tuple[State, State]:
    """Takes what `leaves` does not name, see `rnn_torch.engines`."""
    compiling = torch.compiler.is_compiling()
    if _watched(recurrence, x, state) or (not compiling and leaves(recurrence, x, state)):
        return reference(recurrence, x, state, batch_sizes, reverse, all_states)
    batch = state[0].size(0)
    if reverse:
        x = _reversed(x, batch_sizes, batch)
    run = _run_compiled if compiling else _run
    history, final = run(recurrence, x, state, batch_sizes, all_states or batch_sizes is not None)
    history = history if all_states else history[:1]
    return tuple(_reversed(h, batch_sizes, batch) for h in history) if reverse else history, final


def leaves(recurrence: Recurrence, x: Tensor, state: State) -> str | None:
    """What about a case this engine leaves to `reference`; None for the cases that it takes."""
    return _not_in_kernels(recurrence, x) or _watched(recurrence, x, state)


def _not_in_kernels(recurrence: Recurrence, x: Tensor) -> str | None:
    """What the kernels do not compute."""
    if recurrence.masks:
        return "dropout of the hidden state"
    if recurrence.W_hr is not None:
        return "a projection"
    if recurrence.cell == "SimpleRNN":
        if recurrence.activation not in IN_PLACE:
            return "an activation other than tanh and relu"
    elif (recurrence.activation, recurrence.recurrent_activation) != (torch.tanh, torch.sigmoid):
        return "activations other than tanh and σ"
    if x.is_complex():
        return "complex numbers, whose derivatives need conjugates"
    return None


def _watched(recurrence: Recurrence, x: Tensor, state: State) -> str | None:
    """What watches or replaces single operations, in PyTorch's own ways, and would not see them inside the kernels."""
    if torch.compiler.is_exporting():
        return "exporting"
    if torch._C._are_functorch_transforms_active():
        return "the transforms of torch.func"
    tensors = (x, *state, *recurrence.packed)
    if any(map(_has_tangent, tensors)):
        return "forward-mode differentiation"
    if torch.compiler.is_compiling():
        return None
    if torch._C._len_torch_dispatch_stack():
        return "a mode that watches operations, such as those of make_fx and FlopCounterMode"
    if any(map(_is_of_own_class, tensors)):
        return "tensors of a class with operations of its own"
    return None


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


# Packed data: the rows of each step after those of the step before, longest sequence first


def _starts(batch_sizes: Tensor) -> Tensor:
    """The first row of each step."""
    return batch_sizes.cumsum(0) - batch_sizes


def _lengths(batch_sizes: Tensor, batch: int) -> Tensor:
    """How many steps each sequence has."""
    ascending = batch_sizes.flip(0)
    sequences = torch.arange(batch, device=batch_sizes.device)
    return len(batch_sizes) - torch.searchsorted(ascending, sequences, right=True)


def _last_rows(batch_sizes: Tensor, batch: int) -> Tensor:
    """The row of each sequence's last step."""
    return _starts(batch_sizes)[_lengths(batch_sizes, batch) - 1] + torch.arange(batch, device=batch_sizes.device)


def _reversed(sequence: Tensor, batch_sizes: Tensor | None, batch: int) -> Tensor:
    """Each sequence from its own last step to its first."""
    if batch_sizes is None:
        return sequence.flip(0)
    starts, device = _starts(batch_sizes), batch_sizes.device
    steps = torch.arange(len(batch_sizes), device=device).repeat_interleave(batch_sizes, output_size=len(sequence))
    sequences = torch.arange(len(sequence), device=device) - starts[steps]
    last = _lengths(batch_sizes, batch)[sequences] - 1
    return sequence.index_select(0, (starts[last - steps] + sequences).to(sequence.device))


# Forward and backward


def _run(
    recurrence: Recurrence, x: Tensor, state: State, batch_sizes: Tensor | None, all_states: bool
) -> tuple[State, State]:
    """Every h_t, with `all_states` every c_t, and the states after the last step."""
    tensors = (x, *state, *recurrence.packed)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        options = dataclasses.replace(recurrence, packed=())
        returned = _BackPropagation.apply(options, batch_sizes, *tensors)  # type: ignore[no-untyped-call]
        return returned[: -len(state)], returned[-len(state) :]
    history, final, _ = _forward(recurrence, x, state, batch_sizes, keep=False, all_states=all_states)
    return history, final


def _forward(
    recurrence: Recurrence, x: Tensor, state: State, batch_sizes: Tensor | None, keep: bool, all_states: bool
) -> tuple[State, State, Tensor]:
    """History, final state, and the gates: of all steps to `keep` them for the backward pass, or some memory."""
    kernel, sizes = kernel_of(recurrence), _sizes(batch_sizes)
    history, latest = _new_history(kernel, x, state, keep or all_states)
    gates = history[0] if kernel.blocks == 1 else kernel.new_gates(x, keep, sizes)
    final = kernel.forward(x, state, (*history, *latest), gates, sizes)
    if batch_sizes is not None:
        rows = _last_rows(batch_sizes, len(state[0])).to(x.device)
        final = tuple(h.index_select(0, rows) for h in history)
    return history, final, gates


def _sizes(batch_sizes: Tensor | None) -> list[int] | None:
    return None if batch_sizes is None else batch_sizes.tolist()


def _new_history(kernel: Kernel, x: Tensor, state: State, all_states: bool) -> tuple[State, State]:
    """Memory for every h_t and, with `all_states`, every c_t.

    Of a c_t that nobody asks for only the latest is kept, second: a history all of whose steps are the same memory.
    """
    history = x.new_empty(*x.shape[:-1], kernel.hidden)
    if all_states:
        return (history, *(kernel.new(x, x.size(0), kernel.hidden) for _ in state[1:])), ()
    return (history,), tuple(kernel.new(x, 1, kernel.hidden).expand(history.shape) for _ in state[1:])


class _BackPropagation(torch.autograd.Function):
    """Back-propagation through time, from the inputs `x`, the state and the packed weights to history and final state."""

    @staticmethod
    def forward(ctx: Any, options: Recurrence, batch_sizes: Tensor | None, x: Tensor, *tensors: Tensor) -> State:
        states = len(CELLS[options.cell].states)
        recurrence = dataclasses.replace(options, packed=tensors[states:])
        history, final, gates = _forward(recurrence, x, tensors[:states], batch_sizes, keep=True, all_states=True)
        ctx.options, ctx.batch_sizes = options, batch_sizes
        ctx.save_for_backward(x, *tensors, *history, gates)
        ctx.set_materialize_grads(False)
        return (*history, *final)

    @staticmethod
    def backward(ctx: Any, *d_returned: Tensor | None) -> Any:
        states = len(CELLS[ctx.options.cell].states)
        saved = ctx.saved_tensors  # to be unpacked once: it may be computed anew
        inputs, kept = saved[: -states - 1], saved[-states - 1 :]
        d_returned = tuple(_dense(d) for d in d_returned)
        needs = ctx.needs_input_grad[2:]
        with no_autocast(inputs[0]):
            if _gradients_are_watched(d_returned):
                again = torch.is_grad_enabled()
                inputs = _cut_off(inputs, needs, again)
                gradients = _differentiate(ctx.options, ctx.batch_sizes, inputs, d_returned, needs, again)
            elif torch.is_grad_enabled():  # create_graph=True
                kept = [tensor.detach() for tensor in kept]
                gradients = _Gradient.apply(ctx.options, ctx.batch_sizes, kept, needs, *inputs, *d_returned)  # type: ignore[no-untyped-call]
            else:
                gradients = _backward(ctx.options, ctx.batch_sizes, inputs, kept, d_returned, needs[0])
        return None, None, *gradients


class _Gradient(torch.autograd.Function):
    """The backward pass as a function that has a derivative: from inputs and ∂L/∂ what is returned to ∂L/∂ the inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        options: Recurrence,
        batch_sizes: Tensor | None,
        kept: list[Tensor],
        needs: tuple[bool, ...],
        *tensors: Tensor | None,
    ) -> Any:
        inputs, d_returned = cast(State, tensors[: len(needs)]), tensors[len(needs) :]
        ctx.options, ctx.batch_sizes, ctx.needs = options, batch_sizes, needs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        gradients = _backward(options, batch_sizes, inputs, kept, d_returned, needs[0])
        return tuple(d if need else None for d, need in zip(gradients, needs, strict=True))

    @staticmethod
    def backward(ctx: Any, *d_gradients: Tensor | None) -> Any:
        wanted = ctx.needs_input_grad[4:]
        again = torch.is_grad_enabled()
        tensors = _cut_off(ctx.saved_tensors, wanted, again)
        inputs, d_returned = tensors[: len(ctx.needs)], tensors[len(ctx.needs) :]
        with no_autocast(cast(Tensor, inputs[0])), torch.enable_grad():
            gradients = _differentiate(ctx.options, ctx.batch_sizes, cast(Any, inputs), d_returned, ctx.needs, True)
            pairs = [
                (d, dd)
                for d, dd in zip(gradients, d_gradients, strict=True)
                if d is not None and d.requires_grad and dd is not None
            ]
            targets = [t for t, need in zip(tensors, wanted, strict=True) if need]
            found: Sequence[Tensor | None] = [None] * len(targets)
            if pairs and targets:
                outputs, cotangents = zip(*pairs, strict=True)
                found = torch.autograd.grad(
                    outputs, cast(Any, targets), cotangents, create_graph=again, allow_unused=True
                )
        each = iter(found)
        return *[None] * 4, *(next(each) if need else None for need in wanted)


def _cut_off(tensors: Sequence[Tensor | None], needs: Sequence[bool], again: bool) -> list[Any]:
    """The same tensors without the graph around the layer, in which one may depend on another.

    To be differentiated `again` they are views, at which differentiation stops; else they are detached.
    """
    with torch.enable_grad():
        return [
            None if t is None else t.view_as(t) if again else t.detach().requires_grad_(need)
            for t, need in zip(tensors, needs, strict=True)
        ]


def _dense(gradient: Tensor | None) -> Tensor | None:
    """Sparse gradients, as `torch.gather` and `functional.embedding` give on request, as plain tensors."""
    return gradient if gradient is None or gradient.layout is torch.strided else gradient.to_dense()


def _gradients_are_watched(gradients: Sequence[Tensor | None]) -> bool:
    """Whether a backward pass is batched (`is_grads_batched`), traced or counted, so that the kernels would not be seen."""
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or any(d is not None and (_is_batched(d) or _is_of_own_class(d)) for d in gradients)
    )


def _is_batched(tensor: Tensor) -> bool:
    return torch._C._functorch.is_legacy_batchedtensor(tensor)


def _is_of_own_class(tensor: Tensor) -> bool:
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__


def _backward(
    options: Recurrence,
    batch_sizes: Tensor | None,
    inputs: Sequence[Tensor],
    kept: Sequence[Tensor],
    d_returned: Sequence[Tensor | None],
    needs_d_x: bool,
) -> list[Tensor | None]:
    """The gradients of the inputs by the kernels, from what the forward pass kept."""
    states = len(CELLS[options.cell].states)
    x, state, packed = inputs[0], tuple(inputs[1 : 1 + states]), tuple(inputs[1 + states :])
    kernel = kernel_of(dataclasses.replace(options, packed=packed))
    history, gates = tuple(kept[:-1]), kept[-1]
    d_history, d_final = tuple(d_returned[:states]), tuple(d_returned[states:])
    return kernel.backward(x, state, history, gates, d_history, d_final, needs_d_x, _sizes(batch_sizes))


def _differentiate(
    options: Recurrence,
    batch_sizes: Tensor | None,
    inputs: Sequence[Tensor],
    d_returned: Sequence[Tensor | None],
    needs: Sequence[bool],
    again: bool,
) -> list[Tensor | None]:
    """The same gradients by way of `reference`, in operations that can be differentiated again."""
    states = len(CELLS[options.cell].states)
    x, state, packed = inputs[0], tuple(inputs[1 : 1 + states]), tuple(inputs[1 + states :])
    with torch.enable_grad():
        recurrence = dataclasses.replace(options, packed=packed)
        history, final = reference(recurrence, x, state, batch_sizes, all_states=True)
        pairs = [(y, d) for y, d in zip((*history, *final), d_returned, strict=True) if d is not None]
        wanted = [tensor for tensor, need in zip(inputs, needs, strict=True) if need]
        outputs, cotangents = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, cotangents, create_graph=again))
    return [next(found) if need else None for need in needs]


# For torch.compile, which would write the loop out: forward and backward as one operation each, into which it does not look.
# What the kernels do not take runs in these operations by way of `reference`, backwards a second time.


def _run_compiled(
    recurrence: Recurrence, x: Tensor, state: State, batch_sizes: Tensor | None, all_states: bool
) -> tuple[State, State]:
    """See `_run`."""
    tensors = (x, *state, *_weights(recurrence))
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    returned = torch.ops.rnn_torch.fused(
        *_signature(recurrence),
        differentiable or all_states,
        x,
        state,
        _weights(recurrence),
        _masks(recurrence),
        batch_sizes,
    )[:-1]
    return returned[: -len(state)], returned[-len(state) :]


def _weights(recurrence: Recurrence) -> list[Tensor]:
    return [*recurrence.packed, *([] if recurrence.W_hr is None else [recurrence.W_hr])]


def _masks(recurrence: Recurrence) -> list[Tensor]:
    return list(recurrence.masks.values())


def _signature(recurrence: Recurrence) -> tuple[str, bool, bool, bool]:
    relu = recurrence.activation is torch.relu
    return recurrence.cell, recurrence.reset_after, relu, recurrence.W_hr is not None


def _from_signature(
    cell: str, reset_after: bool, relu: bool, projected: bool, weights: Sequence[Tensor], masks: Sequence[Tensor]
) -> Recurrence:
    kind = CELLS[cast(CellName, cell)]
    names = map(kind.recurrent_weight, kind.gates)
    return Recurrence(
        kind.name,
        tuple(weights[:-1] if projected else weights),
        reset_after,
        torch.relu if relu else torch.tanh,
        masks=dict(zip(names, masks, strict=False)),
        W_hr=weights[-1] if projected else None,
    )


@torch.library.custom_op("rnn_torch::fused", mutates_args=())
def _fused_op(
    cell: str,
    reset_after: bool,
    relu: bool,
    projected: bool,
    keep: bool,
    x: Tensor,
    state: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    batch_sizes: Tensor | None,
) -> list[Tensor]:
    """History, final state, and what else the backward pass needs; without `keep`, of the history h_t alone."""
    recurrence = _from_signature(cell, reset_after, relu, projected, weights, masks)
    if _not_in_kernels(recurrence, x):
        history, final = reference(recurrence, x, tuple(state), batch_sizes, all_states=keep)
        return [*history, *(h.clone() for h in final), x.new_empty(0)]
    history, final, gates = _forward(recurrence, x, tuple(state), batch_sizes, keep, all_states=keep)
    return [*history, *final, gates if keep and gates is not history[0] else x.new_empty(0)]


@_fused_op.register_fake
def _(
    cell: str,
    reset_after: bool,
    relu: bool,
    projected: bool,
    keep: bool,
    x: Tensor,
    state: Any,
    weights: Any,
    masks: Any,
    _: Any,
) -> list[Tensor]:
    recurrence = _from_signature(cell, reset_after, relu, projected, weights, masks)
    if _not_in_kernels(recurrence, x):
        history: Any = [x.new_empty(*x.shape[:-1], h.size(-1)) for h in (state if keep else state[:1])]
        gates = x.new_empty(0)
    else:
        kernel = kernel_of(recurrence)
        history, _ = _new_history(kernel, x, state, keep)
        gates = kernel.new_gates(x, keep) if keep and kernel.blocks > 1 else x.new_empty(0)
    return [*history, *(h.new_empty(h.shape) for h in state), gates]


@torch.library.custom_op("rnn_torch::fused_backward", mutates_args=())
def _fused_backward_op(
    cell: str,
    reset_after: bool,
    relu: bool,
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
    recurrence = _from_signature(cell, reset_after, relu, projected, weights, masks)
    if _not_in_kernels(recurrence, x):
        return _differentiate_again(recurrence, x, state, batch_sizes, [*d_history, *d_final], needs_d_x)
    kept = [*history, gates if kernel_of(recurrence).blocks > 1 else history[0]]
    d_x, *others = _backward(recurrence, batch_sizes, [x, *state, *weights], kept, [*d_history, *d_final], needs_d_x)
    return [x.new_empty(0) if d_x is None else d_x, *cast(list[Tensor], others)]


def _differentiate_again(
    recurrence: Recurrence,
    x: Tensor,
    state: list[Tensor],
    batch_sizes: Tensor | None,
    d_returned: list[Tensor],
    needs_d_x: bool,
) -> list[Tensor]:
    """The gradients that `fused_backward` returns, of what is left to `reference`.

    By `torch.func`, since an operation runs below autograd, which would record nothing here.
    """

    def run(x: Tensor, state: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
        same = _from_signature(*_signature(recurrence), weights, _masks(recurrence))
        history, final = reference(same, x, tuple(state), batch_sizes, all_states=True)
        return [*history, *final]

    vjp: Any = torch.func.vjp
    _, pull_back = vjp(run, x, state, _weights(recurrence))
    d_x, d_state, d_weights = pull_back(d_returned)
    gradients = [d_x if needs_d_x else x.new_empty(0), *d_state, *d_weights]
    # Biases that are added have one gradient; what an operation returns must be a tensor each.
    return [d.clone() for d in gradients]


@_fused_backward_op.register_fake
def _(
    cell: str, reset_after: bool, relu: bool, projected: bool, x: Tensor, state: Any, weights: Any, *rest: Any
) -> list[Tensor]:
    return [x.new_empty(x.shape if rest[-1] else 0), *map(torch.empty_like, (*state, *weights))]


def _setup_context(ctx: Any, inputs: Any, output: list[Tensor]) -> None:
    *ctx.signature, _, x, state, weights, masks, ctx.batch_sizes = inputs
    ctx.counts = [1, len(state), len(weights), len(masks), len(state), 1]
    ctx.save_for_backward(x, *state, *weights, *masks, *output[: len(state)], output[-1])


def _backward_op(ctx: Any, d_returned: list[Tensor]) -> Any:
    tensors = iter(ctx.saved_tensors)
    (x,), state, weights, masks, history, (gates,) = [[next(tensors) for _ in range(count)] for count in ctx.counts]
    needs_d_x, n = ctx.needs_input_grad[5], len(state)
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
    return *[None] * 5, d_x if needs_d_x else None, gradients[:n], gradients[n:], d_masks, None


_fused_op.register_autograd(_backward_op, setup_context=_setup_context)
