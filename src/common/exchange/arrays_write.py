"""Layers as arrays by PyTorch's names, and those as files: NumPy's `.npz`, and `.safetensors`."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import numpy as np

from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Embedding, Layer, Recurrent, default_activations
from rnn_common.packages import optional
from rnn_common.packings import pack_torch


def state_dict(layers: Sequence[Layer]) -> dict[str, Array]:
    """Arrays by the names that PyTorch's modules give them, each layer's behind its own name.

    Raises:
        ValueError: two layers' arrays would have one name; or a layer is what no array of PyTorch's layers says: it runs
            backwards, merges its directions otherwise than side by side, is of another form or has other activations.
    """
    state: dict[str, Array] = {}
    for layer in layers:
        arrays = _arrays(layer)
        if twice := set(arrays) & set(state):
            raise ValueError(f"layers should have names of their own, got {sorted(twice)[0]} twice")
        state |= arrays
    return state


def _arrays(layer: Layer) -> dict[str, Array]:
    if isinstance(layer, Embedding | Dense):
        return matrices(layer)
    if not isinstance(layer, Recurrent):
        return {}
    if what := _unsaid(layer):
        raise ValueError(
            f"{layer.name} should be a layer of torch.nn, whose arrays' names say all, got one {what}: "
            ".onnx and .keras can hold it, and rnn_torch.load reads it from where it is"
        )
    name, number = place(layer.name)
    state: dict[str, Array] = {}
    for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=False):
        state |= pack_torch(layer.cell, direction.weights, f"_l{number}{suffix}")
    return {f"{name}.{key}": array for key, array in state.items()}


def matrices(layer: Embedding | Dense) -> dict[str, Array]:
    """The arrays of a layer that is not recurrent."""
    if isinstance(layer, Embedding):
        return {f"{layer.name}.weight": layer.E}
    return {f"{layer.name}.weight": layer.W} | ({} if layer.b is None else {f"{layer.name}.bias": layer.b})


def _unsaid(layer: Recurrent) -> str:
    """What PyTorch's names would not say about a layer."""
    if layer.cell.gates and "torch" not in layer.cell.builtin:
        return f"of the form {layer.cell.name}"
    if layer.backwards:
        return "that runs backwards"
    if layer.merge != "concat":
        return f"that merges its directions by {layer.merge}"
    for direction in layer.directions:
        if direction.activations != default_activations(layer.cell):
            return f"with the activations {', '.join(map(str, direction.activations))}"
    return ""


def place(name: str) -> tuple[str, int]:
    """Of which stack a layer is, and which of its layers, from 0: `"lstm, layer 2"` is 1 of `"lstm"`."""
    found = re.fullmatch(r"(.*), layer (\d+)", name)
    return (found[1], int(found[2]) - 1) if found else (name, 0)


def npz(arrays: Mapping[str, Array]) -> bytes:
    """The content of an `.npz` file."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def safetensors(arrays: Mapping[str, Array]) -> bytes:
    """The content of a `.safetensors` file.

    Raises:
        MissingPackage: the package safetensors is not installed.
    """
    library = optional("safetensors.numpy", ".safetensors files are written with", extra="exchange")
    return bytes(library.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
