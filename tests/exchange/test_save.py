"""Live models of either framework into files: what is written is read again and computes what the live one does."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
pytest.importorskip("onnxruntime")
pytest.importorskip("h5py")

import rnn_tf
import rnn_torch
from rnn_common import exchange
from rnn_common.exchange.proof import FACTOR, UNIT
from rnn_common.parity.contract import deviation


class Tagger(torch.nn.Module):
    def __init__(self, takes="last"):
        super().__init__()
        self.table = torch.nn.Embedding(12, 5)
        self.rnn = torch.nn.GRU(5, 4, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(8, 3)
        self.takes = takes

    def forward(self, x):
        outputs, h_n = self.rnn(self.table(x))
        return self.head(torch.cat([h_n[-2], h_n[-1]], -1) if self.takes == "last" else outputs.amin(1))


def in_keras():
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Embedding(12, 5),
        keras.layers.Bidirectional(rnn_tf.GRU(4, bias_initializer="normal", engine="reference")),
        keras.layers.Dense(3, bias_initializer="normal"),
    ]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


def in_torch(**options):
    torch.manual_seed(0)
    return Tagger(**options)


MODELS = {"torch": (in_torch, rnn_torch.save), "tf": (in_keras, rnn_tf.save)}


def run(model, x):
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()
    return np.asarray(model(x))


@pytest.mark.parametrize("kind", [".keras", ".onnx"])
@pytest.mark.parametrize("framework", MODELS)
def test_a_live_network_into_a_file(framework, kind, tmp_path):
    make, save = MODELS[framework]
    model, path = make(), tmp_path / f"model{kind}"
    proofs = save(model, path)
    assert all(each.holds for each in proofs)
    x = np.random.default_rng(0).integers(0, 12, (3, 7))
    read = exchange.read(path)
    got = exchange.run_chain(read.layers, x)
    assert deviation(run(model, x).astype(np.float64), got) <= FACTOR * 8 * UNIT


@pytest.mark.parametrize("kind", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("framework", MODELS)
def test_a_live_networks_weights(framework, kind, tmp_path):
    make, save = MODELS[framework]
    path = tmp_path / f"weights{kind}"
    assert all(each.holds for each in save(make(), path))
    (layer,) = exchange.read(path).recurrent
    assert (layer.cell.name, layer.input_size, layer.hidden_size, len(layer.directions)) == ("GRU", 5, 4, 2)


def test_a_single_layer_and_a_stack(tmp_path):
    module = torch.nn.LSTM(3, 4, 2, batch_first=True)
    rnn_torch.save(module, tmp_path / "stack.onnx")
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x))[0].numpy()
    got = exchange.run_chain(exchange.read(tmp_path / "stack.onnx").layers, x)
    assert deviation(expected.astype(np.float64), got) <= FACTOR * 8 * UNIT


def test_a_network_in_which_something_else_goes_on(tmp_path):
    """The least output of all steps: the arrays can be written, a network that computes it cannot."""
    network = in_torch(takes="least")
    with pytest.raises(ValueError, match="does not say which layer reads which"):
        rnn_torch.save(network, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    rnn_torch.save(network, tmp_path / "weights.pt")


def test_what_holds_no_recurrent_layer(tmp_path):
    with pytest.raises(ValueError, match="should hold a recurrent layer, got Linear"):
        rnn_torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"target should end with .*, got a\.txt"):
        rnn_torch.save(in_torch(), tmp_path / "a.txt")
