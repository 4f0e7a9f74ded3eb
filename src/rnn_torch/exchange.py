"""Models out of what is in a file of either framework: built of our layers, filled, run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_common import exchange, packings
from rnn_common.cells import Cell
from rnn_common.doctor import live
from rnn_common.exchange import (
    Activation,
    Dense,
    Embedding,
    Found,
    Layer,
    Optimiser,
    Recurrent,
    arrays_write,
    optimisers,
)
from rnn_common.exchange import fill as filling
from rnn_common.exchange.proof import Proof
from rnn_torch import layers
from rnn_torch.activations import accepted, function_of
from rnn_torch.own import layer_of

# What PyTorch's optimisers call what they remember.
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "velocity": "momentum_buffer"}


def load(path: Path | str, dtype: torch.dtype = torch.float32, cells: Sequence[Cell | str] = ()) -> nn.Module:
    """The model in a file of PyTorch's, Keras's, ONNX's or NumPy's, or in a checkpoint of ours; see `rnn_common.exchange.read`.

    Args:
        path: of the file, or of a folder of checkpoints.
        dtype: of the parameters. Default float32.
        cells: of the user's own, that the file may have layers of; see `rnn_common.exchange.read`. Default none.

    Returns:
        A `Chain` where the file says that its layers are one; else an `nn.ModuleDict` of those that we have, by name.

    Raises:
        NotUnderstood, OSError: see `read`.
        ValueError: there is no recurrent layer in it, or one that no layer of ours computes; says which.
    """
    return model(exchange.read(path, cells), dtype)


def save(module: nn.Module, path: Path | str) -> list[Proof]:
    """Write a live layer or network into a file of either framework, and prove that it computes the same.

    Args:
        module: ours or the framework's own: recurrent layers, embeddings and dense layers.
        path: ends with one of `rnn_common.exchange.convert.TARGETS`. Into `.keras`, `.weights.h5` and `.onnx` goes a network of
            layers that each read what the one before it gives, which is seen by running it; into the others weights by name.

    Returns:
        How far what was written is from the equations, and how far it may be; see `rnn_common.exchange.proof.Proof`.

    Raises:
        TypeError, ValueError: it holds no recurrent layer, or the file cannot hold it; says what.
        ProofFailed: what was written does not compute the same; nothing is left.
        OSError: the file cannot be written.
    """
    return live.save(module, path)


def fill(
    module: nn.Module,
    found_or_path: Found | Path | str,
    match: Mapping[str, str] | None = None,
    cells: Sequence[Cell | str] = (),
) -> list[Proof]:
    """Give the layers of a live network the weights of those in a file of either framework, and prove that they compute the same.

    Recurrent layers, ours and `torch.nn`'s, embeddings and dense layers are filled; what else there is stays as it is: engines,
    dropout, what is returned, which steps a recurrent layer skips. The activation behind an `nn.Linear` is not seen.
    Nothing is written before all is checked. Then each layer is run by itself on random numbers up to 3, beside the equations.

    Args:
        module: a network, or a single layer.
        found_or_path: of the file its path, see `rnn_common.exchange.read`, or what was found in it.
        match: by the name of each layer that is to be filled that of the layer in the file, which `rnn-parity inspect` says;
            in a module of several layers they are called `"lstm, layer 2"`. Default: all, those of one kind (recurrent,
            embedding, dense) in their order.
        cells: of the user's own, that the file may have layers of; see `rnn_common.exchange.read`. Default none.

    Returns:
        How far each is from the equations, and its bound: in a dtype coarser than float32 rounding may be as much coarser.

    Raises:
        NotUnderstood, OSError: see `read`.
        TypeError: module is none of PyTorch's.
        ValueError: a layer would compute something else, for it differs in cell, form, activations, directions or how they become
            one, sizes or biases; or its weights are shared or computed from others; or there are not as many as in the file.
        ProofFailed: a layer does not compute what was found; all have their old weights again.

    Warns:
        MergedBiasesWarning: see `copy_weights`.
    """
    return filling.fill("torch", module, found_or_path, match, cells)


def load_optimiser(path: Path | str, model: nn.Module, cells: Sequence[Cell | str] = ()) -> torch.optim.Optimizer:
    """The optimiser with which the model in a file was trained, Adam or SGD, with all that it remembers.

    Args:
        path: of the file, from which `load` made the model.
        model: whose parameters it is to train.
        cells: of the user's own, that the file may have layers of; see `rnn_common.exchange.read`. Default none.

    Raises:
        NotUnderstood, OSError: see `read`.
        ValueError: there is none in it, or none that can be taken along; says why.
    """
    return optimiser(exchange.read(path, cells), model)


def model(found: Found, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The same of what was found already."""
    if not found.recurrent:
        names = ", ".join(each.name for each in found.layers) or "none"
        raise ValueError(f"{found.path} should hold a recurrent layer, got {names}")
    modules = {name: built(layer, dtype) for name, layer in found.by_name(".").items()}
    if found.is_network:
        return Chain(modules)
    return nn.ModuleDict(modules)


def optimiser(found: Found, model: nn.Module) -> torch.optim.Optimizer:
    """The same of what was found already."""
    about = optimisers.fitted(found, "torch")
    prefix = "layers." if isinstance(model, Chain) else ""
    arrays = {
        moment: {
            f"{prefix}{name}.{key}": array
            for name, layer in replace(found, layers=layers).by_name(".").items()
            for key, array in _packed(layer).items()
        }
        for moment, layers in about.moments.items()
    }
    return _remembering(about, dict(model.named_parameters()), arrays)


class Chain(nn.Module):
    """Layers one after the other.

    Args:
        layers: by name, in order: the modules of this page.

    Inputs: `x`, features `(batch, time, input)` or, where an embedding comes first, symbols `(batch, time)`; `lengths (batch,)`,
        how many steps each sequence has, default all, or those whose symbol is not 0 where the embedding says that 0 is padding.

    Returns: `(batch, time, width)`, or `(batch, width)` behind a layer that hands on its last output alone.
    """

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        places = None
        for layer in self.layers.values():
            if isinstance(layer, Table) and layer.masks and lengths is None:
                x, lengths, places = _in_front(x, x != 0)
            x = layer(x, lengths) if isinstance(layer, Run) else layer(x)
        return x if places is None or x.dim() < 3 else _put_back(x, lengths, places)


def _in_front(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Valid steps before the others, how many there are, and where each was."""
    places = torch.argsort(~valid, dim=1, stable=True)
    return x.gather(1, places), valid.sum(1), places


def _put_back(y: Tensor, lengths: Tensor | None, places: Tensor) -> Tensor:
    """Every output where its step was; zeros at those that were skipped."""
    steps = torch.arange(y.size(1), device=y.device)
    kept = torch.where((steps < lengths[:, None])[..., None], y, 0)  # type: ignore[index]
    return torch.zeros_like(y).scatter(1, places[..., None].expand_as(y), kept)


class Table(nn.Embedding):
    """An embedding; with `masks` symbol 0 is padding."""

    masks = False


class Affine(nn.Linear):
    """activation(W x + b)."""

    activation: Activation

    def forward(self, x: Tensor) -> Tensor:
        return _function(self.activation)(super().forward(x))


class Run(nn.Module):
    """A recurrent layer of ours, its directions and outputs as a file has them.

    Args:
        layer: with `batch_first`.
        about: what was found.
    """

    def __init__(self, layer: nn.Module, about: Recurrent) -> None:
        super().__init__()
        self.layer = layer
        self.backwards, self.flipped, self.merge = about.backwards, about.flipped, about.merge
        self.returns_sequences = about.returns_sequences is not False

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = _turned(x, lengths) if self.backwards else x
        if lengths is None:
            outputs, final = self.layer(x)
        else:
            packed, final = self.layer(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))
            outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.size(1))
        if not self.returns_sequences:
            h = final[0] if isinstance(final, tuple) else final
            return self._merged(*h)
        outputs = _turned(outputs, lengths) if self.backwards else outputs
        outputs = outputs.flip(1) if self.flipped else outputs
        return self._merged(*outputs.chunk(2, -1)) if self.merge != "concat" else outputs

    def _merged(self, *halves: Tensor) -> Tensor:
        """Both directions' outputs as one; of a single one its own."""
        if len(halves) == 1 or self.merge == "concat":
            return torch.cat(halves, -1)
        forward, backward = halves
        return {"sum": forward + backward, "mul": forward * backward, "ave": (forward + backward) / 2}[self.merge]


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sequence from its last step to its first; padding stays behind it."""
    if lengths is None:
        return x.flip(1)
    t = torch.arange(x.size(1), device=x.device)
    order = torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return x.gather(1, order[..., None].expand_as(x))


def built(layer: Layer, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A module with a found layer's weights."""
    if isinstance(layer, Embedding):
        symbols, width = layer.E.shape
        table = Table(symbols, width, _weight=_tensor(layer.E).to(dtype))
        table.masks = bool(layer.masks)
        return table
    if isinstance(layer, Dense):
        outputs, inputs = layer.W.shape
        affine = Affine(inputs, outputs, bias=layer.b is not None, dtype=dtype)
        affine.activation = layer.activation
        affine.load_state_dict({name: _tensor(array) for name, array in _packed(layer).items()})
        return affine
    assert isinstance(layer, Recurrent)
    return Run(_recurrent(layer, dtype), layer)


def arrays(layer: Embedding | Dense) -> dict[str, exchange.Array]:
    """The weights of a found layer that is not recurrent, by the names of a module's parameters."""
    if isinstance(layer, Embedding):
        return {"weight": layer.E}
    return {"weight": layer.W} | ({} if layer.b is None else {"bias": layer.b})


def _recurrent(layer: Recurrent, dtype: torch.dtype) -> nn.Module:
    """A layer of ours with the weights of a found one, both biases of a gate as they are.

    Raises:
        ValueError: its directions have different activations, or none of PyTorch's layers takes them.
    """
    if len({direction.activations for direction in layer.directions}) > 1:
        raise ValueError(
            f"{layer.name} should have the same activations in both directions, as one layer has in PyTorch"
        )
    options = dict(zip(("activation", "recurrent_activation"), layer.activations, strict=False))
    if layer.cell.name == "SimpleRNN":
        options = {"nonlinearity": layer.activations[0].name}  # type: ignore[dict-item]
    kind: Any = getattr(layers, layer.cell.layer_class) if layer.cell.in_table else layer_of(layer.cell)
    try:
        made: nn.Module = kind(
            layer.input_size,
            layer.hidden_size,
            bias=layer.bias,
            batch_first=True,
            bidirectional=len(layer.directions) == 2,
            dtype=dtype,
            **layer.cell.options,
            **options,
        )
    except ValueError as error:
        raise ValueError(f"{layer.name}: {error}") from None
    made.load_state_dict({name.removeprefix("layer."): _tensor(array) for name, array in _packed(layer).items()})
    return made


def _packed(layer: Recurrent | Embedding | Dense) -> dict[str, exchange.Array]:
    """A found layer's arrays by the names that they have in a module of `built`."""
    if not isinstance(layer, Recurrent):
        return arrays(layer)
    state: dict[str, exchange.Array] = {}
    for direction, suffix in zip(layer.directions, ("_l0", "_l0_reverse"), strict=False):
        state |= packings.pack_torch(layer.cell, direction.weights, suffix)
    return {f"layer.{name}": array for name, array in state.items()}


def _remembering(
    about: Optimiser, parameters: Mapping[str, nn.Parameter], arrays: Mapping[str, Mapping[str, exchange.Array]]
) -> torch.optim.Optimizer:
    """An optimiser of parameters, with the moments of each by its name.

    Raises:
        ValueError: a parameter has none.
    """
    settings = about.settings
    made: torch.optim.Optimizer
    if about.name == "adam":
        betas = (settings["beta_1"], settings["beta_2"])
        made = torch.optim.Adam(parameters.items(), settings["learning_rate"], betas, settings["epsilon"])
    else:
        rates = (settings["learning_rate"], settings["momentum"])
        made = torch.optim.SGD(parameters.items(), *rates, nesterov=bool(settings["nesterov"]))
    for name, parameter in parameters.items():
        for moment, own in arrays.items():
            if name not in own:
                raise ValueError(f"model should be of the weights in the file, got {name} besides")
            array = own[name] / -settings["learning_rate"] if moment == "velocity" else own[name]
            made.state[parameter][MOMENTS[moment]] = _tensor(array).to(parameter)
        if arrays and about.name == "adam":
            made.state[parameter]["step"] = torch.tensor(float(about.updates or 0))
    return made


def _function(activation: Activation) -> Callable[[Tensor], Tensor]:
    """The function of a dense layer's activation."""
    if activation.name == "softmax":
        return partial(torch.softmax, dim=-1)
    return function_of(accepted("activation", activation))


def _tensor(array: exchange.Array) -> Tensor:
    """With memory of its own: that of what was read from a file must not be written to."""
    return torch.from_numpy(np.array(array, order="C"))


def write(found: Found, path: Path) -> None:
    """Write what was found as a state dict; beside it, where there is an optimiser, that one's."""
    state = {name: _tensor(array) for name, array in arrays_write.state_dict(found.layers).items()}
    if found.optimiser is None:
        torch.save(state, path)
        return
    about = optimisers.fitted(found, "torch")
    moments = {moment: arrays_write.state_dict(layers) for moment, layers in about.moments.items()}
    made = _remembering(about, {name: nn.Parameter(tensor) for name, tensor in state.items()}, moments)
    torch.save({"model": state, "optimizer": made.state_dict()}, path)


def run(model: nn.Module, x: exchange.Array, lengths: exchange.Array | None = None) -> exchange.Array:
    """What a model of `model` gives, in NumPy and without dropout."""
    given = torch.from_numpy(np.ascontiguousarray(x))
    with torch.no_grad():
        return model.eval()(given, None if lengths is None else torch.from_numpy(lengths)).numpy()
