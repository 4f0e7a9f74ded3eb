"""From one file to another, with a proof."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_common import exchange, twins
from rnn_common.cells import Cell
from rnn_common.exchange import arrays_file, arrays_write, by_torch_names, onnx_write, optimisers, proof, pytorch_file
from rnn_common.exchange.contents import Array, Contents
from rnn_common.exchange.description import LINEAR, Dense, Embedding, Found, Layer, Recurrent
from rnn_common.exchange.forward import run_layer
from rnn_common.exchange.proof import Proof, ProofFailed
from rnn_common.files import check_writable
from rnn_common.packages import optional
from rnn_common.twins import page


class Converted(NamedTuple):
    """What came of a conversion.

    Attributes:
        proofs: that the same is computed.
        notes: whether an optimiser goes with it, and what is not the same of it, in sentences; none where there was none.
    """

    proofs: list[Proof]
    notes: tuple[str, ...]


def convert(
    source: Path,
    target: Path,
    only: str = "",
    cells: Sequence[Cell | str] = (),
    *,
    states: bool = False,
    lengths: bool = False,
) -> Converted:
    """Write what is in one file into another of another kind, and prove that it computes the same.

    What was written is read again and run by whoever it is for, on a probe, beside the equations with what was read. The file
    gets its name when that holds. The optimiser goes with it where both files have a place for it, all of it or nothing.

    Args:
        source: ends with one of `exchange.SUFFIXES`.
        target: ends with one of `TARGETS`.
        only: what the names of the layers that are wanted begin with. Default all.
        cells: of the user's own, that the source may have layers of; see `exchange.read`. Default none.
        states: initial and final states are inputs and outputs of an `.onnx` file, see `onnx_write.write`. Default False: zeros.
        lengths: how many steps each sequence has is an input of it. Default False: every sequence fills the time axis.

    Raises:
        NotUnderstood, ValueError: the source is not understood, or the target cannot express it; says what and what would work.
        ProofFailed: what was written does not compute what was read.
        MissingPackage: whoever the file is for is not installed.
        OSError: a file cannot be read or written.
    """
    _check(target, states=states, lengths=lengths)
    found = exchange.read(source, cells)
    return write(found.only(only) if only else found, target, states=states, lengths=lengths)


def write(found: Found, target: Path, *, states: bool = False, lengths: bool = False) -> Converted:
    """Write what was found into a file, and prove that it computes the same; see `convert`.

    Args:
        found: with a recurrent layer.
        target, states, lengths: see `convert`.

    Raises:
        ValueError, ProofFailed, MissingPackage, OSError: as `convert` does.
    """
    kind, inputs = _check(target, states=states, lengths=lengths)
    if not found.recurrent:
        raise ValueError(
            f"source should hold a recurrent layer, got {', '.join(each.name for each in found.layers) or 'none'}"
        )
    found, notes = optimisers.carried(found, kind)
    with tempfile.TemporaryDirectory(dir=target.resolve().parent, prefix=".rnn-parity-") as folder:
        written = Path(folder) / f"written{kind}"
        proofs = TARGETS[kind](found, written, **dict.fromkeys(inputs, True))
        if failed := [each for each in proofs if not each.holds]:
            worst = max(failed, key=lambda each: each.deviation)
            raise ProofFailed(
                f"{target.name} should compute what {found.path.name} does, but {worst.name}, by {worst.by}, is "
                f"{worst.deviation:.1e} off, bound {worst.bound:.1e}; nothing was written"
            )
        if found.optimiser is not None:
            different = optimisers.check_alike(found, exchange.read(written, _own(found)), optimisers.HOLDERS[kind])
            if different:
                raise ProofFailed(
                    f"{target.name} should hold the optimiser of {found.path.name}, but {different}; nothing was written"
                )
        os.replace(written, target.resolve())  # of a link what it points to
    return Converted(proofs, notes)


def _check(target: Path, **inputs: bool) -> tuple[str, list[str]]:
    """The kind of a target, and which of these inputs it is to have.

    Raises:
        ValueError: it is of no kind, or one that has no such inputs.
        OSError: it cannot be written.
    """
    kind, wanted = kind_of(target), [name for name, is_wanted in inputs.items() if is_wanted]
    if wanted and kind != ".onnx":
        raise ValueError(
            f"{wanted[0]} should be asked for with an .onnx file alone, got {target.name}: the layers of Keras and PyTorch "
            "take them whenever they are called"
        )
    check_writable(target)
    return kind, wanted


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
        return _of_arrays(found, arrays_file.read(path))

    return write


def _to_pt(found: Found, path: Path) -> list[Proof]:
    page("torch").write(found, path)
    contents = pytorch_file.read(path)
    if found.optimiser is not None:  # beside which the network is one of two
        own = {
            name.removeprefix("model/"): array for name, array in contents.arrays.items() if name.startswith("model/")
        }
        contents = replace(contents, arrays=own)
    return _of_arrays(found, contents)


def _of_arrays(found: Found, contents: Contents) -> list[Proof]:
    """Every recurrent layer, read again and run by PyTorch; the weights of the others, for what stands behind them is unsaid."""
    cells = _own(found)
    read = by_torch_names.find(contents, cells)
    again = [each for each in read if isinstance(each, Recurrent)]
    layers = [replace(each, returns_sequences=None) for each in found.recurrent]  # which arrays do not say
    by, run = "the equations", lambda n, x: run_layer(again[n], x, dtype=np.float32).outputs
    if "torch" in twins.installed() and all(cell.torch for cell in cells):
        torch = page("torch")
        by, run = proof.BY["torch"], lambda n, x: torch.run(torch.built(again[n]), x)
    kinds = {each.name: type(each) for each in read}
    others = [each for each in found.ours if not isinstance(each, Recurrent)]
    return proof.of_layers(layers, by, run) + [
        proof.of_weights(each.name, arrays_write.matrices(each), contents.arrays, _unsaid(each, kinds.get(each.name)))
        for each in others
    ]


def _own(found: Found) -> tuple[Cell, ...]:
    """The cells of the user's own that it has layers of."""
    return tuple(dict.fromkeys(layer.cell for layer in found.recurrent if not layer.cell.in_table))


def _unsaid(layer: Embedding | Dense, read: type[Layer] | None) -> str:
    """What of a layer arrays do not say: `read` is what they are taken for."""
    kind = "an embedding" if isinstance(layer, Embedding) else "a dense layer"
    words = [] if isinstance(layer, read or ()) else [f"that it is {kind}"]
    if isinstance(layer, Dense) and layer.activation != LINEAR:
        words.append(f"its activation, {layer.activation}")
    if isinstance(layer, Embedding) and layer.masks:
        words.append("that symbol 0 is padding")
    return " and ".join(words)


def _to_keras(found: Found, path: Path) -> list[Proof]:
    tf, network = page("tf"), _network(found, path)
    model = tf.model(network, package=tf.keras.layers)
    if found.optimiser is not None:
        model.compile(tf.optimiser(found, model))
    tf.write(model, path)
    opened = tf.opened(path, model)
    return proof.of_network(network, proof.BY["tf"], lambda x: tf.run(opened, x))


def _to_onnx(found: Found, path: Path, **inputs: bool) -> list[Proof]:
    network = _network(found, path)
    runtime = optional("onnxruntime", "the proof of an ONNX file needs", extra="bench")
    onnx_write.write(network.ours, path, **inputs)
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]

    def run(given: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(given)), strict=True))

    return proof.of_graph(network, "ONNX Runtime", run, **inputs)


def _network(found: Found, path: Path) -> Found:
    """What was found, if it is one network.

    Raises:
        ValueError: it is not.
    """
    if own := [layer for layer in found.recurrent if not layer.cell.in_table]:
        raise ValueError(
            f"{own[0].name} should be of a cell that {kind_of(path)} has a layer of, got {own[0].cell.name}: .pt, .safetensors "
            "and .npz hold its weights by name"
        )
    if found.is_network:
        return found
    foreign = found.in_the_way
    why = f"has {foreign[0].name}, {foreign[0].kind}, too" if foreign else "does not say which layer reads which"
    raise ValueError(f"{kind_of(path)} holds one network, and {found.path.name} {why}: name one layer with --only")


# What writes each kind of file, and which framework that needs.
FRAMEWORKS = {".weights.h5": "tf", ".keras": "tf", ".pt": "torch"}
TARGETS: dict[str, Callable[..., list[Proof]]] = {
    ".weights.h5": _to_keras,
    ".keras": _to_keras,
    ".pt": _to_pt,
    ".safetensors": _to_arrays(arrays_write.safetensors),
    ".npz": _to_arrays(arrays_write.npz),
    ".onnx": _to_onnx,
}
