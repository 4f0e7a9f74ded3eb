"""What the layers share, drop-in for those of `nn`: their parameters, shapes and errors.

A layer is an `nn.RNNBase`, which holds PyTorch's packed parameters, `weight_ih_l0` and so on, one set a layer and direction.
A call brings the input into time-major form, runs an engine once for each layer and direction, and hands the results back in
the form in which the input came. Packed sequences stay packed.
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnn_common.cells import Cell
from rnn_torch import unroll
from rnn_torch.activations import ACTIVATIONS, others
from rnn_torch.cells.base import (
    Activation,
    Recurrence,
    State,
    as_builtin,
    autocast,
    autocast_dtype,
    autocast_enabled,
    leaf,
    no_autocast,
    refuse_for_torchscript,
    states_of,
)
from rnn_torch.stack import joined, run_each

Hidden = Tensor | tuple[Tensor, Tensor]


class Layer(nn.RNNBase):
    """What the three layers share: everything but the equations."""

    builtin: type[nn.RNNBase]

    def __init__(
        self,
        mode: str,
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
        check_rate("recurrent_dropout", recurrent_dropout)
        unroll.check(engine)
        super().__init__(
            mode,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )
        self.recurrent_dropout = float(recurrent_dropout)
        self.return_all_states = return_all_states
        self.engine = engine

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
    def cell(self) -> Cell:
        """The row of the table."""
        raise NotImplementedError

    def recurrence(self) -> Recurrence:
        """The cell and its options."""
        return Recurrence(self.cell, self._activations(), projected=self.proj_size > 0)

    def _activations(self) -> tuple[Activation, ...]:
        return tuple(ACTIVATIONS[name] for name in self.cell.activations)

    def packed(self, suffix: str = "_l0", dtype: torch.dtype | None = None) -> list[Tensor]:
        """The weights of one layer and direction as PyTorch packs them, cast to `dtype` if one is given."""
        own: dict[str, Any] = self._parameters  # those that are not there are computed: pruned, say, or parametrized
        names = [name + suffix for name in self._weight_names()]
        weights = [own[name] if name in own else getattr(self, name) for name in names]
        return [w if dtype in (None, w.dtype) else w.to(dtype) for w in weights]

    def _weights(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        """Those of all layers and directions, one set after the other."""
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        return [w for suffix in suffixes for w in self.packed(suffix, dtype)]

    def _weight_names(self) -> list[str]:
        """The names of the weights of one layer and direction, without their endings."""
        return ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * self.bias + ["weight_hr"] * (self.proj_size > 0)

    def explain(self, input: Tensor | PackedSequence) -> unroll.Choice:
        """Which engine runs a call, and why not those that were asked before it.

        Args:
            input: what the layer is to be called with.

        Returns:
            The name of the `engine`, and the reasons by name: `refused`.
        """
        x = input.data if isinstance(input, PackedSequence) else input
        return self._choose(self.recurrence(), self._weights(), autocast(x), ())

    def _choose(self, recurrence: Recurrence, weights: list[Tensor], x: Tensor, state: State) -> unroll.Choice:
        if self.recurrent_dropout and self.training:
            # By name alone: masks are drawn by each run.
            recurrence = dataclasses.replace(recurrence, masks=dict.fromkeys(self.cell.recurrent_matrices, x))
        return unroll.explain(self.engine, recurrence, weights, x, state, self.return_all_states)

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
        if isinstance(input, fx.Proxy):
            return leaf(self, input, hx)
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
        state = self._initial(hx, 3)
        if input.data.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {input.data.dim()}")
        if state is not None and input.sorted_indices is not None:
            state = tuple(h.index_select(1, input.sorted_indices) for h in state)
        output, final, history = self._run(input.data, state, input.batch_sizes)
        packed = PackedSequence(output, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        if input.unsorted_indices is not None:
            final = tuple(h.index_select(1, input.unsorted_indices) for h in final)
            history = tuple(h.index_select(2, input.unsorted_indices) for h in history)
        return self._returned(packed, final, history)

    def _initial(self, hx: Any, dim: int) -> State | None:
        """The initial state as a tuple, refused as `nn` does if it has not `dim` dimensions."""
        if hx is None:
            return None
        state = states_of(self.cell, hx)
        if any(h.dim() != dim for h in state):
            form, names = "batched 3-D" if dim == 3 else "unbatched 2-D", "hx and cx" if len(state) == 2 else "hx"
            got = f"({state[0].dim()}-D, {state[1].dim()}-D) tensors" if len(state) == 2 else f"{hx.dim()}-D tensor"
            raise RuntimeError(f"For {form} input, {names} should also be {dim}-D but got {got}")
        return state

    def _returned(self, output: Any, final: State, history: State) -> Any:
        hidden = final if len(final) > 1 else final[0]
        if not self.return_all_states:
            return output, hidden
        return output, hidden, history if len(history) > 1 else history[0]

    def _run(self, x: Tensor, state: State | None, batch_sizes: Tensor | None = None) -> tuple[Tensor, State, State]:
        """Every layer and direction over `x (time, batch, input)`, or packed `(rows, input)`.

        Returns the output, the final states and, if asked for, all states.
        """
        batch = x.size(1) if batch_sizes is None else int(batch_sizes[0])
        self._check_input(x)
        if state is None:
            state = self._zeros(x, batch)
        else:
            self._check_state(state, x, batch)
        if x.size(0) == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return self._traced(x, state, batch_sizes)
        if not autocast_enabled(x):
            return self._run_cast(x, state, batch_sizes)
        x, state = autocast(x), tuple(map(autocast, state))
        with no_autocast(x):
            return self._run_cast(x, state, batch_sizes)

    def _run_cast(self, x: Tensor, state: State, batch_sizes: Tensor | None) -> tuple[Tensor, State, State]:
        """The same, all in the precision in which `x` is."""
        recurrence, weights = self.recurrence(), self._weights(x.dtype)
        engine = self._choose(recurrence, weights, x, state).engine
        if self._is_one_call(engine):
            if len(state[0]) > 1:
                recurrence = dataclasses.replace(recurrence, layers=self.num_layers, directions=self._directions)
            (output,), final = unroll.unroll(engine, recurrence, weights, x, state, batch_sizes)
            return _apart(output), final, ()
        output, final, history = self._run_each(engine, recurrence, weights, x, state, batch_sizes)
        return output if self.bidirectional else _apart(output), final, history

    def _is_one_call(self, engine: str) -> bool:
        """Whether all layers and directions are run by one operation, as `nn` runs them: on a GPU they overlap."""
        between = self.dropout and self.training and self.num_layers > 1
        return engine == "vendor" and not (between or self.return_all_states or torch.compiler.is_compiling())

    def _run_each(
        self,
        engine: str,
        recurrence: Recurrence,
        weights: list[Tensor],
        x: Tensor,
        state: State,
        batch_sizes: Tensor | None,
    ) -> tuple[Tensor, State, State]:
        """The same, one layer and direction after the other."""
        every, count = self.return_all_states, len(weights) // len(state[0])
        histories: list[State] = []

        def run(n: int, x: Tensor, backwards: bool) -> tuple[State, State]:
            own, before = weights[n * count : (n + 1) * count], tuple(h[n] for h in state)
            masked = self._in_training(recurrence, before[0])
            history, final = unroll.unroll(engine, masked, own, x, before, batch_sizes, backwards, every)
            if every:
                histories.append(_padded(history, before, final, backwards, batch_sizes))
            return history, final

        def between(x: Tensor) -> Tensor:
            return functional.dropout(x, self.dropout) if self.dropout and self.training else x

        output, finals = run_each(run, x, self.num_layers, self._directions, between)
        return output, joined(finals), joined(histories)

    def _in_training(self, recurrence: Recurrence, h: Tensor) -> Recurrence:
        """In training, with masks for the hidden state, drawn anew."""
        if not (self.recurrent_dropout and self.training):
            return recurrence
        return dataclasses.replace(recurrence, masks=_recurrent_masks(self.cell, h, self.recurrent_dropout))

    def _traced(self, x: Tensor, state: State, batch_sizes: Tensor | None) -> tuple[Tensor, State, State]:
        """The layer as PyTorch's own operation, which serves every length; a loop would be written down for one length."""
        self._refuse_what_nn_lacks(self.training)
        operation: Any = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[
            self.mode
        ]
        hx = state if len(state) == 2 else state[0]
        weights = [weight for weights in self.all_weights for weight in weights]
        options = (weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        if batch_sizes is None:
            output, *final = operation(x, hx, *options, False)
        else:
            output, *final = operation(x, batch_sizes, hx, *options)
        return output, tuple(final), ()

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` takes in this layer's place: `nn`'s, with the same parameters."""
        self._refuse_what_nn_lacks(training=True)
        return as_builtin(self, self.builtin)

    def _refuse_what_nn_lacks(self, training: bool) -> None:
        options = {
            "return_all_states": self.return_all_states,
            "recurrent_dropout": training and self.recurrent_dropout > 0,
            **{f"{option}={value}": True for option, value in {**self.cell.options, **others(self)}.items()},
            f"cell {self.cell.name}": "torch" not in self.cell.builtin,
        }
        for option in (option for option, given in options.items() if given):
            refuse_for_torchscript(type(self).__name__, option)

    def _state_shapes(self, batch: int) -> tuple[tuple[int, int, int], ...]:
        return ((self.num_layers * self._directions, batch, self.hidden_size),)

    def _zeros(self, x: Tensor, batch: int) -> State:
        """An initial state; of one tensor twice where that is as wide, but for a user's cell, which might write in it."""
        shapes = self._state_shapes(batch)
        first = x.new_zeros(shapes[0])
        alike = [self.cell.in_table and shape[-1] == shapes[0][-1] for shape in shapes[1:]]
        return (first, *(first if same else x.new_zeros(shape) for same, shape in zip(alike, shapes[1:], strict=True)))

    def _check_input(self, x: Tensor) -> None:
        weight = cast(Tensor, getattr(self, self._weight_names()[0] + "_l0"))
        if x.dtype != weight.dtype and autocast_dtype(x) != autocast_dtype(weight):
            raise ValueError(
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
            )
        if x.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.size(-1)}"
            )
        _check_device("parameter", weight, x)

    def _check_state(self, state: State, x: Tensor, batch: int) -> None:
        shapes = self._state_shapes(batch)
        for i, (h, shape) in enumerate(zip(state, shapes, strict=True)):
            name = "hidden" if len(shapes) == 1 else f"hidden[{i}]"
            if h.size() != shape:
                raise RuntimeError(f"Expected {name} size {shape}, got {list(h.size())}")
            if h.dtype != x.dtype and autocast_dtype(h) != autocast_dtype(x):
                raise RuntimeError(f"Expected {name} of dtype {x.dtype}, got {h.dtype}")
            _check_device("hidden", h, x)

    def extra_repr(self) -> str:
        own = {"recurrent_dropout": 0, "return_all_states": False, "engine": "auto"}
        parts = [f"{name}={getattr(self, name)}" for name, value in own.items() if getattr(self, name) != value]
        parts += [f"{name}={kept}" for name, kept in others(self).items()]
        return ", ".join([super().extra_repr(), *parts])


def check_rate(argument: str, value: Any) -> None:
    """Refuse what is no share.

    Raises:
        ValueError: it is no number from 0 to 1.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= value <= 1:  # type: ignore[operator]
        raise ValueError(f"{argument} should be a number in range [0, 1], got {value!r}")


def _apart(output: Tensor) -> Tensor:
    """A copy of what the backward pass keeps, which is not handed out, so that what is may be changed in place."""
    return output.clone() if output.requires_grad else output


def _padded(history: State, initial: State, final: State, backwards: bool, batch_sizes: Tensor | None) -> State:
    """Every state at every step, `(time, batch, hidden)`; where a sequence has no step its state is held."""
    if batch_sizes is None:
        return history
    held = initial if backwards else final
    padded = []
    for h, h_held in zip(history, held, strict=True):
        steps, lengths = pad_packed_sequence(PackedSequence(h, batch_sizes))
        absent = torch.arange(len(steps), device="cpu")[:, None] >= lengths
        padded.append(torch.where(absent.unsqueeze(-1).to(h.device), h_held, steps))
    return tuple(padded)


def _check_device(kind: str, tensor: Tensor, x: Tensor) -> None:
    if tensor.device != x.device:
        raise RuntimeError(
            f"Input and {kind} tensors are not at the same device, "
            f"found input tensor at {x.device} and {kind} tensor at {tensor.device}"
        )


def _recurrent_masks(cell: Cell, h: Tensor, rate: float) -> dict[str, Tensor]:
    """Drop the hidden state on its way into each gate: one mask a gate and sequence, as in Keras (Gal & Ghahramani 2016)."""
    ones = torch.ones_like(h)
    return {name: functional.dropout(ones, rate) for name in cell.recurrent_matrices}
