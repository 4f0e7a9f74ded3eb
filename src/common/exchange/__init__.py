"""Recurrent layers in files of either framework, old ones too: read, described without a framework, run by the equations.

`read` says what is in a file, as `Found`. It calls no framework's loader, imports none, and neither unpickles nor executes
anything: a file is arrays and data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rnn_common.exchange import (
    arrays_file,
    by_keras,
    by_torch_names,
    checkpoint_file,
    hdf5_file,
    keras_file,
    keras_optimiser,
    onnx_file,
    pytorch_file,
    torch_optimiser,
)
from rnn_common.exchange.contents import Array, Contents, NotUnderstood
from rnn_common.exchange.description import (
    Activation,
    Dense,
    Direction,
    Embedding,
    Foreign,
    Found,
    Layer,
    Optimiser,
    Recurrent,
)
from rnn_common.exchange.forward import Ran, run_chain, run_layer
from rnn_common.exchange.optimisers import LEFT_OUT

__all__ = [
    "SUFFIXES",
    "Activation",
    "Array",
    "Contents",
    "Dense",
    "Direction",
    "Embedding",
    "Foreign",
    "Found",
    "Layer",
    "NotUnderstood",
    "Optimiser",
    "Ran",
    "Recurrent",
    "read",
    "run_chain",
    "run_layer",
]

# What reads a file, by the end of its name.
_READERS: dict[str, Callable[[Path], Found]] = {
    **dict.fromkeys((".pt", ".pth"), lambda path: _by_torch_names(pytorch_file.read(path))),
    ".npz": lambda path: _by_torch_names(arrays_file.read(path)),
    ".safetensors": lambda path: _safetensors(path),
    ".json": checkpoint_file.read,
    **dict.fromkeys((".h5", ".hdf5"), lambda path: _by_keras(hdf5_file.read(path))),
    ".keras": lambda path: _by_keras(keras_file.read(path)),
    ".onnx": onnx_file.read,
}
SUFFIXES = tuple(_READERS)

# Pickles run what they say when they are opened.
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill")


def read(path: Path | str) -> Found:
    """What is in a file: its recurrent layers, embeddings, dense layers, and the rest by name.

    Args:
        path: of the file, which ends with one of `SUFFIXES`, or of a folder of checkpoints of `rnn-parity train`, of which the
            newest is read.

    Raises:
        NotUnderstood: it is of another kind, or not what it says it is; a message of one line says what.
        OSError: it cannot be read.
        MissingPackage: the package that reads such files is not installed: h5py for Keras's, onnx for ONNX's, safetensors for
            checkpoints.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise NotUnderstood(
            f"{path} is a pickle, which runs what it says when it is opened: where you trust it, open it yourself and save its "
            "arrays with numpy.savez"
        )
    if path.is_dir():
        suffix = ".json"
    if suffix not in _READERS:
        raise NotUnderstood(f"{path} should end with {', '.join(SUFFIXES)}, got {suffix or 'no ending'}")
    try:
        return _READERS[suffix](path)
    except ValueError as error:
        raise NotUnderstood(str(error) if path.name in str(error) else f"{path.name}: {error}") from None


def _safetensors(path: Path) -> Found:
    """Arrays by PyTorch's names, or a checkpoint's beside its JSON file."""
    if path.name.startswith("checkpoint-") and path.with_suffix(".json").is_file():
        return checkpoint_file.read(path)
    return _by_torch_names(arrays_file.read(path))


def _by_torch_names(contents: Contents) -> Found:
    layers = tuple(by_torch_names.find(contents))
    found = Found(contents.path, contents.format, layers, notes=contents.notes)
    return _with_optimiser(found, lambda: torch_optimiser.find(contents, layers))


def _by_keras(contents: Contents) -> Found:
    layers, chain, notes = by_keras.find(contents)
    found = Found(contents.path, contents.format, layers, chain, (*contents.notes, *notes))
    return _with_optimiser(found, lambda: keras_optimiser.find(contents, layers))


def _with_optimiser(found: Found, find: Callable[[], Optimiser | None]) -> Found:
    """What was found with its optimiser, or with the reason why it is left out."""
    try:
        return replace(found, optimiser=find())
    except ValueError as error:
        return replace(found, notes=(*found.notes, f"{LEFT_OUT}{error}"))
