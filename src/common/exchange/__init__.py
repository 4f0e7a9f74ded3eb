"""Recurrent layers in files of either framework, old ones too: read, described without a framework, run by the equations.

`read` says what is in a file, as `Found`. It calls no framework's loader, imports none, and neither unpickles nor executes
anything: a file is arrays and data.
"""

from __future__ import annotations

from pathlib import Path

from rnn_common.exchange import arrays_file, by_keras, by_torch_names, hdf5_file, keras_file, onnx_file, pytorch_file
from rnn_common.exchange.contents import Contents, NotUnderstood
from rnn_common.exchange.description import (
    Activation,
    Dense,
    Direction,
    Embedding,
    Foreign,
    Found,
    Layer,
    Recurrent,
)
from rnn_common.exchange.forward import Ran, run_chain, run_layer

__all__ = [
    "SUFFIXES",
    "Activation",
    "Contents",
    "Dense",
    "Direction",
    "Embedding",
    "Foreign",
    "Found",
    "Layer",
    "NotUnderstood",
    "Ran",
    "Recurrent",
    "read",
    "run_chain",
    "run_layer",
]

# What reads a file's arrays, by the end of its name, and what finds layers among them.
_READERS = {
    ".pt": (pytorch_file.read, by_torch_names.find),
    ".pth": (pytorch_file.read, by_torch_names.find),
    ".npz": (arrays_file.read, by_torch_names.find),
    ".safetensors": (arrays_file.read, by_torch_names.find),
    ".h5": (hdf5_file.read, by_keras.find),
    ".hdf5": (hdf5_file.read, by_keras.find),
    ".keras": (keras_file.read, by_keras.find),
}
SUFFIXES = (*_READERS, ".onnx")

# Pickles run what they say when they are opened.
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill")


def read(path: Path | str) -> Found:
    """What is in a file: its recurrent layers, embeddings, dense layers, and the rest by name.

    Args:
        path: of the file, which ends with one of `SUFFIXES`.

    Raises:
        NotUnderstood: it is of another kind, or not what it says it is; a message of one line says what.
        OSError: it cannot be read.
        MissingPackage: the package that reads such files is not installed: h5py for Keras's, onnx for ONNX's.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise NotUnderstood(
            f"{path} is a pickle, which runs what it says when it is opened: where you trust it, open it yourself and save its "
            "arrays with numpy.savez"
        )
    if suffix == ".onnx":
        return onnx_file.read(path)
    if suffix not in _READERS:
        raise NotUnderstood(f"{path} should end with {', '.join(SUFFIXES)}, got {suffix or 'no ending'}")
    contents_of, find = _READERS[suffix]
    return find(contents_of(path))
