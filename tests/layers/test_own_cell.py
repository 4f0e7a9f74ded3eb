"""Cells of the user's own: one file, no change to the packages. The two examples hold the seam."""

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rnn_common import copying, twins
from rnn_common.cells import Cell, InputMatrix, cell_of
from rnn_common.parity.case import make_case, run_oracle
from rnn_common.parity.compare import Settings, compare
from rnn_common.parity.contract import bounds, deviations
from rnn_common.weights import Parameters, initialise

ROOT = Path(__file__).parents[2]
SPECS = {
    "peepholes": f"{ROOT}/examples/peephole_lstm.py:PEEPHOLE_LSTM",
    "minGRU": f"{ROOT}/examples/min_gru.py:MIN_GRU",
}
each_cell = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def case_of(spec, lengths=(7, 2, 5), bias=True, dtype="float64"):
    x = np.random.default_rng(0).standard_normal((3, 7, 4))
    return make_case(initialise(spec, 4, 5, bias=bias, seed=1, dtype=dtype), x, np.array(lengths))


def apart(twin, case, oracle):
    result = twin.run(twin.make(case.parameters), case)
    return deviations(result._replace(gradients=oracle.comparable(result.gradients)), oracle.result)


@each_cell
@pytest.mark.parametrize("bias", [True, False])
def test_a_twin_beside_the_oracle(twin, spec, bias):
    """Outputs, states, and gradients along random directions, on sequences of several lengths."""
    case = case_of(spec, bias=bias)
    assert apart(twin, case, run_oracle(case)).within(bounds("float64", 1.0))


@each_cell
def test_a_wrong_derivative_is_noticed(twin, spec):
    """Right outputs, and the gradient of one weight, of the input or of the initial state a thousandth too large."""
    case = case_of(spec)
    right = twin.run(twin.make(case.parameters), case)
    oracle = run_oracle(case)
    for name in right.gradients:
        wrong = right.gradients | {name: 1.001 * right.gradients[name]}
        found = deviations(right._replace(gradients=oracle.comparable(wrong)), oracle.result)
        assert found.gradients > 1e-8, name


@each_cell
def test_the_twins_beside_each_other(spec):
    if twins.installed() != ("torch", "tf"):
        pytest.skip("needs both frameworks")
    case = case_of(spec)
    results = [twins.get(name).run(twins.get(name).make(case.parameters), case) for name in ("torch", "tf")]
    assert set(results[0].gradients) == set(results[1].gradients) >= set(case.parameters)
    assert deviations(*results).within(bounds("float64", 1.0))


@each_cell
def test_weights_go_from_any_layer_to_any_other(spec):
    if twins.installed() != ("torch", "tf"):
        pytest.skip("needs both frameworks")
    case = case_of(spec)
    blank = Parameters(case.parameters.cell, {name: 0 * array for name, array in case.parameters.items()})
    for giver in map(twins.get, ("torch", "tf")):
        for taker in map(twins.get, ("torch", "tf")):
            source, target = giver.make(case.parameters), taker.make(blank)
            copying.copy_weights(source, target)
            assert all(np.array_equal(taker.read(target)[name], array) for name, array in case.parameters.items())
    with pytest.raises(ValueError, match="source's cell"):
        copying.copy_weights(source, twins.get("torch").make(initialise("LSTM", 4, 5)))


def test_the_lstm_without_peepholes_is_the_lstm(twin):
    """What is in the file is what it says: with p = 0 the outputs are those of the table's LSTM."""
    lstm = initialise("LSTM", 4, 5, seed=3)
    cell = cell_of(SPECS["peepholes"])
    own = Parameters(cell, dict(lstm) | {name: np.zeros(5) for name in ("p_i", "p_f", "p_o")})
    cases = [make_case(parameters, np.random.default_rng(1).standard_normal((2, 6, 4))) for parameters in (own, lstm)]
    found, expected = (twin.run(twin.make(case.parameters), case) for case in cases)
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-14, atol=1e-15)


def test_each_state_is_a_tensor_of_its_own():
    """Where none is given, too: a step may write in one of them."""
    torch = pytest.importorskip("torch")
    import rnn_torch

    cell = cell_of(SPECS["peepholes"])

    def writes(w, x_t, state):
        h, c = state
        c.add_(1)
        return cell.torch(w, x_t, (h, c))

    layer = rnn_torch.layer_of(replace(cell, name="WritingLSTM", torch=writes))(4, 5)
    x = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(layer(x)[0], layer(x, (torch.zeros(1, 3, 5), torch.zeros(1, 3, 5)))[0])


# What a layer has that does not depend on its cell


@each_cell
def test_in_pytorch(spec, tmp_path):
    torch = pytest.importorskip("torch")
    import rnn_torch

    kind = rnn_torch.layer_of(spec)
    assert kind is rnn_torch.layer_of(spec)
    torch.manual_seed(0)
    layer = kind(4, 5, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    first = cell_of(spec).input_matrices[0]
    assert {f"{first}_l0", f"{first}_l1_reverse"} < set(layer.state_dict())
    assert layer.state_dict()[f"{first}_l1"].shape == (5, 10)
    x = torch.randn(3, 7, 4, dtype=torch.float64, requires_grad=True)
    output, final = layer(x)
    finals = final if isinstance(final, tuple) else (final,)
    assert output.shape == (3, 7, 10)
    assert [h.shape for h in finals] == [(4, 3, 5)] * len(layer.cell.states)
    # Packed sequences are each run alone.
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [7, 2, 5], batch_first=True, enforce_sorted=False)
    unpacked, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)
    torch.testing.assert_close(unpacked[1, :2], layer(x[1:2, :2])[0][0], rtol=1e-12, atol=1e-14)
    # The file of weights, another dtype, a copy.
    torch.save(layer.state_dict(), tmp_path / "weights.pt")
    other = kind(4, 5, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x)[0], output)
    assert layer.float()(x.float())[0].dtype == torch.float32
    assert "bidirectional=True" in repr(layer)
    # First and second derivatives.
    small = kind(2, 3, dtype=torch.float64)
    inputs = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: small(x)[0], inputs)
    per_sample = torch.func.vmap(lambda x: small(x[:, None])[0][:, 0], in_dims=1, out_dims=1)(inputs.detach())
    torch.testing.assert_close(per_sample, small(inputs.detach())[0])


@each_cell
def test_in_pytorch_compiled(spec):
    torch = pytest.importorskip("torch")
    import rnn_torch

    layer = rnn_torch.layer_of(spec)(4, 5, dtype=torch.float64)
    x = torch.randn(4, 2, 4, dtype=torch.float64)
    compiled = torch.compile(layer, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])


@each_cell
def test_in_keras(spec, tmp_path):
    keras = pytest.importorskip("keras")
    import rnn_tf

    kind = rnn_tf.layer_of(spec)
    keras.utils.set_random_seed(0)
    x = keras.random.normal((3, 7, 4), seed=0)
    inputs = keras.Input((None, 4))
    masked = keras.layers.Masking()(inputs)
    layer = kind(5, return_sequences=True, dropout=0.1, kernel_regularizer="l2")
    outputs = keras.layers.Bidirectional(layer)(masked)
    model = keras.Model(inputs, keras.layers.Dense(1)(outputs))
    assert {variable.name for variable in model.weights} >= set(cell_of(spec).roles)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    model.compile("sgd", "mse")
    history = model.fit(x, keras.ops.zeros((3, 7, 1)), epochs=20, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_a_cell_of_a_name_that_the_table_has(twin):
    """It is itself, not the table's."""
    own = cell_of(SPECS["minGRU"])
    named = replace(own, name="GRU")
    results = []
    for cell in (own, named):
        case = make_case(initialise(cell, 4, 5, seed=1), np.random.default_rng(0).standard_normal((2, 6, 4)))
        results.append(twin.run(twin.make(case.parameters), case))
    np.testing.assert_array_equal(results[0].outputs, results[1].outputs)


# Refusals


class BlankWeights(NamedTuple):
    W: InputMatrix


def test_what_is_no_cell(tmp_path):
    empty = tmp_path / "empty.py"
    empty.write_text("VALUE = 1\n")
    for spec, message in (
        (f"{tmp_path}/none.py:X", "cell should be of a file that is there"),
        (f"{empty}:VALUE", r"cell should be a Cell in .* \(which has none\), got VALUE"),
        (f"{SPECS['minGRU']}S", r"\(MIN_GRU\), got MIN_GRUS"),
    ):
        with pytest.raises(ValueError, match=message):
            Settings(cells=(spec,))


def test_a_step_that_is_missing_is_named(twin):
    blank = Cell("Blank", ("h",), BlankWeights)
    with pytest.raises(ValueError, match="cell Blank should have a step in NumPy, its argument numpy, got none"):
        run_oracle(make_case(initialise(blank, 2, 3), np.zeros((1, 2, 2))))
    with pytest.raises(ValueError, match="cell Blank should have a step in"):
        twin.make(initialise(blank, 2, 3))


# Commands


def test_compare():
    report = compare(Settings(cells=tuple(SPECS.values()), hidden=5, batch=3, data="gaussian"))
    assert report.holds
    rows = {(row.cell, row.first, row.second) for row in report.pairs}
    names = [twins.get(name).package for name in twins.installed()]
    assert {("PeepholeLSTM", name, "oracle") for name in names} < rows
    assert not report.left_out or set(report.left_out) <= {"torch", "tf"}


def test_bench(monkeypatch):
    pytest.importorskip("scipy")
    from rnn_benchmarks import runs

    for name in twins.installed():  # TensorFlow takes it before its first operation only
        monkeypatch.setattr(twins.get(name), "set_threads", lambda count: None)
    ours = tuple(twins.get(name).package for name in twins.installed())
    settings = runs.Settings(
        workloads=("haste-1x64",), cells=(SPECS["minGRU"],), contenders=ours, sweeps=(), seconds=0.05
    )
    report = runs.run(settings)
    assert {(row.contender, row.failed) for row in report.rows} == {
        (name, None) for name in ours for _ in settings.measures
    }


@pytest.mark.parametrize("example", ["peephole_lstm", "min_gru"])
def test_the_example_runs(example, capsys):
    pytest.importorskip("torch")
    runpy.run_path(str(ROOT / f"examples/{example}.py"), run_name="__main__")
    assert "output (4, 20, " in capsys.readouterr().out


def test_beside_a_script_of_the_users(tmp_path):
    """In a project of its own, as the page says."""
    pytest.importorskip("torch")
    (tmp_path / "cells.py").write_text((ROOT / "examples/min_gru.py").read_text())
    script = (
        "import torch, rnn_torch, cells; print(rnn_torch.layer_of(cells.MIN_GRU)(2, 3)(torch.ones(4, 1, 2))[0].shape)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.strip() == "torch.Size([4, 1, 3])", ran.stderr
