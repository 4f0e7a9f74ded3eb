"""`rnn_common.networks` built from PyTorch's parts and our layers, and what one does with a network, in NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_common import networks, packings
from rnn_common.cells import CELLS, Cell
from rnn_common.checks import one_of
from rnn_common.data.batches import Batch
from rnn_common.networks import Array, Model, Weights
from rnn_common.twins import NetworkState
from rnn_torch import layers
from rnn_torch.clock import devices

State = list[tuple[Tensor, ...]]


class Stack(nn.Module):
    """An embedding, where steps are symbols, and recurrent layers on one another."""

    def __init__(self, described: networks.Stack) -> None:
        super().__init__()
        self.described = described
        self.embedding = nn.Embedding(described.inputs, described.embedding) if described.embedding else None
        cell = CELLS[described.cell]
        self.layers = nn.ModuleList(
            getattr(layers, cell.layer_class)(
                described.input_size(layer),
                described.hidden,
                batch_first=True,
                bidirectional=described.bidirectional,
                **cell.options,
            )
            for layer in range(1, described.layers + 1)
        )
        self.dropout = nn.Dropout(described.dropout)
        for layer in self.layers:
            _train_one_bias(layer, cell)

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """Run the layers.

        Args:
            x: `(batch, time, features)`, or `(batch, time)` symbols.
            lengths: `(batch,)`, on the CPU. Default: every sequence fills the time axis.
            state: each layer's first state, `(h,)` or `(h, c)`, each `(batch, width)`; in one direction only. Default zeros.

        Returns:
            The outputs `(batch, time, width)` and each layer's final state, its directions side by side.
        """
        if self.embedding is not None:
            x = self.embedding(x)
        final = []
        for index, layer in enumerate(self.layers):
            x, h = _run(layer, x if index == 0 else self.dropout(x), lengths, None if state is None else state[index])
            final.append(h)
        return x, final


def _run(
    layer: nn.Module, x: Tensor, lengths: Tensor | None, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer: its outputs, and its final state with the directions side by side."""
    hx = None if state is None else tuple(h.unsqueeze(0) for h in state)
    packed = x if lengths is None else pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, final = layer(packed, hx[0] if hx is not None and len(hx) == 1 else hx)
    if lengths is not None:
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.size(1))
    return outputs, tuple(torch.cat(list(h), -1) for h in (final if isinstance(final, tuple) else (final,)))


def _train_one_bias(layer: nn.Module, cell: Cell) -> None:
    """Of two biases that are added only the first is trained, as the equations have it; the second is 0."""
    for name, parameter in layer.named_parameters():
        if name.startswith("bias_hh"):
            nn.init.zeros_(parameter)
            if cell.apart:
                gates = torch.tensor([gate in cell.apart for gate in cell.orders["torch"]])
                apart = gates.repeat_interleave(len(parameter) // len(gates))
                parameter.register_hook(  # type: ignore[no-untyped-call]
                    lambda gradient, apart=apart: gradient * apart.to(gradient.device)
                )
            else:
                parameter.requires_grad_(False)


class Network(nn.Module):
    """A stack and y_t = W_hy h_t + b_y."""

    def __init__(self, described: networks.Network) -> None:
        super().__init__()
        self.described = described
        self.stack = Stack(described.stack)
        self.output = nn.Linear(described.output_width, described.outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Scores or numbers `(batch, outputs)`, or at every step `(batch, time, outputs)`."""
        outputs, final = self.stack(x, lengths)
        h = outputs if self.described.head == "steps" else final[-1][0]
        return cast(Tensor, self.output(self.stack.dropout(h)))


class EncoderDecoder(nn.Module):
    """An encoder, and a decoder that starts from its final state."""

    def __init__(self, described: networks.EncoderDecoder) -> None:
        super().__init__()
        self.described = described
        self.encoder = Stack(described.encoder)
        self.decoder = Stack(described.decoder)
        self.output = nn.Linear(described.output_width, described.outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Scores of each target symbol `(batch, target time, outputs)`, the decoder reading the one before."""
        if targets is None:
            raise ValueError("targets should be given to an encoder-decoder, got None")
        _, state = self.encoder(x, lengths)
        before = nn.functional.pad(targets.clamp(min=0)[:, :-1], (1, 0))
        outputs, _ = self.decoder(before, None, state)
        return cast(Tensor, self.output(self.decoder.dropout(outputs)))


def build(model: Model, weights: Mapping[str, Array], *, dtype: str = "float32", device: str = "cpu") -> Any:
    one_of("device", device, devices())
    network: nn.Module = Network(model) if isinstance(model, networks.Network) else EncoderDecoder(model)
    network = network.to(device, getattr(torch, dtype))
    fill(network, weights)
    return network


def fill(network: Any, weights: Mapping[str, Array]) -> None:
    networks.check_weights(network.described, weights)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in packed(network, weights).items()})


def weights(network: Any) -> Weights:
    return named(network, {name: value.numpy(force=True).copy() for name, value in network.state_dict().items()})


def _stacks(network: Any) -> Iterator[tuple[str, str, networks.Stack]]:
    """Each stack's prefix in the names of weights and in a `state_dict`, and its description."""
    for prefix, described in network.described.stacks().items():
        yield prefix, prefix.replace("/", ".") or "stack.", described


def _suffix(name: str) -> str:
    """The end of PyTorch's names, for the prefix of a layer and direction."""
    return "_l0_reverse" if "backward" in name else "_l0"


def _layer(name: str) -> str:
    """A layer's place in a `state_dict`, for the prefix of a layer and direction."""
    return f"layers.{int(name.removeprefix('layer').split('/')[0]) - 1}."


def named(network: Any, state: Mapping[str, Array]) -> Weights:
    """Arrays arranged as the `state_dict`, under the document's names."""
    found: Weights = {}
    for prefix, place, stack in _stacks(network):
        if stack.embedding:
            found[f"{prefix}E"] = state[f"{place}embedding.weight"]
        for name, _ in stack.recurrent():
            at = place + _layer(name)
            own = {key.removeprefix(at): array for key, array in state.items() if key.startswith(at)}
            read = packings.from_torch(stack.cell, own, suffix=_suffix(name))
            found |= {f"{prefix}{name}{weight}": array for weight, array in read.items()}
    return found | {"W_hy": state["output.weight"], "b_y": state["output.bias"]}


def packed(network: Any, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays under the document's names, arranged as the `state_dict`."""
    state: dict[str, Array] = {}
    for prefix, place, stack in _stacks(network):
        if stack.embedding:
            state[f"{place}embedding.weight"] = weights[f"{prefix}E"]
        for name, _ in stack.recurrent():
            parameters = networks.recurrent_parameters(stack, weights, prefix + name)
            arrays = packings.to_torch(parameters, _suffix(name))
            state |= {place + _layer(name) + key: array for key, array in arrays.items()}
    return state | {"output.weight": weights["W_hy"], "output.bias": weights["b_y"]}


def inputs(network: Any, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
    """A batch's x, lengths and targets, where the network is."""
    weight = network.output.weight
    x, targets = (
        torch.from_numpy(array).to(weight.device, weight.dtype if array.dtype.kind == "f" else torch.int64)
        for array in (batch.x, batch.targets)
    )
    return x, torch.from_numpy(batch.lengths) if batch.padded else None, targets


def predict(network: Any, batch: Batch) -> Array:
    network.eval()
    with torch.no_grad():
        return cast(Array, network(*inputs(network, batch)).numpy(force=True))


def encode(network: Any, batch: Batch) -> NetworkState:
    network.eval()
    x, lengths, _ = inputs(network, batch)
    with torch.no_grad():
        _, state = network.encoder(x, lengths)
    return [tuple(h.numpy(force=True) for h in layer) for layer in state]


def step(network: Any, symbols: Array, state: NetworkState | None) -> tuple[Array, NetworkState]:
    network.eval()
    stack = network.stack if isinstance(network, Network) else network.decoder
    device = network.output.weight.device
    before = None
    if state is not None:
        before = [tuple(torch.from_numpy(np.ascontiguousarray(h)).to(device) for h in layer) for layer in state]
    with torch.no_grad():
        outputs, after = stack(torch.from_numpy(symbols)[:, None].to(device), None, before)
        scores = network.output(outputs[:, 0])
    return scores.numpy(force=True), [tuple(h.numpy(force=True) for h in layer) for layer in after]
