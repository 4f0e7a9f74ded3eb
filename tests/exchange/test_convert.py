"""From file to file and into live models: the function stays, or it is refused by name, and a failed proof leaves nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("onnx")
pytest.importorskip("typer")

from typer.testing import CliRunner

from rnn_common import exchange, twins
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.cli import app
from rnn_common.exchange import arrays_write, convert, forward, proof
from rnn_common.exchange.description import (
    HARD_SIGMOID_KERAS_2,
    LINEAR,
    TANH,
    Dense,
    Direction,
    Embedding,
    Foreign,
    Found,
    Recurrent,
    default_activations,
)
from rnn_common.weights import initialise

FOR = {".pt": "torch", ".keras": "tf", ".weights.h5": "tf"}
BOUND = 2e-6  # of float32, on small fresh networks


def needs(kind):
    if FOR.get(kind, "torch") not in twins.installed():
        pytest.skip(f"{kind} is written by {FOR[kind]}")
    if kind == ".onnx":
        pytest.importorskip("onnxruntime")


def recurrent(cell, directions=1, width=3, hidden=4, name="lstm", activations=None, **options):
    each = [
        Direction(
            dict(initialise(cell, width, hidden, seed=seed, dtype=np.float32)),
            activations or default_activations(CELLS[cell]),
        )
        for seed in range(directions)
    ]
    return Recurrent(name, CELLS[cell], tuple(each), "torch", **options)


def source(folder, *layers):
    """A file with layers by PyTorch's names."""
    path = folder / "source.npz"
    np.savez(path, **arrays_write.state_dict(layers))
    return path


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("cell", IN_BOTH)
@pytest.mark.parametrize("kind", convert.TARGETS)
def test_a_layer_into_every_kind_of_file(kind, cell, directions, tmp_path):
    needs(kind)
    layer = recurrent(cell, directions)
    target = tmp_path / f"target{kind}"
    proofs = convert.convert(source(tmp_path, layer), target).proofs
    assert [each.holds for each in proofs] == [True]
    assert proofs[0].deviation <= BOUND
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.npz", target.name]
    (again,) = exchange.read(target).recurrent
    assert (again.cell, len(again.directions)) == (layer.cell, directions)
    x = proof.probe(layer)
    np.testing.assert_allclose(
        forward.run_layer(again, x).outputs, forward.run_layer(layer, x).outputs, rtol=0, atol=1e-6
    )


def test_a_stack_keeps_its_names(tmp_path):
    pytest.importorskip("torch")
    import torch

    nets = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    before = {f"encoder.{name}": array for name, array in nets.state_dict().items()}
    torch.save(before, tmp_path / "a.pt")
    convert.convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    convert.convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    after = torch.load(tmp_path / "c.pt", weights_only=True)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_what_torch_reads_is_what_keras_wrote(tmp_path):
    """A whole network of Keras's, in PyTorch."""
    keras = pytest.importorskip("keras")
    torch = pytest.importorskip("torch")
    import rnn_torch

    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((None,)),
            keras.layers.Embedding(9, 5, mask_zero=True),
            keras.layers.Bidirectional(
                keras.layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid")
            ),
            keras.layers.GRU(3),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    network.save(tmp_path / "network.keras")
    symbols = np.array([[1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 1, 2], [3, 0, 0, 0, 0, 0]])
    model = rnn_torch.load(tmp_path / "network.keras")
    with torch.no_grad():
        found = model(torch.from_numpy(symbols)).numpy()
    np.testing.assert_allclose(found, network.predict(symbols, verbose=0), rtol=0, atol=BOUND)
    equations = exchange.run_chain(exchange.read(tmp_path / "network.keras").layers, symbols)
    np.testing.assert_allclose(equations, found, rtol=0, atol=BOUND)
    in_front = np.array([[0, 0, 1, 2, 3, 4]])
    with torch.no_grad():
        found = model(torch.from_numpy(in_front)).numpy()
    np.testing.assert_allclose(found, network.predict(in_front, verbose=0), rtol=0, atol=BOUND)


def test_what_keras_reads_is_what_torch_wrote(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("keras")
    import rnn_tf

    torch.manual_seed(0)
    theirs = torch.nn.GRU(3, 4, batch_first=True, bidirectional=True)
    torch.save({"state": theirs.state_dict()}, tmp_path / "a.pt")
    model = rnn_tf.load(tmp_path / "a.pt")
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(np.asarray(model(x)), expected, rtol=0, atol=BOUND)


# What is refused


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [
        ([recurrent("GRU v3")], ".pt", "of the form GRU v3: .onnx and .keras can"),
        ([recurrent("LSTM", activations=(TANH, HARD_SIGMOID_KERAS_2))], ".safetensors", "hard_sigmoid 0.2"),
        ([recurrent("LSTM", backwards=True)], ".npz", "that runs backwards"),
        ([recurrent("LSTM", 2, merge="sum")], ".pt", "merges its directions by sum"),
        ([recurrent("LSTM"), recurrent("GRU", name="b")], ".onnx", "name one layer with --only"),
        ([Foreign("m", "Masking", changes=False), recurrent("LSTM", masks=True)], ".keras", "has m, Masking, too"),
        ([Embedding("e", np.zeros((3, 2)))], ".pt", "source should hold a recurrent layer, got e"),
        ([recurrent("LSTM")], ".tflite", r"target should end with .weights.h5, .keras"),
    ],
)
def test_what_a_target_cannot_hold_is_refused_by_name(layers, kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "read", lambda path: Found(Path(path), "a test", tuple(layers)))
    with pytest.raises(ValueError, match=message):
        convert.convert(tmp_path / "a.npz", tmp_path / f"b{kind}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [".npz", ".onnx"])
def test_a_proof_that_fails_leaves_no_file(kind, tmp_path, monkeypatch):
    needs(kind)
    path = source(tmp_path, recurrent("LSTM"))
    (tmp_path / f"b{kind}").write_text("what was there before")

    def run_chain(layers, x, **options):
        return forward.run_chain(layers, x, **options) * np.float32(1.01)

    monkeypatch.setattr(proof, "run_chain", run_chain)
    with pytest.raises(proof.ProofFailed, match=r"off, bound .*; nothing was written"):
        convert.convert(path, tmp_path / f"b{kind}")
    assert (tmp_path / f"b{kind}").read_text() == "what was there before"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", twins.TWINS)
def test_what_a_layer_says_of_skipped_steps_is_not_lost(name):
    """A network with a Masking layer is no chain of ours: its layers come by name."""
    if name not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[name]}")
    layers = (
        Foreign("masking", "Masking", changes=False),
        recurrent("LSTM", masks=True),
        recurrent("GRU", width=4, name="gru"),
    )
    model = convert.page(name).model(Found(Path("a.keras"), "a test", layers, chain=True))
    assert list(model) == ["lstm", "gru"]


@pytest.mark.parametrize("name", twins.TWINS)
def test_names_that_would_be_one_are_refused(name):
    if name not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[name]}")
    mark = {"torch": ".", "tf": "/"}[name]
    layers = (recurrent("LSTM", name=f"a{mark}b"), recurrent("LSTM", name="a_b"))
    with pytest.raises(ValueError, match=f"names of their own, got a{mark}b and a_b"):
        convert.page(name).model(Found(Path("a.pt"), "a test", layers))


def test_what_overflows_is_no_proof():
    """Neither deviation nor bound is finite: nothing is shown."""
    growing = recurrent("SimpleRNN", activations=(LINEAR,))
    weights = {name: array * np.float32(1e9) for name, array in growing.directions[0].weights.items()}
    layer = replace(growing, directions=(Direction(weights, (LINEAR,)),))
    with np.errstate(all="ignore"):
        (found,) = proof.of_layers(
            [layer], "itself", lambda n, x: forward.run_layer(layer, x, dtype=np.float32).outputs
        )
    assert not found.holds


def test_a_link_stays_one(tmp_path):
    (tmp_path / "real.npz").write_text("before")
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    convert.convert(source(tmp_path, recurrent("LSTM")), tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()
    assert exchange.read(tmp_path / "real.npz").recurrent


def test_a_model_is_copied_and_pickled(tmp_path):
    """With an activation whose slope is no name's."""
    pytest.importorskip("torch")
    import pickle

    layers = (recurrent("LSTM"), Dense("d", np.ones((2, 4), np.float32), None, exchange.Activation("leaky_relu", 0.3)))
    page = convert.page("torch")
    model = page.model(Found(Path("a.keras"), "a test", layers, chain=True))
    again = pickle.loads(pickle.dumps(model))
    x = proof.probe(layers[0])
    np.testing.assert_array_equal(page.run(again, x), page.run(model, x))


def test_only_some_layers(tmp_path):
    path = source(tmp_path, recurrent("LSTM", name="a"), recurrent("GRU", name="b"))
    assert [each.name for each in convert.convert(path, tmp_path / "c.npz", "b").proofs] == ["b"]
    with pytest.raises(
        ValueError, match=r"only should begin the name of a recurrent layer of source.npz \(a, b\), got c"
    ):
        convert.convert(path, tmp_path / "c.npz", "c")


# The commands


def call(*arguments):
    return CliRunner().invoke(app.app, list(map(str, arguments)))


def test_inspect_says_what_is_there(tmp_path):
    layers = [recurrent("LSTM", 2), Dense("head", np.ones((2, 8), np.float32), np.ones(2, np.float32))]
    ran = call("inspect", source(tmp_path, *layers), "--json", tmp_path / "found.json")
    assert ran.exit_code == 0, ran.output
    assert "LSTM 3 → 4 both ways" in ran.output
    assert "packed as torch, tanh sigmoid" in ran.output
    assert "dense 8 → 2" in ran.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["kind"] for each in found["layers"]] == ["Recurrent", "Dense"]
    assert found["layers"][0]["hidden"] == 4


def test_inspect_says_once_what_was_assumed(tmp_path):
    path = source(tmp_path, recurrent("SimpleRNN", name="a"), recurrent("SimpleRNN", name="b"))
    (note,) = {note for layer in exchange.read(path).recurrent for note in layer.notes}
    said = " ".join(call("inspect", path).output.split())
    assert said.count(note) == 1
    assert f"a, b: {note}" in said


def test_convert_prints_its_proof(tmp_path):
    ran = call("convert", source(tmp_path, recurrent("GRU")), tmp_path / "b.safetensors")
    assert ran.exit_code == 0, ran.output
    assert "from the equations, bound" in ran.output
    assert (tmp_path / "b.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pkl", b"cos\nsystem\n(S'echo'\ntR.", "is a pickle"),
        ("a.txt", b"", "should end with .pt"),
        ("a.npz", b"PK\x03\x04", "a.npz"),
        ("a.h5", b"\x89HDF\r\n", "a.h5"),
        ("a.onnx", b"\xff" * 40, "a.onnx"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_file_that_is_not_understood_is_answered_in_one_line(command, name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    ran = call(command, tmp_path / name, *[tmp_path / "b.npz"] * (command == "convert"))
    assert ran.exit_code == 2, ran.output
    assert message in " ".join(ran.output.split())
    assert "Traceback" not in ran.output


def test_a_file_that_is_not_there(tmp_path):
    ran = call("inspect", tmp_path / "a.npz")
    assert ran.exit_code == 2
    assert "a.npz" in ran.output
