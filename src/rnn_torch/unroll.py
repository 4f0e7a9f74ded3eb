"""The driver: a cell over a sequence, by whichever engine takes the case. All that is not arithmetic is here.

- Direction, and sequences of several lengths, which stay packed, so that the cost follows the steps that there are.
- Autograd: an engine with a backward pass of its own is one function to it. The gradient is such a function again, whose
  derivative goes through `reference`: on tensors cut off from the graph around the layer, which must not be walked twice.
- What watches or replaces PyTorch's operations (exporting, transforms, modes, tensors of other classes) sees `reference`.
- `torch.compile` sees one operation forwards and one backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rnn_common.checks import one_of
from rnn_torch import compiled, private
from rnn_torch.activations import name_of
from rnn_torch.call import Call, sizes_of
from rnn_torch.cells.base import Recurrence, State, no_autocast
from rnn_torch.cells.memory import reverse
from rnn_torch.engines import ENGINES, Engine, order


def unroll(
    engine: str,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    batch_sizes: Tensor | None = None,
    backwards: bool = False,
    all_states: bool = False,
) -> tuple[State, State]:
    """Run a cell over `x (time, batch, input)`.

    Args:
        engine: the name in `rnn_torch.ENGINES` of one that takes the case: see `explain`.
        recurrence: the cell and its options.
        weights: as PyTorch packs them, and of a projection W_hr last.
        x: the sequences. Of several lengths they come packed, as in a `PackedSequence`: `(rows, input)`.
        state: the initial one, a tuple of `(batch, hidden)`; of a stack that `vendor` runs in one call, `(layers · directions,
            batch, hidden)`.
        batch_sizes: `(time,)`, on the CPU: of packed sequences, how many have each step, longest first. Default None.
        backwards: run from each sequence's last step to its first; the history is in the order of the input. Default False.
        all_states: whether an LSTM's every c_t is wanted, too. Default False.

    Returns:
        The history, a tuple of every h_t and, with `all_states`, every c_t, arranged as `x`; and the final state.
    """
    chosen, batch = ENGINES[engine], state[0].size(-2)
    if backwards:
        x = reverse(x, batch_sizes, batch)
    if chosen.backward is None:
        history, final, _ = chosen.forward(recurrence, weights, x, state, sizes_of(batch_sizes), all_states)
    else:
        run = compiled.run if torch.compiler.is_compiling() else _run
        history, final = run(chosen, recurrence, weights, x, state, batch_sizes, all_states)
        history = history if all_states else history[:1]
    return tuple(reverse(h, batch_sizes, batch) for h in history) if backwards else history, final


# Which engine


class Choice(NamedTuple):
    """Which engine runs a call.

    Attributes:
        engine: its name.
        refused: why those do not that were asked before it, by name.
    """

    engine: str
    refused: dict[str, str]


def explain(
    engine: str,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    all_states: bool = False,
) -> Choice:
    """Which engine runs a call, and why not the others; see `unroll` for the arguments; `weights` are those of all layers.

    Raises:
        ValueError: an unknown engine.
    """
    refused: dict[str, str] = {}
    for name in order(x.device.type, recurrence.cell.name) if engine == "auto" else (check(engine), "reference"):
        reason = _reason(ENGINES[name], recurrence, weights, x, state, all_states)
        if reason is None:
            return Choice(name, refused)
        refused[name] = reason
    raise AssertionError("reference takes every case")


def check(engine: str) -> str:
    """The name of an engine, or `"auto"`.

    Raises:
        ValueError: there is none.
    """
    return cast(str, one_of("engine", engine, ["auto", *ENGINES]))


def _reason(
    engine: Engine,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    all_states: bool,
) -> str | None:
    """Why an engine does not take a case."""
    if engine.backward is None:
        return None
    if torch.compiler.is_compiling() and recurrence.cell.in_table:
        # As one operation, whatever is in it but functions without a name: see `rnn_torch.compiled`.
        named = all(name_of(f) for f in recurrence.activations)
        return _watched(weights, x, state) if named else "activations of the user's own"
    return engine.refuses(recurrence, x, all_states) or _watched(weights, x, state)


def _watched(weights: Sequence[Tensor], x: Tensor, state: State) -> str | None:
    """What watches or replaces single operations, in PyTorch's own ways, and would not see those of an engine's backward pass."""
    if torch.compiler.is_exporting():
        return "exporting"
    if private.transforms_are_active():
        return "the transforms of torch.func"
    tensors = (x, *state, *weights)
    if private.tangents_are_possible() and any(map(_has_tangent, tensors)):
        return "forward-mode differentiation"
    if torch.compiler.is_compiling():
        return None
    if private.modes_are_active():
        return "a mode that watches operations, such as those of make_fx and FlopCounterMode"
    if any(map(_is_of_own_class, tensors)):
        return "tensors of a class with operations of its own"
    return None


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


# Autograd


def _run(
    engine: Engine,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    batch_sizes: Tensor | None,
    all_states: bool,
) -> tuple[State, State]:
    """History and final state by an engine with a backward pass of its own."""
    tensors, sizes = (x, *state, *weights), sizes_of(batch_sizes)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        call = Call(engine, recurrence, sizes, len(state), all_states)
        returned = _BackPropagation.apply(call, *tensors)  # type: ignore[no-untyped-call]
        return returned[: -len(state)], returned[-len(state) :]
    history, final, _ = engine.forward(recurrence, weights, x, state, sizes, all_states)
    return history, final


class _BackPropagation(torch.autograd.Function):
    """Back-propagation through time, from `x`, the state and the weights to history and final state."""

    @staticmethod
    def forward(ctx: Any, call: Call, *inputs: Tensor) -> State:
        history, final, saved = call.engine.forward(
            call.recurrence, *call.split(inputs), call.sizes, call.all_states, keep=True
        )
        ctx.call = call
        ctx.save_for_backward(*inputs, *history, *saved)
        ctx.set_materialize_grads(False)
        return (*history, *final)

    @staticmethod
    def backward(ctx: Any, *d_returned: Tensor | None) -> Any:
        call: Call = ctx.call
        kept = ctx.saved_tensors  # to be unpacked once: it may be computed anew
        d_returned = tuple(_dense(d) for d in d_returned)
        needs = ctx.needs_input_grad[1:]
        given, ended = len(needs), len(needs) + len(d_returned) - call.states
        inputs, history, saved = kept[:given], kept[given:ended], kept[ended:]
        with no_autocast(inputs[0]):
            if _gradients_are_watched(d_returned):
                again = torch.is_grad_enabled()
                gradients = call.differentiate(_cut_off(inputs, needs, again), d_returned, needs, again)
            elif torch.is_grad_enabled():  # create_graph=True
                history = tuple(states.detach() for states in history)
                gradients = _Gradient.apply(call, history, saved, needs, *inputs, *d_returned)  # type: ignore[no-untyped-call]
            else:
                gradients = call.backward(inputs, history, saved, d_returned, needs[0])
        return None, *gradients


class _Gradient(torch.autograd.Function):
    """The backward pass as a function that has a derivative: from inputs and ∂L/∂ what is returned to ∂L/∂ the inputs."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, history: State, saved: State, needs: tuple[bool, ...], *tensors: Tensor | None
    ) -> Any:
        inputs, d_returned = cast(State, tensors[: len(needs)]), tensors[len(needs) :]
        ctx.call, ctx.needs = call, needs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        gradients = call.backward(inputs, history, saved, d_returned, needs[0])
        return tuple(d if need else None for d, need in zip(gradients, needs, strict=True))

    @staticmethod
    def backward(ctx: Any, *d_gradients: Tensor | None) -> Any:
        wanted = ctx.needs_input_grad[4:]
        again = torch.is_grad_enabled()
        tensors = _cut_off(ctx.saved_tensors, wanted, again)
        inputs, d_returned = tensors[: len(ctx.needs)], tensors[len(ctx.needs) :]
        with no_autocast(inputs[0]), torch.enable_grad():
            gradients = ctx.call.differentiate(inputs, d_returned, ctx.needs, True)
            pairs = [
                (d, dd)
                for d, dd in zip(gradients, d_gradients, strict=True)
                if d is not None and d.requires_grad and dd is not None
            ]
            targets = [t for t, need in zip(tensors, wanted, strict=True) if need]
            found: Sequence[Tensor | None] = [None] * len(targets)
            if pairs and targets:
                outputs, cotangents = zip(*pairs, strict=True)
                found = torch.autograd.grad(outputs, targets, cotangents, create_graph=again, allow_unused=True)
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
        private.transforms_are_active()
        or private.modes_are_active()
        or any(d is not None and (private.is_batched(d) or _is_of_own_class(d)) for d in gradients)
    )


def _is_of_own_class(tensor: Tensor) -> bool:
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
