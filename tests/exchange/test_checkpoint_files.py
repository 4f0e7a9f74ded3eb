"""The project's own checkpoints, read as networks, compute what the network that was trained does, in other files, too."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("h5py")
pytest.importorskip("onnx")
pytest.importorskip("typer")

from typer.testing import CliRunner

from rnn_common import exchange, networks, twins
from rnn_common.cli import app
from rnn_common.data import Sequences
from rnn_common.data.batches import Batch, batches
from rnn_common.exchange import NotUnderstood, convert
from rnn_common.networks import EncoderDecoder, Network, Stack
from rnn_common.training import checkpoint
from rnn_common.training.checkpoint import Checkpoint, Position
from rnn_common.training.recipe import Recipe
from rnn_common.training.run import Run

BOUND = 2e-6  # of float32, on small networks after two updates
SYMBOLS = Network(Stack("GRU", 6, 4, embedding=3, layers=2, bidirectional=True, dropout=0.1), 6, "steps")
MODELS = {
    "classes": Network(Stack("LSTM", 3, 4, layers=2, bidirectional=True), 2, "sequence"),
    "symbols": SYMBOLS,
    "forecast": Network(Stack("GRU v3", 3, 5), 2, "forecast"),
}


def data_of(model):
    random = np.random.default_rng(0)
    lengths = [7, 5, 6, 4, 7, 3, 5, 6]
    if model.stack.embedding:
        x = [random.integers(0, 6, n) for n in lengths]
        return Sequences("symbols", tuple(x), tuple(np.roll(each, -1) for each in x))
    x = tuple(random.standard_normal((n, 3)) for n in lengths)
    targets = random.standard_normal((len(x), 2)) if model.head == "forecast" else np.arange(len(x)) % 2
    return Sequences("noise", x, targets)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Of a twin and the name of a model: the network after two updates, the folder of its checkpoint, and a batch of its data."""

    @cache
    def train(name, twin):
        model, folder = MODELS[name], tmp_path_factory.mktemp(name)
        data, recipe = data_of(model), Recipe("adam", learning_rate=0.01, epochs=1, batch_size=4)
        run = Run(model, recipe, data, networks.initial_weights(model, 0, np.float32), folder=folder)
        return twins.get(twin).train(run), folder, next(batches(data, 8, dtype=np.float32))

    return train


def whole(batch):
    """The steps that all sequences have: a network in a file is not always told of lengths."""
    time = int(batch.lengths.min())
    targets = batch.targets[:, :time] if batch.target_lengths is not None else batch.targets
    shorter = None if batch.target_lengths is None else np.full(len(batch), time)
    return Batch(batch.x[:, :time], np.full(len(batch), time), targets, shorter)


@pytest.mark.parametrize("name", MODELS)
def test_the_network_that_was_trained(name, twin, trained):
    network, folder, batch = trained(name, twin.name)
    found = exchange.read(folder)
    assert found.is_network
    assert found.path.name == "checkpoint-00000002.json"
    expected = twin.predict(network, batch)
    valid = batch.mask if MODELS[name].head == "steps" else slice(None)
    equations = exchange.run_chain(found.layers, batch.x, batch.lengths)
    np.testing.assert_allclose(equations[valid], expected[valid], rtol=0, atol=BOUND)
    page, batch = convert.page(twin.name), whole(batch)
    loaded = page.run(page.load(folder), batch.x)
    np.testing.assert_allclose(loaded, twin.predict(network, batch), rtol=0, atol=BOUND)


def run_onnx(path, found, x):
    session = pytest.importorskip("onnxruntime").InferenceSession(path.read_bytes())
    return session.run(None, {"x": x})[0]


def run_keras(path, found, x):
    return np.asarray(pytest.importorskip("keras").saving.load_model(path)(x))


def run_pt(path, found, x):
    """By the equations, as one after the other: that is not in the file."""
    by_name = {layer.name.removeprefix("model/"): layer for layer in exchange.read(path).ours}  # beside its optimiser
    layers = [by_name[layer.name] for layer in found.layers]
    said = {layer.name: layer.returns_sequences for layer in found.recurrent}
    layers = [
        replace(each, returns_sequences=said[name]) if name in said else each
        for name, each in zip((layer.name for layer in found.layers), layers, strict=True)
    ]
    return exchange.run_chain(layers, x)


@pytest.mark.parametrize(
    ("name", "kind", "run"),
    [
        *((name, kind, run) for name in MODELS for kind, run in ((".onnx", run_onnx), (".keras", run_keras))),
        *((name, ".pt", run_pt) for name in ("classes", "symbols")),
    ],
)
def test_into_other_files(name, kind, run, twin, trained, tmp_path):
    for package in {".onnx": ["onnxruntime"], ".keras": ["keras"], ".pt": ["torch"]}[kind]:
        pytest.importorskip(package)
    network, folder, batch = trained(name, twin.name)
    target, batch = tmp_path / f"target{kind}", whole(batch)
    assert all(each.holds for each in convert.convert(folder, target).proofs)
    found = run(target, exchange.read(folder), batch.x)
    np.testing.assert_allclose(found, twin.predict(network, batch), rtol=0, atol=BOUND)


# What a chain does not say


def written(model, folder, **changes):
    weights = networks.initial_weights(model, 0, np.float32)
    zeros = {name: np.zeros_like(array) for name, array in weights.items()}
    made = Checkpoint(
        model, Recipe(epochs=3), "tf", Position(1, 1, 3), weights, {"m": zeros, "v": zeros},
        losses=np.ones(3), norms=np.ones(3),
    )  # fmt: skip
    return checkpoint.save(replace(made, **changes), folder)


def test_an_encoder_and_a_decoder_are_no_chain(tmp_path):
    """Their layers are there by name, and why they are no network."""
    pair = EncoderDecoder(Stack("LSTM", 5, 2, embedding=3, bidirectional=True), Stack("LSTM", 4, 4, embedding=3))
    found = exchange.read(written(pair, tmp_path))
    names = ["encoder/embedding", "encoder/layer1", "decoder/embedding", "decoder/layer1", "output"]
    assert [layer.name for layer in found.layers] == names
    assert not found.is_network
    assert "the encoder's final state is the decoder's first, which no chain of layers says" in found.notes
    with pytest.raises(ValueError, match="name one layer with --only"):
        convert.convert(tmp_path, tmp_path / "a.onnx")


def test_the_weights_of_the_lowest_validation_loss(tmp_path):
    """Where the recipe has patience they are what training ends with."""
    model = MODELS["forecast"]
    best = {name: array + 1 for name, array in networks.initial_weights(model, 0, np.float32).items()}
    recipe = Recipe(epochs=3, patience=1)
    epochs = ({"update": 2, "loss": 0.1, "metric": 0.5},)
    found = exchange.read(written(model, tmp_path, recipe=recipe, best=best, epochs=epochs))
    np.testing.assert_array_equal(found.recurrent[0].parameters()["W_hr"], best["layer1/forward/W_hr"])
    assert found.recurrent[0].arrays[0] == "best/layer1/forward/W_ir"
    assert "the weights are those of the lowest validation loss" in found.notes


# How it is found, and what is refused


def test_the_folder_the_json_file_and_the_arrays_are_one(tmp_path):
    path = written(MODELS["forecast"], tmp_path)
    for each in (tmp_path, path, path.with_suffix(".safetensors")):
        found = exchange.read(each)
        assert (found.path, len(found.layers), found.chain) == (path, 2, True)


def test_inspect_and_convert(tmp_path):
    written(MODELS["classes"], tmp_path / "run")
    said = CliRunner().invoke(app.app, ["inspect", str(tmp_path / "run"), "--json", str(tmp_path / "found.json")])
    assert said.exit_code == 0, said.output
    words = " ".join(said.output.split())
    assert "rnn-parity checkpoint, trained with TensorFlow, 3 updates" in words
    assert "layer2 LSTM 8 → 4 both ways packed as single gates, tanh sigmoid" in words
    assert json.loads((tmp_path / "found.json").read_text())["layers"][0]["returns_sequences"] is True
    said = CliRunner().invoke(app.app, ["convert", str(tmp_path / "run"), str(tmp_path / "a.npz")])
    assert said.exit_code == 0, said.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text("{}"), "its format should be 'rnn-parity checkpoint 3', got None"),
        (lambda path: path.write_text(path.read_text().replace('"outputs": 2', '"outputs": 3')), "it was altered"),
        (lambda path: path.with_suffix(".safetensors").write_bytes(b"\0"), "is not the file that was written"),
        (
            lambda path: path.with_suffix(".safetensors").unlink(),
            "its arrays, checkpoint-00000003.safetensors, are not",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(change, message, tmp_path):
    path = written(MODELS["forecast"], tmp_path)
    change(path)
    with pytest.raises(NotUnderstood, match=message) as refused:
        exchange.read(path)
    assert "\n" not in str(refused.value)


def test_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint should be in .*, but there is none"):
        exchange.read(tmp_path)
