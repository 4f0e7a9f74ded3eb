"""The engine `vendor`: PyTorch's own layers, which are cuDNN's on a GPU and, of an LSTM, oneDNN's on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_torch import private
from rnn_torch.activations import name_of
from rnn_torch.cells.base import Recurrence, State

name = "vendor"

# PyTorch's functions and what cuDNN calls them, by the cell and its activations.
LAYERS: dict[tuple[str, ...], tuple[Any, str]] = {
    ("SimpleRNN", "tanh"): (torch.rnn_tanh, "RNN_TANH"),
    ("SimpleRNN", "relu"): (torch.rnn_relu, "RNN_RELU"),
    ("LSTM", "tanh", "sigmoid"): (torch.lstm, "LSTM"),
    ("GRU", "tanh", "sigmoid"): (torch.gru, "GRU"),
}


def refuses(recurrence: Recurrence, x: Tensor, all_states: bool = False) -> str | None:
    """Returns what PyTorch's layers do not compute, or None."""
    if recurrence.masks:
        return "dropout of the hidden state"
    if recurrence.projected:
        return "a projection"
    if not recurrence.cell.in_table or _key(recurrence) not in LAYERS:
        return "a cell or activations that PyTorch has no layer of"
    if all_states and len(recurrence.cell.states) > 1:
        return "every c_t, of which PyTorch's layer returns the last"
    if x.device.type not in ("cpu", "cuda"):
        return "a device other than the CPU and CUDA's"
    if not x.is_floating_point():
        return "numbers that are not floating-point"
    if x.dtype.itemsize < 4 and not _cudnn_takes(x):
        return "numbers below float32, in which PyTorch's loops add up over the steps"
    if x.numel() == 0:
        return "an empty batch"
    return None


def _key(recurrence: Recurrence) -> tuple[str, ...]:
    return recurrence.cell.name, *map(name_of, recurrence.activations)


def forward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    sizes: list[int] | None = None,
    all_states: bool = False,
    keep: bool = False,
) -> tuple[State, State, State]:
    """See `rnn_torch.engines`. Every state of a stack has an axis of layers and directions in front.

    What is saved is cuDNN's reserve, and the weights as it reads them; elsewhere a graph of PyTorch's layer alone: what it starts
    from, and what comes of it.
    """
    if _cudnn_takes(x):
        return _forward_by_cudnn(recurrence, weights, x, state, sizes, keep)
    if keep:
        saved = record(recurrence, weights, x, state, sizes, [t.requires_grad for t in (x, *state, *weights)])
        history, *final = (each.detach() for each in saved[-1 - len(state) :])
        return (history,), tuple(h.clone() for h in final), saved  # what is kept stays as it is
    history, *final = run(recurrence, weights, x, state, sizes)
    return (history,), tuple(final), ()


def backward(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    sizes: list[int] | None,
    history: State,
    saved: State,
    d_history: tuple[Tensor | None, ...],
    d_final: tuple[Tensor | None, ...],
    needs_d_x: bool,
) -> list[Tensor | None]:
    """See `rnn_torch.engines`. What is not saved, as by no operation under `torch.compile`, is made again."""
    d_returned = (*d_history, *d_final)
    if all(d is None for d in d_returned):
        return [None] * (1 + len(state) + len(weights))
    if len(saved) == 2 or (not saved and _cudnn_takes(x)):
        needs_d_weights = not saved or any(w.requires_grad for w in weights)
        piece, reserve = saved or _forward_by_cudnn(recurrence, weights, x, state, sizes, keep=True)[2]
        reserve = reserve.clone() if private.graph_is_kept() else reserve  # the backward pass writes in it
        d_end = [d if d is None or d.dim() == 3 else d.unsqueeze(0) for d in d_final]
        d_x, d_state, d_weights = _of_cudnn(recurrence, weights, x).backward(
            weights,
            piece,
            x,
            _as_stack(state),
            sizes,
            history[0],
            reserve,
            d_history[0],
            d_end,
            needs_d_x,
            needs_d_weights,
        )
        return [d_x, *_as_given(d_state, state), *(d_weights if needs_d_weights else [None] * len(weights))]
    if not saved:
        saved = record(recurrence, weights, x, state, sizes, [needs_d_x, *[True] * (len(state) + len(weights))])
    return _along_the_graph(saved, d_returned, needs_d_x)


# PyTorch's layer, differentiated by autograd


def record(
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    sizes: list[int] | None,
    needs: Sequence[bool],
) -> State:
    """Run PyTorch's layer on tensors that are cut off from the graph around ours.

    Returns those tensors, x, state and weights, and after them every h_t and the final state, with the graph between.
    """
    with torch.enable_grad():
        leaves = [
            each.detach().contiguous().requires_grad_(need)
            for each, need in zip((x, *state, *weights), needs, strict=True)
        ]
        of_state, of_weights = leaves[1 : 1 + len(state)], leaves[1 + len(state) :]
        return (*leaves, *run(recurrence, of_weights, leaves[0], tuple(of_state), sizes))


def _along_the_graph(saved: State, d_returned: Sequence[Tensor | None], needs_d_x: bool) -> list[Tensor | None]:
    """The gradients of what `record` began with."""
    leaves, outputs = saved[: -len(d_returned)], saved[-len(d_returned) :]
    wanted = [leaf.requires_grad and (needs_d_x or place > 0) for place, leaf in enumerate(leaves)]
    pairs = [(y, d) for y, d in zip(outputs, d_returned, strict=True) if d is not None]
    found = torch.autograd.grad(
        [y for y, _ in pairs],
        [leaf for leaf, need in zip(leaves, wanted, strict=True) if need],
        [d for _, d in pairs],
        retain_graph=private.graph_is_kept(),
        materialize_grads=True,
    )
    each = iter(found)
    return [next(each).contiguous() if need else None for need in wanted]


def run(
    recurrence: Recurrence, weights: Sequence[Tensor], x: Tensor, state: State, sizes: list[int] | None
) -> list[Tensor]:
    """Every h_t and the final state by PyTorch's layer."""
    layer, _ = LAYERS[_key(recurrence)]
    hx: Any = _as_stack(state)
    hx = hx if len(hx) > 1 else hx[0]
    biased = len(weights) > 2 * recurrence.layers * recurrence.directions
    options = (list(weights), biased, recurrence.layers, 0.0, torch.is_grad_enabled(), recurrence.directions > 1)
    if sizes is None:
        history, *final = layer(x, hx, *options, False)
    else:
        history, *final = layer(x, torch.tensor(sizes, device="cpu"), hx, *options)
    return [history, *_as_given(final, state)]


def _as_stack(state: State) -> State:
    """The state as PyTorch's layers take it, with an axis of layers and directions in front."""
    return tuple((h if h.dim() == 3 else h.unsqueeze(0)).contiguous() for h in state)


def _as_given(states: Sequence[Tensor], state: State) -> State:
    """Final states, or gradients of initial ones, with the axes of `state`."""
    return tuple(states) if state[0].dim() == 3 else tuple(h.squeeze(0) for h in states)


# cuDNN's operation and its derivative, which PyTorch's layer calls, too, by themselves: autograd need not be there twice


def _forward_by_cudnn(
    recurrence: Recurrence, weights: Sequence[Tensor], x: Tensor, state: State, sizes: list[int] | None, keep: bool
) -> tuple[State, State, State]:
    layer = _of_cudnn(recurrence, weights, x)
    weights, piece = layer.in_one_piece(weights)
    history, final, reserve = layer.forward(weights, piece, x, _as_stack(state), sizes, keep)
    return (history,), _as_given(final, state), (piece, reserve) if keep else ()


def _cudnn_takes(x: Tensor) -> bool:
    return torch.backends.cudnn.is_acceptable(x)  # type: ignore[no-untyped-call]


def _of_cudnn(recurrence: Recurrence, weights: Sequence[Tensor], x: Tensor) -> private.CuDNN:
    sizes = (weights[0].shape, weights[1].shape, len(weights), recurrence.layers, recurrence.directions)
    return private.cudnn(LAYERS[_key(recurrence)][1], *sizes, x.dtype, x.device)
