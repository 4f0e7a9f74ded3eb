"""Recurrent layers in files of either framework, old ones too: read, described without a framework, run by the equations.

`read` says what is in a file, as `Found`. It calls no framework's loader, imports none, and neither unpickles nor executes
anything: a file is arrays and data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rnn_common.cells import Cell
from rnn_common.exchange import (
    arrays_file,
    by_keras,
    by_torch_names,
    checkpoint_file,
    hdf5_file,
    keras_file,
    keras_optimiser,
    onnx_file,
    own_cells,
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
    ".json": checkpoint_file.read,
    **dict.fromkeys((".h5", ".hdf5"), lambda path: _by_keras(hdf5_file.read(path))),
    ".keras": lambda path: _by_keras(keras_file.read(path)),
    ".onnx": onnx_file.read,
}
# And of files of arrays by name.
_BY_NAME: dict[str, Callable[[Path], Contents]] = {
    **dict.fromkeys((".pt", ".pth"), pytorch_file.read),
    **dict.fromkeys((".npz", ".safetensors"), arrays_file.read),
}
SUFFIXES = (*_BY_NAME, *_READERS)

# Pickles run what they say when they are opened.
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill")


def read(path: Path | str, cells: Sequence[Cell | str] = ()) -> Found:
    """What is in a file: its recurrent layers, embeddings, dense layers, and the rest by name.

    Args:
        path: of the file, which ends with one of `SUFFIXES`, or of a folder of checkpoints of `rnn-parity train`, of which the
            newest is read.
        cells: of the user's own, whose layers are in the file by the names that the cell gives its weights; or where they stand:
            `"path/to/file.py:NAME"`. Default none.

    Raises:
        ValueError: one of `cells` is none of the user's own.
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
    own = own_cells.own(cells)
    if path.is_dir() or _is_of_checkpoint(path):
        suffix = ".json"
    if suffix not in SUFFIXES:
        raise NotUnderstood(f"{path} should end with {', '.join(SUFFIXES)}, got {suffix or 'no ending'}")
    if own and suffix not in _BY_NAME:
        raise NotUnderstood(
            f"cells of your own are found by the names of their weights in {', '.join(_BY_NAME)}, got {path}"
        )
    try:
        if suffix in _BY_NAME:
            return _by_torch_names(_BY_NAME[suffix](path), own)
        return _READERS[suffix](path)
    except ValueError as error:
        raise NotUnderstood(str(error) if path.name in str(error) else f"{path.name}: {error}") from None


def _is_of_checkpoint(path: Path) -> bool:
    """Whether these are the arrays beside a checkpoint's JSON file."""
    return path.match("checkpoint-*.safetensors") and path.with_suffix(".json").is_file()


def _by_torch_names(contents: Contents, own: Sequence[Cell]) -> Found:
    layers = tuple(by_torch_names.find(contents, own))
    there = {layer.cell for layer in layers if isinstance(layer, Recurrent)}
    missing = [
        f"no layer of {cell.name}: its weights would be {', '.join(cell.roles)}, each with _l0"
        for cell in own
        if cell not in there
    ]
    found = Found(contents.path, contents.format, layers, notes=(*contents.notes, *missing))
    return _with_optimiser(found, lambda: torch_optimiser.find(contents, layers, own))


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
