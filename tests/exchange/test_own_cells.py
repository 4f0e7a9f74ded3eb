"""Layers of cells of the user's own: from file to file and into either framework, by the names of their weights."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("typer")

from typer.testing import CliRunner

from rnn_common import exchange, twins
from rnn_common.cells import CELLS, Cell, cell_of
from rnn_common.cli import app
from rnn_common.exchange import convert, proof
from rnn_common.exchange.contents import NotUnderstood
from rnn_common.packings import to_torch
from rnn_common.weights import initialise

ROOT = Path(__file__).parents[2]
PEEPHOLES = f"{ROOT}/examples/peephole_lstm.py:PEEPHOLE_LSTM"
MIN_GRU = f"{ROOT}/examples/min_gru.py:MIN_GRU"
UNIT = np.finfo(np.float32).eps
I, H = 3, 4
X = np.random.default_rng(0).standard_normal((2, 5, I)).astype(np.float32)


def arrays(spec=PEEPHOLES, prefix="", bias=True, suffixes=("_l0",), dtype=np.float32):
    """A layer's, or a stack's where an ending says so."""
    found = {}
    for seed, suffix in enumerate(suffixes):
        width = I if suffix.startswith("_l0") else H * (2 if any("reverse" in each for each in suffixes) else 1)
        parameters = initialise(spec, width, H, bias=bias, seed=seed, dtype=dtype)
        found |= {f"{prefix}{name}": array for name, array in to_torch(parameters, suffix).items()}
    return found


def source(folder, *givers, **more):
    path = folder / "a.npz"
    np.savez(path, **{name: array for giver in givers for name, array in giver.items()}, **more)
    return path


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("spec", [PEEPHOLES, MIN_GRU])
def test_a_layer_is_found_by_its_names(spec, bias, tmp_path):
    path = source(tmp_path, arrays(spec, "net.rnn.", bias), **{"head.weight": X[0], "head.bias": X[0, :, 0]})
    (layer,) = exchange.read(path, [spec]).recurrent
    assert (layer.name, layer.cell, layer.packing) == ("net.rnn", cell_of(spec), "by name")
    assert (layer.input_size, layer.hidden_size, layer.bias, len(layer.directions)) == (I, H, bias, 1)
    expected = initialise(spec, I, H, bias=bias, dtype=np.float32)
    assert all(np.array_equal(layer.parameters()[name], array) for name, array in expected.items())


def test_stacks_and_directions(tmp_path):
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    found = exchange.read(source(tmp_path, arrays(suffixes=suffixes)), [cell_of(PEEPHOLES)])
    assert [(each.name, each.input_size, len(each.directions)) for each in found.recurrent] == [
        ("PeepholeLSTM, layer 1", I, 2),
        ("PeepholeLSTM, layer 2", 2 * H, 2),
    ]


def test_beside_layers_of_the_table(tmp_path):
    """Each cell has its own, and a cell whose names are among another's leaves them to it."""
    lstm = Cell("own LSTM", ("h", "c"), CELLS["LSTM"].weights, numpy=lambda w, x, state: state)
    theirs = {f"theirs.{name}": array for name, array in to_torch(initialise("LSTM", I, H)).items()}
    path = source(tmp_path, arrays(prefix="a."), arrays(MIN_GRU, "b."), theirs)
    found = exchange.read(path, [lstm, MIN_GRU, PEEPHOLES])
    assert [(each.name, each.cell.name) for each in found.recurrent] == [
        ("a", "PeepholeLSTM"),
        ("b", "MinGRU"),
        ("theirs", "LSTM"),
    ]
    assert any("no layer of own LSTM: its weights would be W_ii, W_if" in note for note in found.notes)


@pytest.mark.parametrize("spec", [PEEPHOLES, MIN_GRU])
@pytest.mark.parametrize("suffixes", [("_l0",), ("_l0", "_l0_reverse")], ids=["one", "both"])
@pytest.mark.parametrize("name", twins.TWINS)
def test_what_a_twin_makes_of_it(name, suffixes, spec, tmp_path):
    if name not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[name]}")
    path = source(tmp_path, arrays(spec, suffixes=suffixes))
    page = convert.page(name)
    model = page.load(path, cells=[spec])
    (layer,) = exchange.read(path, [spec]).recurrent
    (held,) = proof.of_layers([layer], name, lambda n, x: page.run(model, x))
    assert held.holds
    half = page.load(path, cells=[cell_of(spec)])
    np.testing.assert_array_equal(page.run(half, X), page.run(model, X))


@pytest.mark.parametrize("kind", [".npz", ".safetensors", ".pt"])
def test_from_file_to_file_and_back(kind, tmp_path):
    if kind == ".pt":
        pytest.importorskip("torch")
    path = source(tmp_path, arrays(prefix="rnn.", suffixes=("_l0", "_l0_reverse", "_l1", "_l1_reverse")))
    target = tmp_path / f"b{kind}"
    assert all(each.holds for each in convert.convert(path, target, cells=[PEEPHOLES]).proofs)
    convert.convert(target, tmp_path / "c.npz", cells=[PEEPHOLES])
    with np.load(path) as before, np.load(tmp_path / "c.npz") as after:
        assert list(before) == list(after)
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_what_a_live_layer_saves(tmp_path):
    torch = pytest.importorskip("torch")
    import rnn_torch

    layer = rnn_torch.layer_of(PEEPHOLES)(I, H, batch_first=True)
    torch.save({"epoch": 3, "model": layer.state_dict()}, tmp_path / "a.pt")
    (found,) = exchange.read(tmp_path / "a.pt", [PEEPHOLES]).recurrent
    with torch.no_grad():
        expected = layer(torch.from_numpy(X))[0].numpy()
    np.testing.assert_allclose(exchange.run_layer(found, X).outputs, expected, rtol=0, atol=8 * UNIT)


def test_a_step_that_there_is_not(tmp_path):
    """Without one in PyTorch the equations prove it; without one in NumPy nothing does."""
    whole = cell_of(PEEPHOLES)
    path = source(tmp_path, arrays())
    own = Cell("A", whole.states, whole.weights, numpy=whole.numpy)
    assert [each.by for each in convert.convert(path, tmp_path / "b.npz", cells=[own]).proofs] == ["the equations"]
    with pytest.raises(ValueError, match="A should have a step in NumPy"):
        convert.convert(path, tmp_path / "c.npz", cells=[Cell("A", whole.states, whole.weights, torch=whole.torch)])
    for name in twins.installed():
        with pytest.raises(ValueError, match=f"A should have a step in {twins.TITLES[name]}"):
            convert.page(name).load(path, cells=[own])


# What is refused


@pytest.mark.parametrize("kind", [".keras", ".weights.h5", ".onnx"])
def test_what_a_target_cannot_hold_is_refused_by_name(kind, tmp_path):
    if kind != ".onnx":
        pytest.importorskip("keras")
    with pytest.raises(ValueError, match=rf"rnn should be of a cell that {kind} has .*, got PeepholeLSTM: .pt"):
        convert.convert(source(tmp_path, arrays(prefix="rnn.")), tmp_path / f"b{kind}", cells=[PEEPHOLES])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_ii_l0": np.zeros((H, I, 1), "f4")}, r"'W_ii_l0' should have shape \(hidden, input\), got \(4, 3, 1\)"),
        ({"p_f_l0": np.zeros(H + 1, "f4")}, r"'p_f_l0' should have shape \(4,\), got \(5,\)"),
        ({"W_ho_l0": np.zeros((H, H))}, "'W_ho_l0' should be float32, got float64"),
        ({"W_ii_l0": np.zeros((H, I), "i4")}, "'W_ii_l0' should be floating-point numbers, got int32"),
        ({"b_c_l0": None}, "should have all its biases in every direction or none, lacks b_c"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(change, message, tmp_path):
    changed = {name: array for name, array in (arrays() | change).items() if array is not None}
    with pytest.raises(NotUnderstood, match=message):
        exchange.read(source(tmp_path, changed), [PEEPHOLES])


def test_directions_of_which_one_has_biases(tmp_path):
    both = arrays(suffixes=("_l0", "_l0_reverse"))
    one = {name: array for name, array in both.items() if not (name.startswith("b_") and name.endswith("reverse"))}
    with pytest.raises(NotUnderstood, match="in every direction or none, lacks b_i"):
        exchange.read(source(tmp_path, one), [PEEPHOLES])


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        ("a.npz", ["LSTM"], "cells should be of your own, path/to/file.py:NAME, got LSTM"),
        ("a.npz", ["peepholes"], "cell should be one of"),
        ("a.onnx", [PEEPHOLES], r"cells of your own are found by the names of their weights in .pt, .*, got .*a.onnx"),
    ],
)
def test_what_is_no_cell_of_ones_own(name, cells, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        exchange.read(tmp_path / name, cells)


# The commands


def call(*arguments):
    return CliRunner().invoke(app.app, list(map(str, arguments)))


def test_the_commands_are_told_the_cell(tmp_path):
    path = source(tmp_path, arrays(prefix="rnn."))
    ran = call("inspect", path, "--cell", PEEPHOLES)
    assert ran.exit_code == 0, ran.output
    assert "PeepholeLSTM 3 → 4" in ran.output
    assert "packed by name" in ran.output
    ran = call("convert", path, tmp_path / "b.safetensors", "--cell", PEEPHOLES)
    assert ran.exit_code == 0, ran.output
    assert "from the equations, bound" in ran.output
    for command in (("inspect", path), ("convert", path, tmp_path / "c.npz")):
        ran = call(*command, "--cell", "LSTM")
        assert ran.exit_code == 2
        assert "cells should be of your own" in " ".join(ran.output.split())
