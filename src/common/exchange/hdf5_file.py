"""Keras's HDF5 files of all ages: whole models, weights by layer, and the weights of Keras 3 by path.

What `Contents.config` holds, where the file says it:

| key | what it is |
| --- | --- |
| `model` | the network's configuration, plain data out of JSON |
| `keras_version` | as it is written: `"2.2.4-tf"` |
| `layers` | of a file by layer: the names of each layer's arrays, in Keras's order, by the layer's name |
| `names` | of a file by path: the layer's own name by the path of its arrays: `"layers/lstm/cell"` |
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rnn_common.exchange import apart
from rnn_common.exchange.contents import Array, Budget, Contents, NotUnderstood
from rnn_common.exchange.hdf5_arrays import array
from rnn_common.exchange.hdf5_objects import datasets, opened, parts, said_in, within, word, words
from rnn_common.exchange.optimisers import LEFT_OUT
from rnn_common.reader import shown

OPTIMISER = "optimizer/"  # what the names of its arrays begin with in a file by path
# What such a file holds besides, of no use to anybody but Keras.
NO_WEIGHTS = ("_optimizer", "loss", "metrics", "compile_metrics", "_compile_metrics", "_metrics")


def read(path: Path) -> Contents:
    """What a `.h5`, `.hdf5` or `.weights.h5` of Keras holds.

    Args:
        path: of the file.

    Raises:
        OSError: it is not there, or cannot be read.
        NotUnderstood: it is no HDF5 of Keras's, is damaged, or claims more than it has.
        ValueError: it is no regular file, or too large.
        MissingPackage: h5py is not installed.
    """
    return apart.read("hdf5_file", path)


def contents_of(path: Path) -> Contents:
    """As `read`, in this process, which a damaged file may end."""
    with opened(path, path) as file:
        return contents(path, file, path.stat().st_size)


def contents(path: Path, file: Any, size: int, config: dict[str, Any] | None = None) -> Contents:
    """What an open HDF5 file of Keras's holds.

    Args:
        path: of the file, or of what it is in.
        file: as h5py opened it.
        size: of the file, in bytes.
        config: what is known besides: `model` and `keras_version`. Default nothing.

    Raises:
        NotUnderstood: see `read`.
    """
    group = within(file, "model_weights") if "model_weights" in file else file
    if "nb_layers" in file.attrs:
        raise NotUnderstood(
            f"{path} should be written by Keras 1 or newer, got arrays by number, as Keras 0 wrote them"
        )
    layers = words(group, "layer_names")
    if layers is None:
        return _by_path(path, file, size, dict(config or {}))
    return _by_layer(path, file, group, layers, size)


def _by_layer(path: Path, file: Any, group: Any, layers: list[str], size: int) -> Contents:
    budget = Budget()
    arrays: dict[str, Array] = {}
    by_layer: dict[str, list[str]] = {}
    for layer in layers:
        if layer in by_layer:
            raise NotUnderstood(f"{path}: layer_names should name each layer once, got {shown(layer)} twice")
        holder = within(group, layer)
        names = words(holder, "weight_names") or []
        by_layer[layer] = [f"{layer}/{name}" for name in names]
        for name, full in zip(names, by_layer[layer], strict=True):
            if full in arrays:
                raise NotUnderstood(f"{path}: weight_names should name each array once, got {shown(full)} twice")
            arrays[full] = array(full, within(holder, name), budget, size)
    said = word(group, "keras_version") or word(file, "keras_version")
    config: dict[str, Any] = {"layers": by_layer}
    notes: tuple[str, ...] = ()
    if said is None:
        notes = ("the file does not say which Keras wrote it: taken for Keras 1, as Keras itself takes it",)
    else:
        config["keras_version"] = said
    model = word(file, "model_config")
    if model is not None:
        config["model"] = said_in(f"{path}: model_config", model.encode())
    if "optimizer_weights" in file:
        notes = (*notes, f"{LEFT_OUT}it is read from .keras")
    kind = f"Keras {said or '1'}" + ("" if model is not None else ", weights only")
    return Contents(path, kind, arrays, config, numbers(said or "1"), notes)


def _by_path(path: Path, file: Any, size: int, config: dict[str, Any]) -> Contents:
    found = datasets(file, NO_WEIGHTS)
    if not any(re.search(r"(^|/)vars/\d+$", name) for name in found):
        raise NotUnderstood(f"{path} should have Keras's layer_names, or arrays called vars/0, got {_few(list(found))}")
    budget = Budget()
    order = sorted(found, key=natural)
    arrays = {name: array(name, found[name], budget, size) for name in order}
    names: dict[str, str] = {}
    for name in order:
        holder = "/".join(parts(name)[:-1])
        said = word(within(file, holder), "name")
        if said is not None:
            names[holder.removesuffix("vars").rstrip("/")] = said
    version = config.get("keras_version")
    kind = "Keras 3, weights only" if version is None else f"Keras {version}"
    notes = [] if version else ["the file does not say which Keras wrote it: taken for Keras 3"]
    if any(dataset.dtype.kind == "V" for dataset in found.values()):
        notes.append("bfloat16 is read as float32")
    return Contents(path, kind, arrays, config | {"names": names}, numbers(version or "3"), tuple(notes))


def natural(name: str) -> list[tuple[str, int]]:
    """By which names sort as people count: `lstm_2` before `lstm_10`, `lstm` before either."""
    found: list[tuple[str, int]] = []
    for part in name.split("/"):
        match = re.fullmatch(r"(.*?)_?(\d{1,18})", part)
        found.append((match[1], int(match[2])) if match else (part, -1))
    return found


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers: `(2, 2, 4)` of `"2.2.4-tf"`.

    Raises:
        NotUnderstood: it does not begin with a number.
    """
    match = re.match(r"\d{1,6}(\.\d{1,6})*", version)
    if not match:
        raise NotUnderstood(f"keras_version should begin with numbers, got {shown(version)}")
    return tuple(int(part) for part in match[0].split("."))


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + ("…" if len(names) > 3 else "") or "no array"
