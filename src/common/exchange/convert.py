"""From one file to another, with a proof."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnn_common import exchange, twins
from rnn_common.exchange import arrays_write, onnx_write, optimisers, proof
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Found
from rnn_common.exchange.forward import run_layer
from rnn_common.exchange.proof import Proof, ProofFailed
from rnn_common.files import check_writable
from rnn_common.packages import optional


class Converted(NamedTuple):
    """What came of a conversion.

    Attributes:
        proofs: that the same is computed.
        notes: whether an optimiser goes with it, and what is not the same of it, in sentences; none where there was none.
    """

    proofs: list[Proof]
    notes: tuple[str, ...]


def convert(source: Path, target: Path, only: str = "") -> Converted:
    """Write what is in one file into another of another kind, and prove that it computes the same.

    What was written is read again and run by whoever it is for, on a probe, beside the equations with what was read. The file
    gets its name when that holds. The optimiser goes with it where both files have a place for it, all of it or nothing.

    Args:
        source: ends with one of `exchange.SUFFIXES`.
        target: ends with one of `TARGETS`.
        only: what the names of the layers that are wanted begin with. Default all.

    Raises:
        NotUnderstood, ValueError: the source is not understood, or the target cannot express it; says what and what would work.
        ProofFailed: what was written does not compute what was read.
        MissingPackage: whoever the file is for is not installed.
        OSError: a file cannot be read or written.
    """
    kind = kind_of(target)
    check_writable(target)
    found = exchange.read(source)
    found = found.only(only) if only else found
    if not found.recurrent:
        raise ValueError(
            f"source should hold a recurrent layer, got {', '.join(each.name for each in found.layers) or 'none'}"
        )
    found, notes = optimisers.carried(found, kind)
    with tempfile.TemporaryDirectory(dir=target.resolve().parent, prefix=".rnn-parity-") as folder:
        written = Path(folder) / f"written{kind}"
        proofs = TARGETS[kind](found, written)
        if failed := [each for each in proofs if not each.holds]:
            worst = max(failed, key=lambda each: each.deviation)
            raise ProofFailed(
                f"{target.name} should compute what {source.name} does, but by {worst.by} {worst.name} is {worst.deviation:.1e} "
                f"off, bound {worst.bound:.1e}; nothing was written"
            )
        if found.optimiser is not None:
            different = optimisers.check_alike(found, exchange.read(written), optimisers.HOLDERS[kind])
            if different:
                raise ProofFailed(
                    f"{target.name} should hold the optimiser of {source.name}, but {different}; nothing was written"
                )
        os.replace(written, target.resolve())  # of a link what it points to
    return Converted(proofs, notes)


def kind_of(target: Path) -> str:
    """The end of a target's name that says what it is to be.

    Raises:
        ValueError: it is none of `TARGETS`.
    """
    kind = next((suffix for suffix in TARGETS if target.name.lower().endswith(suffix)), None)
    if kind is None:
        raise ValueError(f"target should end with {', '.join(TARGETS)}, got {target.name}")
    return kind


def _to_arrays(content: Callable[[dict[str, Array]], bytes]) -> Callable[[Found, Path], list[Proof]]:
    """Arrays by PyTorch's names, as a file of no framework; run by the equations, and by PyTorch where it is installed."""

    def write(found: Found, path: Path) -> list[Proof]:
        path.write_bytes(content(arrays_write.state_dict(found.layers)))
        return _of_arrays(found, path)

    return write


def _to_pt(found: Found, path: Path) -> list[Proof]:
    page("torch").save(found, path)
    return _of_arrays(found, path)


def _of_arrays(found: Found, path: Path) -> list[Proof]:
    """Every recurrent layer, read again and run by PyTorch."""
    again = exchange.read(path).recurrent
    layers = [replace(each, returns_sequences=None) for each in found.recurrent]  # which arrays do not say
    if "torch" not in twins.installed():
        return proof.of_layers(layers, "the equations", lambda n, x: run_layer(again[n], x, dtype=np.float32).outputs)
    torch = page("torch")
    return proof.of_layers(layers, "PyTorch", lambda n, x: torch.run(torch.built(again[n]), x))


def _to_keras(found: Found, path: Path) -> list[Proof]:
    tf, network = page("tf"), _network(found, path)
    model = tf.model(network, package=tf.keras.layers)
    if found.optimiser is not None:
        model.compile(tf.optimiser(found, model))
    tf.save(model, path)
    opened = tf.opened(path, model)
    return proof.of_network(network, "Keras", lambda x: tf.run(opened, x))


def _to_onnx(found: Found, path: Path) -> list[Proof]:
    network = _network(found, path)
    runtime = optional("onnxruntime", "the proof of an ONNX file needs", extra="bench")
    onnx_write.write(network.ours, path)
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return proof.of_network(network, "ONNX Runtime", lambda x: session.run(None, {"x": x})[0])


def _network(found: Found, path: Path) -> Found:
    """What was found, if it is one network.

    Raises:
        ValueError: it is not.
    """
    if found.is_network:
        return found
    foreign = found.in_the_way
    why = f"has {foreign[0].name}, {foreign[0].kind}, too" if foreign else "does not say which layer reads which"
    raise ValueError(f"{path.suffix} holds one network, and {found.path.name} {why}: name one layer with --only")


def page(name: str) -> Any:
    """A twin's page on files."""
    return importlib.import_module(f"{twins.get(name).package}.exchange")


# What writes each kind of file, and which framework that needs.
FRAMEWORKS = {".weights.h5": "tf", ".keras": "tf", ".pt": "torch"}
TARGETS: dict[str, Callable[[Found, Path], list[Proof]]] = {
    ".weights.h5": _to_keras,
    ".keras": _to_keras,
    ".pt": _to_pt,
    ".safetensors": _to_arrays(arrays_write.safetensors),
    ".npz": _to_arrays(arrays_write.npz),
    ".onnx": _to_onnx,
}
