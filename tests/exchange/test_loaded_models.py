"""What either twin makes of what was found: in float64 without a detour, of sequences of several lengths, of all sources."""

import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors")

from rnn_common import exchange, networks, twins
from rnn_common.cells import CELLS
from rnn_common.exchange.description import Dense, Direction, Embedding, Found, Recurrent, default_activations
from rnn_common.networks import Network, Stack
from rnn_common.packings import MergedBiasesWarning, to_torch
from rnn_common.training import checkpoint
from rnn_common.training.checkpoint import Checkpoint, Position
from rnn_common.training.recipe import Recipe
from rnn_common.weights import initialise
from tests.exchange.described import recurrent

ROOT = Path(__file__).parents[2]
PEEPHOLES = f"{ROOT}/examples/peephole_lstm.py:PEEPHOLE_LSTM"
LENGTHS = np.array([2, 5, 3])
SYMBOLS = np.array(
    [[3, 1, 4, 4, 4], [1, 0, 2, 3, 4], [2, 0, 1, 4, 4]]
)  # 0 is a symbol where nothing says that it is padding
BOUND = 2e-6  # of float32, on small fresh networks


@pytest.fixture(params=twins.TWINS)
def page(request):
    """A twin's page on files."""
    if request.param not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[request.param]}")
    return twins.page(request.param)


def float64(page):
    return "float64" if page.__name__.startswith("rnn_tf") else pytest.importorskip("torch").float64


def in_float64(cell="LSTM"):
    """A whole network whose numbers no float32 holds."""
    random = np.random.default_rng(0)
    weights = dict(initialise(cell, 3, 4))
    layer = Recurrent("a", CELLS[cell], (Direction(weights, default_activations(CELLS[cell])),), "torch")
    table, head = (
        Embedding("e", random.standard_normal((9, 3))),
        Dense("d", random.standard_normal((2, 4)), np.full(2, 0.1)),
    )
    return Found(Path("a.npz"), "a test", (table, layer, head), chain=True)


@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU", "GRU v3"])
def test_float64_is_not_rounded_on_the_way(page, cell):
    found = in_float64(cell)
    expected = exchange.run_chain(found.layers, SYMBOLS)
    got = page.run(page.model(found, float64(page)), SYMBOLS)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)


def test_a_cell_of_ones_own_in_float64(page, tmp_path):
    np.savez(tmp_path / "a.npz", **to_torch(initialise(PEEPHOLES, 3, 4)))
    (layer,) = exchange.read(tmp_path / "a.npz", [PEEPHOLES]).recurrent
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    got = page.run(page.load(tmp_path / "a.npz", float64(page), [PEEPHOLES]), x)
    np.testing.assert_allclose(got, exchange.run_layer(layer, x).outputs, rtol=0, atol=1e-14)


# Lengths


@pytest.mark.parametrize("masks", [None, False, True])
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
def test_lengths_reach_the_layers_behind_an_embedding(page, masks, sequences, directions):
    """Whatever the embedding says of padding: lengths that are given are those that count."""
    layers = (
        Embedding("e", np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32), masks),
        recurrent("LSTM", directions, name="a", returns_sequences=True),
        recurrent("GRU", width=4 * directions, name="b", returns_sequences=sequences),
        Dense("d", np.ones((2, 4), np.float32), None),
    )
    model = page.model(Found(Path("a.keras"), "a test", layers, chain=True))
    got, expected = page.run(model, SYMBOLS, LENGTHS), exchange.run_chain(layers, SYMBOLS, LENGTHS)
    valid = np.arange(SYMBOLS.shape[1]) < LENGTHS[:, None] if sequences else slice(None)
    np.testing.assert_allclose(got[valid], expected[valid], rtol=0, atol=BOUND)


# A live network filled with what was not a framework's


def test_filled_from_a_checkpoint_of_ours(page, tmp_path):
    model = Network(Stack("GRU", 6, 4, embedding=3), 2, "steps")
    weights = networks.initial_weights(model, 0, np.float32)
    moments = {name: {key: np.zeros_like(array) for key, array in weights.items()} for name in ("m", "v")}
    run = Checkpoint(
        model, Recipe(epochs=3), "tf", Position(1, 1, 3), weights, moments, losses=np.ones(3), norms=np.ones(3)
    )
    checkpoint.save(run, tmp_path)
    found = exchange.read(tmp_path)
    live = page.model(found)
    for layer in live.parameters() if hasattr(live, "parameters") else ():
        layer.data.zero_()
    if hasattr(live, "set_weights"):
        live.set_weights([np.zeros_like(each) for each in live.get_weights()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MergedBiasesWarning)
        proofs = page.fill(live, tmp_path)
    assert [each.holds for each in proofs] == [True, True, True]
    np.testing.assert_allclose(page.run(live, SYMBOLS), exchange.run_chain(found.layers, SYMBOLS), rtol=0, atol=BOUND)


def test_filled_with_a_cell_of_ones_own(page, tmp_path):
    np.savez(tmp_path / "a.npz", **to_torch(initialise(PEEPHOLES, 3, 4, dtype=np.float32)))
    (layer,) = exchange.read(tmp_path / "a.npz", [PEEPHOLES]).recurrent
    if page.__name__.startswith("rnn_tf"):
        import rnn_tf

        live = rnn_tf.layer_of(PEEPHOLES)(4, return_sequences=True)
        live.build((None, None, 3))
    else:
        import rnn_torch

        live = rnn_torch.layer_of(PEEPHOLES)(3, 4, batch_first=True)
    (held,) = page.fill(live, tmp_path / "a.npz", cells=[PEEPHOLES])
    assert held.holds
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    got = twins.page(page.__name__.split("_")[1].split(".")[0], "live").alone(live, x)[0]
    np.testing.assert_allclose(got, exchange.run_layer(layer, x).outputs, rtol=0, atol=BOUND)
