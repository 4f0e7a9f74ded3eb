"""The layers, drop-in for `nn.RNN`, `nn.LSTM` and `nn.GRU`: their arguments, parameters, shapes and errors.

A layer holds PyTorch's packed parameters, `weight_ih_l0` and so on, one set a layer and direction. A call brings the
input into time-major form, runs an engine once for each layer and direction, and hands the results back in the form in
which the input came.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from common.parameters import CELLS, CellName
from rnn_torch.cells import NONLINEARITIES, Recurrence, State, autocast, autocast_enabled, no_autocast
from rnn_torch.engines import choose

Hidden = Tensor | tuple[Tensor, Tensor]


class _Layer(nn.Module):
    """What the three layers share: everything but the equations."""

    cell: CellName

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        recurrent_dropout: float = 0.0,
        return_all_states: bool = False,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        _check_options(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size, recurrent_dropout)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.recurrent_dropout = float(recurrent_dropout)
        self.return_all_states = return_all_states
        self.engine = engine
        choose(engine)
        for name, shape in self._shapes():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        rows = len(CELLS[self.cell].gates) * self.hidden_size
        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                yield f"weight_ih{suffix}", (rows, self.input_size if layer == 0 else self.output_size)
                yield f"weight_hh{suffix}", (rows, self.proj_size or self.hidden_size)
                if self.bias:
                    yield f"bias_ih{suffix}", (rows,)
                    yield f"bias_hh{suffix}", (rows,)
                if self.proj_size:
                    yield f"weight_hr{suffix}", (self.proj_size, self.hidden_size)

    def _suffixes(self, layer: int) -> list[str]:
        """How the names of a layer's parameters end, one ending a direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Width of the output: directions × (proj_size or hidden_size)."""
        return self._directions * (self.proj_size or self.hidden_size)

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer and direction, as `nn.RNNBase.all_weights`."""
        kinds = [name.removesuffix("_l0") for name, _ in self.named_parameters() if name.endswith("_l0")]
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        return [[getattr(self, kind + suffix) for kind in kinds] for suffix in suffixes]

    def reset_parameters(self) -> None:
        """Draw every parameter from U(−1/√hidden, 1/√hidden)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do: kept for programs that call it before `nn` layers run on a GPU."""

    def recurrence(self, suffix: str = "_l0", dtype: torch.dtype | None = None) -> Recurrence:
        """The cell with the parameters, cast to `dtype` if one is given, and options of one layer and direction."""
        names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if self.bias else [])
        packed = tuple(getattr(self, name + suffix).to(dtype) for name in names)
        W_hr = getattr(self, f"weight_hr{suffix}").to(dtype) if self.proj_size else None
        return Recurrence(self.cell, packed, W_hr=W_hr, **self._options())

    def _options(self) -> dict[str, Any]:
        """The cell's options, as `Recurrence` takes them."""
        return {}

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        """Run the layer.

        Args:
            input: `(time, batch, input_size)`; `(batch, time, input_size)` if `batch_first`; `(time, input_size)`; or a
                `PackedSequence`.
            hx: the initial state, `(layers · directions, batch, hidden_size)` or, for one sequence,
                `(layers · directions, hidden_size)`; a pair `(h, c)` for an LSTM. Default zeros.

        Returns:
            `output, h_n` or `output, (h_n, c_n)`, in the form of the input; with `return_all_states`, third, every state
            at every step, `(layers · directions, time, batch, hidden_size)`, a pair for an LSTM.

        Raises:
            ValueError, RuntimeError: what `nn` raises for the same mistake.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        kind = type(self).__name__.replace("Simple", "")
        if input.dim() not in (2, 3):
            tensor = " tensor" if kind == "RNN" else ""
            raise ValueError(f"{kind}: Expected input to be 2D or 3D, got {input.dim()}D{tensor} instead")
        batched = input.dim() == 3
        state = self._initial(hx, 3 if batched else 2)
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if self.batch_first and batched else x
        if state is not None and not batched:
            state = tuple(h.unsqueeze(1) for h in state)
        output, final, history = self._run(x, state)
        if not batched:
            output = output.squeeze(1)
            final, history = (tuple(h.squeeze(-2) for h in states) for states in (final, history))
        elif self.batch_first:
            output = output.transpose(0, 1)
            history = tuple(h.transpose(1, 2) for h in history)
        return self._returned(output, final, history)

    def _forward_packed(self, input: PackedSequence, hx: Any) -> Any:
        x, lengths = pad_packed_sequence(PackedSequence(input.data, input.batch_sizes))
        state = self._initial(hx, 3)
        if state is not None and input.sorted_indices is not None:
            state = tuple(h.index_select(1, input.sorted_indices) for h in state)
        output, final, history = self._run(x, state, lengths)
        packed = pack_padded_sequence(output, lengths)
        repacked = PackedSequence(packed.data, packed.batch_sizes, input.sorted_indices, input.unsorted_indices)
        if input.unsorted_indices is not None:
            final = tuple(h.index_select(1, input.unsorted_indices) for h in final)
            history = tuple(h.index_select(2, input.unsorted_indices) for h in history)
        return self._returned(repacked, final, history)

    def _initial(self, hx: Any, dim: int) -> State | None:
        """The initial state as a tuple, refused as `nn` does if it has not `dim` dimensions."""
        if hx is None:
            return None
        if hx.dim() != dim:
            form = (
                "For batched 3-D input, hx should also be 3-D"
                if dim == 3
                else "For unbatched 2-D input, hx should also be 2-D"
            )
            raise RuntimeError(f"{form} but got {hx.dim()}-D tensor")
        return (hx,)

    def _returned(self, output: Any, final: State, history: State) -> Any:
        hidden = final if len(final) == 2 else final[0]
        if not self.return_all_states:
            return output, hidden
        return output, hidden, history if len(history) == 2 else history[0]

    def _run(self, x: Tensor, state: State | None, lengths: Tensor | None = None) -> tuple[Tensor, State, State]:
        """Every layer and direction over `x (time, batch, input)`: output, final states, all states if asked for."""
        self._check_input(x)
        if state is None:
            state = tuple(x.new_zeros(shape) for shape in self._state_shapes(x.size(1)))
        else:
            self._check_state(state, x.size(1))
        if len(x) == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        x, state = autocast(x), tuple(map(autocast, state))
        valid = None
        if lengths is not None:
            valid = (torch.arange(len(x))[:, None] < lengths).unsqueeze(-1).to(x.device)
        finals: list[State] = []
        histories: list[State] = []
        with no_autocast(x):
            for layer in range(self.num_layers):
                if layer and self.dropout and self.training:
                    x = _dropout(x, self.dropout, lengths)
                for suffix in self._suffixes(layer):
                    history, final = self._run_one(suffix, x, tuple(h[len(finals)] for h in state), valid)
                    finals.append(final)
                    histories.append(history)
                outputs = [history[0] for history in histories[-self._directions :]]
                x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
        return x, _stacked(finals), _stacked(histories) if self.return_all_states else ()

    def _run_one(self, suffix: str, x: Tensor, state: State, valid: Tensor | None) -> tuple[State, State]:
        recurrence = self.recurrence(suffix, x.dtype)
        if self.recurrent_dropout and self.training:
            masks = _recurrent_masks(self.cell, state[0], self.recurrent_dropout)
            recurrence = dataclasses.replace(recurrence, masks=masks)
        return choose(self.engine)(recurrence, x, state, valid, suffix.endswith("_reverse"), self.return_all_states)

    def _state_shapes(self, batch: int) -> tuple[tuple[int, int, int], ...]:
        return ((self.num_layers * self._directions, batch, self.hidden_size),)

    def _check_input(self, x: Tensor) -> None:
        weight = self.weight_ih_l0
        if x.dtype != weight.dtype and not autocast_enabled(x):
            raise ValueError(
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
            )
        if x.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.size(-1)}"
            )

    def _check_state(self, state: State, batch: int) -> None:
        shapes = self._state_shapes(batch)
        for i, (h, shape) in enumerate(zip(state, shapes, strict=True)):
            name = "hidden" if len(shapes) == 1 else f"hidden[{i}]"
            if h.size() != shape:
                raise RuntimeError(f"Expected {name} size {shape}, got {list(h.size())}")
            if h.dtype != self.weight_ih_l0.dtype and not autocast_enabled(h):
                raise RuntimeError(f"Expected {name} of dtype {self.weight_ih_l0.dtype}, got {h.dtype}")

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults: dict[str, Any] = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0}
        defaults |= {"bidirectional": False, "recurrent_dropout": 0, "return_all_states": False, "engine": "auto"}
        parts += [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join(parts)


def _check_options(
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bias: bool,
    batch_first: bool,
    dropout: float,
    proj_size: int,
    recurrent_dropout: float,
) -> None:
    """What `nn.RNNBase` checks, in its order and words; the last is ours."""
    if not _is_rate(dropout):
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
            f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
            stacklevel=3,
        )
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")
    if not _is_rate(recurrent_dropout):
        raise ValueError(f"recurrent_dropout should be a number in range [0, 1], got {recurrent_dropout!r}")


def _is_rate(value: Any) -> bool:
    return isinstance(value, numbers.Number) and not isinstance(value, bool) and 0 <= value <= 1  # type: ignore[operator]


def _stacked(states: list[State]) -> State:
    """Each state of all layers and directions as one tensor, along a new first axis."""
    return tuple(torch.stack(each) for each in zip(*states, strict=True))


def _dropout(x: Tensor, rate: float, lengths: Tensor | None) -> Tensor:
    """Dropout between two layers. Packed sequences are dropped in their packed form, as `nn` draws its masks."""
    if lengths is None:
        return functional.dropout(x, rate)
    packed = pack_padded_sequence(x, lengths)
    dropped = packed._replace(data=functional.dropout(packed.data, rate))
    return pad_packed_sequence(dropped, total_length=len(x))[0]


def _recurrent_masks(cell: CellName, h: Tensor, rate: float) -> dict[str, Tensor]:
    """Drop the hidden state on its way into each gate: one mask a gate and sequence, as in Keras (Gal & Ghahramani 2016)."""
    ones = torch.ones_like(h)
    return {CELLS[cell].recurrent_weight(gate): functional.dropout(ones, rate) for gate in CELLS[cell].gates}


class SimpleRNN(_Layer):
    """A simple RNN over a sequence: drop-in for `nn.RNN`.

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h), with `b_h = bias_ih + bias_hh` (document, "Simple RNN")

    Args:
        input_size: width of x_t.
        hidden_size: width of h_t.
        num_layers: layers stacked, each fed the outputs of the one below. Default 1.
        nonlinearity: `"tanh"` (default) or `"relu"`.
        bias: with `bias_ih` and `bias_hh`. Default True.
        batch_first: input and output are `(batch, time, …)`, not `(time, batch, …)`. Default False.
        dropout: of every layer's outputs but the last's, in [0, 1], in training. Default 0.
        bidirectional: run over the sequence both ways and concatenate the outputs. Default False.
        device, dtype: of the parameters.
        recurrent_dropout: of the hidden state on its way into the gates, in [0, 1], in training; one mask a sequence,
            as in Keras. Default 0.
        return_all_states: return every state at every step besides. Default False.
        engine: how the cell is run over time, a name in `rnn_torch.ENGINES` or `"auto"` (default).

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.

    Example:
        >>> layer = SimpleRNN(10, 20, batch_first=True)
        >>> output, h_n = layer(torch.randn(3, 5, 10))
        >>> output.shape, h_n.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]))
    """

    cell = "SimpleRNN"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        _refuse_projection(options)
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, **options
        )
        self.nonlinearity = nonlinearity

    def _options(self) -> dict[str, Any]:
        return {"activation": NONLINEARITIES[self.nonlinearity]}


class LSTM(_Layer):
    """An LSTM over a sequence: drop-in for `nn.LSTM`.

    i_t, f_t, o_t = σ(W_i· x_t + W_h· h_{t−1} + b_·);  c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t;  h_t = o_t ⊙ tanh(c_t)  (document, "LSTM")

    Args:
        input_size: width of x_t.
        hidden_size: width of h_t and c_t.
        num_layers: layers stacked, each fed the outputs of the one below. Default 1.
        bias: with `bias_ih` and `bias_hh`. Default True.
        batch_first: input and output are `(batch, time, …)`, not `(time, batch, …)`. Default False.
        dropout: of every layer's outputs but the last's, in [0, 1], in training. Default 0.
        bidirectional: run over the sequence both ways and concatenate the outputs. Default False.
        proj_size: if above 0, h_t = W_hr (o_t ⊙ tanh(c_t)) of this width (Sak et al. 2014, arXiv 1402.1128). Default 0.
        device, dtype: of the parameters.
        recurrent_dropout: of the hidden state on its way into the gates, in [0, 1], in training; one mask a gate and
            sequence, as in Keras. Default 0.
        return_all_states: return every state at every step besides. Default False.
        engine: how the cell is run over time, a name in `rnn_torch.ENGINES` or `"auto"` (default).

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.

    Example:
        >>> layer = LSTM(10, 20, batch_first=True)
        >>> output, (h_n, c_n) = layer(torch.randn(3, 5, 10))
        >>> output.shape, c_n.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]))
    """

    cell = "LSTM"

    def _state_shapes(self, batch: int) -> tuple[tuple[int, int, int], ...]:
        ((runs, _, hidden_size),) = super()._state_shapes(batch)
        return (runs, batch, self.proj_size or hidden_size), (runs, batch, hidden_size)

    def _initial(self, hx: Any, dim: int) -> State | None:
        if hx is None:
            return None
        h, c = hx
        if h.dim() != dim or c.dim() != dim:
            form = (
                "For batched 3-D input, hx and cx should also be 3-D"
                if dim == 3
                else "For unbatched 2-D input, hx and cx should also be 2-D"
            )
            raise RuntimeError(f"{form} but got ({h.dim()}-D, {c.dim()}-D) tensors")
        return h, c


class GRU(_Layer):
    """A GRU over a sequence: drop-in for `nn.GRU`.

    r_t, z_t = σ(W_i· x_t + W_h· h_{t−1} + b_·)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn)), or
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1})) without `reset_after`
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}  (Cho et al. 2014, arXiv 1406.1078)

    Args:
        input_size: width of x_t.
        hidden_size: width of h_t.
        num_layers: layers stacked, each fed the outputs of the one below. Default 1.
        bias: with `bias_ih` and `bias_hh`. Default True.
        batch_first: input and output are `(batch, time, …)`, not `(time, batch, …)`. Default False.
        dropout: of every layer's outputs but the last's, in [0, 1], in training. Default 0.
        bidirectional: run over the sequence both ways and concatenate the outputs. Default False.
        device, dtype: of the parameters.
        reset_after: whether the reset gate acts after the recurrent product (default, `nn`'s form) or before it, in
            which case both biases of every gate are added.
        recurrent_dropout: of the hidden state on its way into the gates, in [0, 1], in training; one mask a gate and
            sequence, as in Keras. Default 0.
        return_all_states: return every state at every step besides. Default False.
        engine: how the cell is run over time, a name in `rnn_torch.ENGINES` or `"auto"` (default).

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.

    Example:
        >>> layer = GRU(10, 20, batch_first=True)
        >>> output, h_n = layer(torch.randn(3, 5, 10))
        >>> output.shape, h_n.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]))
    """

    cell = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        _refuse_projection(options)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, **options
        )
        self.reset_after = reset_after

    def _options(self) -> dict[str, Any]:
        return {"reset_after": self.reset_after}

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")


def _refuse_projection(options: dict[str, Any]) -> None:
    if "proj_size" in options:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
