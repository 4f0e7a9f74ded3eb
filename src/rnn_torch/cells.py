"""The equations, one step each, in PyTorch operations; and the cells, drop-in for `nn.RNNCell`, `LSTMCell`, `GRUCell`.

A step takes the weights by the document's names, a batch of inputs `x_t (batch, input)` and the state, a tuple of
`(batch, hidden)`, and returns the state after it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from rnn_common.cells import CELLS, CellName, GRUWeights, LSTMWeights, SimpleRNNWeights, Weights
from rnn_common.packings import weights_by_gate

State = tuple[Tensor, ...]
Activation = Callable[[Tensor], Tensor]


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


def simple_rnn_step(w: SimpleRNNWeights, x_t: Tensor, state: State, *, activation: Activation = torch.tanh) -> State:
    """One step of the simple RNN (document, "Simple RNN"); `activation` stands in for tanh.

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)
    """
    (h,) = state
    h_t = activation(apply(w.W_hh, h) + apply(w.W_xh, x_t) + w.b_h)
    return (h_t,)


def lstm_step(
    w: LSTMWeights,
    x_t: Tensor,
    state: State,
    *,
    activation: Activation = torch.tanh,
    recurrent_activation: Activation = torch.sigmoid,
) -> State:
    """One step of the LSTM (document, "LSTM"); `activation` stands in for tanh, `recurrent_activation` for σ.

    i_t = σ(W_ii x_t + W_hi h_{t−1} + b_i)
    f_t = σ(W_if x_t + W_hf h_{t−1} + b_f)
    o_t = σ(W_io x_t + W_ho h_{t−1} + b_o)
    c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t
    h_t = o_t ⊙ tanh(c_t)
    """
    h, c = state
    i_t = recurrent_activation(apply(w.W_ii, x_t) + apply(w.W_hi, h) + w.b_i)
    f_t = recurrent_activation(apply(w.W_if, x_t) + apply(w.W_hf, h) + w.b_f)
    o_t = recurrent_activation(apply(w.W_io, x_t) + apply(w.W_ho, h) + w.b_o)
    c_tilde = activation(apply(w.W_ic, x_t) + apply(w.W_hc, h) + w.b_c)
    c_t = f_t * c + i_t * c_tilde
    h_t = o_t * activation(c_t)
    return h_t, c_t


def gru_step(
    w: GRUWeights,
    x_t: Tensor,
    state: State,
    *,
    reset_after: bool = True,
    activation: Activation = torch.tanh,
    recurrent_activation: Activation = torch.sigmoid,
) -> State:
    """One step of the GRU (Cho et al. 2014, arXiv 1406.1078); `activation` for tanh, `recurrent_activation` for σ.

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn))        reset_after=True  (v1)
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1}))               reset_after=False (v3)
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    r_t = recurrent_activation(apply(w.W_ir, x_t) + apply(w.W_hr, h) + w.b_r)
    z_t = recurrent_activation(apply(w.W_iz, x_t) + apply(w.W_hz, h) + w.b_z)
    if reset_after:
        recurrent_n = r_t * (apply(w.W_hn, h) + w.b_hn)
    else:
        recurrent_n = apply(w.W_hn, r_t * h)
    n_tilde = activation(apply(w.W_in, x_t) + w.b_n + recurrent_n)
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,)


Step = Callable[[Tensor, State], State]
STEPS: dict[CellName, Callable[..., State]] = {"SimpleRNN": simple_rnn_step, "LSTM": lstm_step, "GRU": gru_step}
NONLINEARITIES: dict[str, Activation] = {"tanh": torch.tanh, "relu": torch.relu}


def gate_weights(
    cell: CellName,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    reset_after: bool = True,
) -> Weights:
    """Cut PyTorch's packed weights into the document's: views, but for the two biases, which are added."""
    gates = len(CELLS[cell].gates)
    blocks = weight_ih.chunk(gates), weight_hh.chunk(gates)
    if bias_ih is None or bias_hh is None:
        return weights_by_gate("torch", cell, *blocks)
    if cell != "GRU" or not reset_after:
        return weights_by_gate("torch", cell, *blocks, (bias_ih + bias_hh).chunk(gates))
    (b_ir, b_iz, b_n), (b_hr, b_hz, b_hn) = bias_ih.chunk(gates), bias_hh.chunk(gates)
    return weights_by_gate("torch", cell, *blocks, (b_ir + b_hr, b_iz + b_hz, b_n), b_hn=b_hn)


@dataclass(frozen=True)
class Recurrence:
    """A cell with its weights and options: what an engine runs over time.

    Args:
        cell: `"SimpleRNN"`, `"LSTM"` or `"GRU"`.
        packed: the weights as PyTorch packs them: `weight_ih`, `weight_hh` and, where there are biases, `bias_ih`, `bias_hh`.
        reset_after: the form of the GRU, of no meaning to the other cells. Default True.
        activation, recurrent_activation: stand in for tanh and σ. Default those.
        masks: of dropout, each `(batch, inputs)`, by the name of the matrix whose inputs they drop. Default none.
        W_hr: an LSTM's projection of its hidden state, `(projected, hidden)`. Default none.
    """

    cell: CellName
    packed: tuple[Tensor, ...]
    reset_after: bool = True
    activation: Activation = torch.tanh
    recurrent_activation: Activation = torch.sigmoid
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    W_hr: Tensor | None = None

    def step(self) -> Step:
        """The cell's equations with these weights and options: from x_t and the state before to the state after.

        Autograd adds up what every step gives to the gradients of the weights, in float32 at least: in a lower precision a sum
        over many steps loses what is added last. So there the weights are float32, and each step rounds them for itself.
        """
        dtype = self.packed[0].dtype
        wide = torch.promote_types(dtype, torch.float32)
        w = gate_weights(self.cell, *(each.to(wide) for each in self.packed), reset_after=self.reset_after)
        w = w._replace(**{name: Dropped(getattr(w, name), mask) for name, mask in self.masks.items()})
        W_hr = None if self.W_hr is None else self.W_hr.to(wide)
        options: dict[str, Any] = {"activation": self.activation}
        if self.cell != "SimpleRNN":
            options["recurrent_activation"] = self.recurrent_activation
        if self.cell == "GRU":
            options["reset_after"] = self.reset_after

        def step(x_t: Tensor, state: State) -> State:
            after = STEPS[self.cell](w if wide is dtype else _rounded(w, dtype), x_t, state, **options)
            return after if W_hr is None else (apply(W_hr.to(dtype), after[0]), *after[1:])

        return step


def _rounded(w: Weights, dtype: torch.dtype) -> Weights:
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


def states_of(cell: CellName, hx: Any) -> State:
    """The states of which `hx` consists: a tensor, or for an LSTM a pair of tensors.

    Raises:
        TypeError, RuntimeError: it is something else.
    """
    names = CELLS[cell].states
    states = (hx,) if len(names) == 1 else hx
    if len(names) > 1 and (not isinstance(hx, (tuple, list)) or len(hx) != len(names)):
        got = f"{len(hx)} of them" if isinstance(hx, (tuple, list)) else f"a {type(hx).__name__}"
        raise RuntimeError(f"{cell.lower()} expects two hidden states, hx = (h, c), got {got}")
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


class _Cell(nn.RNNCellBase):
    """What the three cells share: everything but the equations. `nn.RNNCellBase` holds PyTorch's packed parameters."""

    cell: CellName
    builtin: type[nn.RNNCellBase]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, len(CELLS[self.cell].gates), device, dtype)

    def recurrence(self) -> Recurrence:
        """The cell with its parameters and options."""
        names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if self.bias else [])
        return Recurrence(self.cell, tuple(autocast(getattr(self, name)) for name in names), **self._options())

    def _options(self) -> dict[str, Any]:
        """The cell's options, as `Recurrence` takes them."""
        return {}

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` takes in this cell's place: `nn`'s, with the same parameters."""
        if not getattr(self, "reset_after", True):
            refuse_for_torchscript(type(self).__name__, "reset_after=False")
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
        recurrence, x_t, state = self.recurrence(), autocast(x_t), tuple(map(autocast, state))
        with no_autocast(x_t):
            after = recurrence.step()(x_t, state)
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


class SimpleRNNCell(_Cell):
    """One step of a simple RNN: drop-in for `nn.RNNCell`.

    h' = tanh(W_xh x + W_hh h + b_h), with `b_h = bias_ih + bias_hh` (document, "Simple RNN")

    Args:
        input_size: width of x.
        hidden_size: width of h.
        bias: with `bias_ih` and `bias_hh`. Default True.
        nonlinearity: `"tanh"` (default) or `"relu"`.
        device, dtype: of the parameters.

    Inputs: `input (batch, input_size)` or `(input_size,)`; `hx (batch, hidden_size)` or `(hidden_size,)`, default zeros.

    Returns: h', shaped as `hx`.

    Raises:
        ValueError: an input or a state with too few or too many dimensions.
        RuntimeError: a wrong width or batch size; an unknown nonlinearity, at the first call as in `nn.RNNCell`.
    """

    cell = "SimpleRNN"
    builtin = nn.RNNCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def _options(self) -> dict[str, Any]:
        if self.nonlinearity not in NONLINEARITIES:
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return {"activation": NONLINEARITIES[self.nonlinearity]}

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if isinstance(input, fx.Proxy):
            return leaf(self, input, hx)
        (h,) = self._advance(input, hx, ("hidden",))
        return h


class LSTMCell(_Cell):
    """One step of an LSTM: drop-in for `nn.LSTMCell`.

    i, f, o = σ(W_i· x + W_h· h + b_·);  c̃ = tanh(W_ic x + W_hc h + b_c)
    c' = f ⊙ c + i ⊙ c̃;  h' = o ⊙ tanh(c')  (document, "LSTM")

    Args:
        input_size: width of x.
        hidden_size: width of h and c.
        bias: with `bias_ih` and `bias_hh`. Default True.
        device, dtype: of the parameters.

    Inputs: `input (batch, input_size)` or `(input_size,)`; `hx = (h, c)`, each `(batch, hidden_size)` or
        `(hidden_size,)`, default zeros.

    Returns: `(h', c')`.

    Raises:
        ValueError: an input or a state with too few or too many dimensions.
        RuntimeError: a wrong width or batch size.
    """

    cell = "LSTM"
    builtin = nn.LSTMCell

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        if isinstance(input, fx.Proxy):
            return leaf(self, input, hx)
        h, c = self._advance(input, hx, ("hx[0]", "hx[1]"))
        return h, c


class GRUCell(_Cell):
    """One step of a GRU: drop-in for `nn.GRUCell`.

    r, z = σ(W_i· x + W_h· h + b_·)
    ñ = tanh(W_in x + b_n + r ⊙ (W_hn h + b_hn)), or tanh(W_in x + b_n + W_hn (r ⊙ h)) without `reset_after`
    h' = (1 − z) ⊙ ñ + z ⊙ h  (Cho et al. 2014, arXiv 1406.1078)

    Args:
        input_size: width of x.
        hidden_size: width of h.
        bias: with `bias_ih` and `bias_hh`. Default True.
        device, dtype: of the parameters.
        reset_after: whether the reset gate acts after the recurrent product (default, `nn`'s form) or before it, in
            which case both biases of every gate are added.

    Inputs: `input (batch, input_size)` or `(input_size,)`; `hx (batch, hidden_size)` or `(hidden_size,)`, default zeros.

    Returns: h', shaped as `hx`.

    Raises:
        ValueError: an input or a state with too few or too many dimensions.
        RuntimeError: a wrong width or batch size.
    """

    cell = "GRU"
    builtin = nn.GRUCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.reset_after = reset_after

    def _options(self) -> dict[str, Any]:
        return {"reset_after": self.reset_after}

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if isinstance(input, fx.Proxy):
            return leaf(self, input, hx)
        (h,) = self._advance(input, hx, ("hidden",))
        return h

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
