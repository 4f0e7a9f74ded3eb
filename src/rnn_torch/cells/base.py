"""What every page and the drop-in cells share: products, weights by name, one step with its options, PyTorch's rules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnn_common.cells import Cell
from rnn_common.packings import weights_by_gate
from rnn_torch.activations import ACTIVATIONS, others
from rnn_torch.activations import Activation as Activation

State = tuple[Tensor, ...]


class Dropped(NamedTuple):
    """A matrix some of whose inputs are dropped: W diag(mask), the same mask at every step of a sequence."""

    W: Tensor
    mask: Tensor

    def to(self, dtype: torch.dtype) -> Dropped:
        return Dropped(self.W.to(dtype), self.mask)


def apply(W: Tensor | Dropped, x: Tensor) -> Tensor:
    """W x, for every row x of a batch."""
    if isinstance(W, Dropped):
        return functional.linear(x * W.mask[: x.size(0)], W.W)  # of packed sequences the last have ended
    return functional.linear(x, W)


Step = Callable[[Tensor, State], State]

PAGES: dict[str, Any] = {}  # filled by `rnn_torch.cells`: a page imports what is here


def page(cell: Cell) -> Any:
    """The page of a cell; of a cell of the user's own, one that has its step alone."""
    return PAGES[cell.name] if cell.in_table else SimpleNamespace(step=cell.torch)


def named(cell: Cell, packed: Sequence[Tensor]) -> Any:
    """PyTorch's packed weights by the document's names: views, but for the two biases of a gate, which are added."""
    if not cell.gates:
        return cell.weights(*packed)
    W, R, *biases = (each.chunk(len(cell.gates)) for each in packed)
    if not biases:
        return weights_by_gate("torch", cell, W, R)
    gates = list(zip(cell.orders["torch"], *biases, strict=True))
    apart = {f"b_h{gate}": b_h for gate, _, b_h in gates if gate in cell.apart}
    return weights_by_gate("torch", cell, W, R, [b if g in cell.apart else b + b_h for g, b, b_h in gates], **apart)


@dataclass(frozen=True)
class Recurrence:
    """A cell and its options: with its weights, what is run over time.

    Args:
        cell: a row of the table.
        activations: what its step is given besides weights, input and state.
        masks: of dropout, each `(batch, inputs)`, by the name of the matrix whose inputs they drop. Default none.
        projected: whether the hidden state is projected: h_t = W_hr (o_t ⊙ tanh(c_t)), W_hr being the last of the weights.
            Default False.
        layers, directions: of a stack that is run in one call, its weights one set after the other. Default 1.
    """

    cell: Cell
    activations: tuple[Activation, ...]
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    projected: bool = False
    layers: int = 1
    directions: int = 1

    def step(self, weights: Sequence[Tensor]) -> Step:
        """The cell's equations with these options and weights: from x_t and the state before to the state after.

        Autograd adds up what every step gives to the gradients of the weights, in float32 at least: in a lower precision a sum
        over many steps loses what is added last. So there the weights are float32, and each step rounds them for itself.
        """
        dtype = weights[0].dtype
        wide = torch.promote_types(dtype, torch.float32)
        packed = [each.to(wide) for each in weights]
        W_hr = packed.pop() if self.projected else None
        w = named(self.cell, packed)
        w = w._replace(**{name: Dropped(getattr(w, name), mask) for name, mask in self.masks.items()})
        equations = page(self.cell).step

        def step(x_t: Tensor, state: State) -> State:
            after = equations(w if wide is dtype else _rounded(w, dtype), x_t, state, *self.activations)
            return after if W_hr is None else (apply(W_hr.to(dtype), after[0]), *after[1:])

        return step


def _rounded(w: Any, dtype: torch.dtype) -> Any:
    return type(w)(*(each if isinstance(each, float) else each.to(dtype) for each in w))


def autocast_enabled(tensor: Tensor) -> bool:
    """Whether `torch.autocast` is on where the tensor is."""
    device = tensor.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def autocast_dtype(tensor: Tensor) -> torch.dtype:
    """The type in which a tensor is computed with: under `torch.autocast` the lower precision, but for float64 and integers."""
    if not autocast_enabled(tensor) or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor.dtype
    return torch.get_autocast_dtype(tensor.device.type)


def autocast(tensor: Tensor) -> Tensor:
    """Under `torch.autocast` a layer or cell runs in the lower precision as a whole, as `nn.LSTM` does."""
    return tensor.to(autocast_dtype(tensor))


def no_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """For what runs on tensors that `autocast` has cast already."""
    return torch.autocast(tensor.device.type, enabled=False) if autocast_enabled(tensor) else nullcontext()


def states_of(cell: Cell, hx: Any) -> State:
    """The states of which `hx` consists: a tensor, or for an LSTM a pair of tensors.

    Raises:
        TypeError, RuntimeError: it is something else.
    """
    names = cell.states
    states = (hx,) if len(names) == 1 else hx
    if len(names) > 1 and (not isinstance(hx, (tuple, list)) or len(hx) != len(names)):
        got = f"{len(hx)} of them" if isinstance(hx, (tuple, list)) else f"a {type(hx).__name__}"
        count = "two" if len(names) == 2 else len(names)
        raise RuntimeError(f"{cell.name.lower()} expects {count} hidden states, hx = ({', '.join(names)}), got {got}")
    if wrong := [type(h).__name__ for h in states if not isinstance(h, Tensor)]:
        raise TypeError(f"hx should be {'a tensor' if len(names) == 1 else 'a pair of tensors'}, got {wrong[0]}")
    return tuple(states)


def leaf(module: nn.Module, *arguments: Any) -> Any:
    """A layer or cell in what `torch.fx.symbolic_trace` writes down: one call, as of `nn`'s, not its operations."""
    tracer = arguments[0].tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), arguments, {})


def as_builtin(module: nn.Module, builtin: type[nn.Module]) -> nn.Module:
    """The same layer or cell as one of `nn`'s, with the same parameters: what `torch.jit.script` takes in its place."""
    same = copy.copy(module)
    same.__class__ = builtin
    return same


def refuse_for_torchscript(name: str, option: str) -> NoReturn:
    """Say that tracing (and the ONNX export that traces) or scripting cannot write down what `nn` lacks, and the way out."""
    raise RuntimeError(
        f"torch.jit and ONNX's export by tracing take {name} as torch.nn's, which has no {option}: a loop would be written down "
        "for one length. Use torch.export.export, whose programs refuse other lengths, or leave the option out"
    )


class RNNCell(nn.RNNCellBase):
    """What the three cells share: everything but the equations. `nn.RNNCellBase` holds PyTorch's packed parameters."""

    builtin: type[nn.RNNCellBase]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, len(self.cell.gates), device, dtype)

    @property
    def cell(self) -> Cell:
        """The row of the table."""
        raise NotImplementedError

    def recurrence(self) -> Recurrence:
        """The cell and its options."""
        return Recurrence(self.cell, self._activations())

    def _activations(self) -> tuple[Activation, ...]:
        return tuple(ACTIVATIONS[name] for name in self.cell.activations)

    def _packed(self) -> list[Tensor]:
        """The weights as PyTorch packs them: `weight_ih`, `weight_hh` and, where there are biases, `bias_ih`, `bias_hh`."""
        names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if self.bias else [])
        return [autocast(getattr(self, name)) for name in names]

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` takes in this cell's place: `nn`'s, with the same parameters."""
        for option, value in {**self.cell.options, **others(self)}.items():
            refuse_for_torchscript(type(self).__name__, f"{option}={value}")
        return as_builtin(self, self.builtin)

    def _advance(self, input: Tensor, hx: Any, names: tuple[str, ...]) -> State:
        """Check the arguments as `nn` does, add the batch dimension where it is missing, and take one step."""
        kind = type(self).__name__.replace("Simple", "")
        state = None if hx is None else states_of(self.cell, hx)
        if input.dim() not in (1, 2):
            raise ValueError(f"{kind}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for name, h in zip(names, state or (), strict=False):
            if h.dim() not in (1, 2):
                raise ValueError(f"{kind}: Expected {name} to be 1D or 2D, got {h.dim()}D instead")
            if h.dim() > input.dim():
                raise RuntimeError(f"{kind}: For 1-D input, {name} should also be 1-D but got {h.dim()}-D tensor")
        x_t = input if input.dim() == 2 else input.unsqueeze(0)
        if state is None:
            state = tuple(x_t.new_zeros(x_t.size(0), self.hidden_size) for _ in names)
        elif input.dim() == 1:
            state = tuple(h.unsqueeze(0) for h in state)
        self._check(x_t, state)
        step, x_t, state = self.recurrence().step(self._packed()), autocast(x_t), tuple(map(autocast, state))
        with no_autocast(x_t):
            after = step(x_t, state)
        return after if input.dim() == 2 else tuple(h.squeeze(0) for h in after)

    def _check(self, x_t: Tensor, state: State) -> None:
        if x_t.size(1) != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {x_t.size(1)} expected {self.input_size}")
        for i, h in enumerate(state):
            if x_t.size(0) != h.size(0):
                raise RuntimeError(f"Input batch size {x_t.size(0)} doesn't match hidden{i} batch size {h.size(0)}")
            if h.size(1) != self.hidden_size:
                raise RuntimeError(
                    f"hidden{i} has inconsistent hidden_size: got {h.size(1)}, expected {self.hidden_size}"
                )

    def extra_repr(self) -> str:
        return ", ".join([super().extra_repr(), *(f"{name}={kept}" for name, kept in others(self).items())])
