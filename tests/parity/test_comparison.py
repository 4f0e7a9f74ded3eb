"""The comparison's own arithmetic, and the command `rnn-parity`."""

import json
import os
import subprocess
import sys
from itertools import count

import numpy as np
import pytest
from typer.testing import CliRunner

from rnn_common import twins
from rnn_common.cells import CELLS
from rnn_common.cli import app
from rnn_common.parity import compare as comparison
from rnn_common.parity import contract
from rnn_common.parity.case import Result, make_case, run_oracle
from rnn_common.parity.compare import Settings, compare
from rnn_common.parity.contract import Deviations, bounds, deviation, deviations
from rnn_common.timing import time_in_turn
from rnn_common.weights import initialise

needs_both = pytest.mark.skipif(twins.installed() != ("torch", "tf"), reason="needs both frameworks")


def test_deviation():
    assert deviation(np.array([1.0, 2.5]), np.array([1.0, 2.0])) == 0.25
    assert deviation(np.array([1.0, 2.5]), np.array([1.0, 2.0]), scale=5.0) == 0.1
    assert deviation(np.zeros(3), np.zeros(3)) == 0
    assert deviation(np.array([1e-9]), np.zeros(1)) == np.inf
    assert deviation(np.array([np.nan]), np.zeros(1)) == np.inf
    assert deviation(np.ones(1), np.array([np.inf])) == np.inf
    with pytest.raises(ValueError, match="same shape"):
        deviation(np.ones(2), np.ones(3))


def result(outputs=1.0, final=1.0, **gradients):
    return Result(np.array([outputs]), (np.array([final]),), {name: np.array([g]) for name, g in gradients.items()})


def test_deviations_take_the_worst_of_each_kind():
    found = deviations(result(1.5, 1.25, W=2.0, x=1.0), result(1.0, 1.0, W=1.0, x=1.0))
    assert found == Deviations(0.5, 0.25, 1.0)
    assert found.worst(Deviations(0.1, 0.3, np.inf)) == Deviations(0.5, 0.3, np.inf)
    assert found.within(Deviations(0.5, 0.25, 1.0))
    assert not found.within(Deviations(0.5, 0.25, 0.99))


def test_both_of_two_added_biases_are_held_against_the_sums_gradient():
    assert deviations(result(b_i=1.0, b_hi=1.0), result(b_i=1.0)).gradients == 0
    assert deviations(result(b_i=1.0, b_hi=3.0), result(b_i=1.0)).gradients == 2.0
    assert deviations(result(b_n=1.0, b_hn=3.0), result(b_n=1.0, b_hn=4.0)).gradients == 0.25


def test_bounds():
    assert bounds("float64", 0.5) == Deviations(1e-13, 1e-13, 1e-12)
    assert bounds("float64", 30.0, Deviations(1, 1, 1)) == pytest.approx(Deviations(3e-12, 3e-12, 3e-11))
    unit = 2.0**-23
    error = Deviations(1e-6, 2e-6, 3e-6)
    assert bounds("float32", 30.0, error) == pytest.approx(tuple(2 * e + 4 * unit for e in error))
    assert bounds("float32", 1.0) == pytest.approx((1e-13 * 2**29, 1e-13 * 2**29, 1e-12 * 2**29))


def test_a_case_has_no_cotangent_on_padding():
    case = make_case(initialise("LSTM", 2, 3, dtype="float32"), np.ones((2, 4, 2)), np.array([4, 1]), seed=1)
    assert not case.d_outputs[1, 1:].any()
    assert case.d_outputs[0].all()
    assert {a.dtype for a in (case.x, *case.state, case.d_outputs, *case.d_final)} == {np.dtype("float32")}
    assert run_oracle(case).result.outputs.dtype == np.float64


def test_time_in_turn():
    """Every round times each function once; the warm-up does not count."""
    calls, clock = [], count()

    def seconds(function):
        function()
        return float(next(clock))

    functions = [lambda i=i: calls.append(i) for i in range(3)]
    found = time_in_turn(functions, 20, warm_up=1, seconds=seconds)
    assert found.shape == (3, 20)
    for k in range(20):
        order = calls[3 * (k + 1) : 3 * (k + 2)]
        assert sorted(order) == [0, 1, 2]
        assert [found[i, k] for i in order] == [3 * (k + 1), 3 * (k + 1) + 1, 3 * (k + 1) + 2]
    assert len({tuple(calls[k : k + 3]) for k in range(0, 63, 3)}) > 3  # in changing orders
    assert time_in_turn(functions, 2).min() > 0


QUICK = ["--hidden", "4", "--data", "gaussian", "--batch", "16"]


def invoke(*arguments):
    return CliRunner().invoke(app.app, ["compare", *arguments], env={"COLUMNS": "80"})


@needs_both
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_compare(tmp_path, monkeypatch, dtype):
    monkeypatch.chdir(tmp_path)  # the path that is printed should not be long
    path = tmp_path / "report.json"
    ran = invoke(*QUICK, "--dtype", dtype, "--output", path.name)
    assert ran.exit_code == 0, ran.output
    report = json.loads(path.read_text())
    assert report["holds"] is True
    assert report["settings"]["dtype"] == dtype
    cells = list(CELLS)
    names = {"rnn_torch", "rnn_tf", "torch.nn", "keras.layers", "oracle"}
    for cell in cells:
        pairs = {frozenset((row["first"], row["second"])) for row in report["pairs"] if row["cell"] == cell}
        present = names - ({"torch.nn"} if cell == cells[-1] else set())
        assert pairs == {frozenset((a, b)) for a in present for b in present if a != b}
    assert {(t["cell"], t["framework"]) for t in report["times"]} == {
        (cell, twin) for cell in cells for twin in ("rnn_torch", "rnn_tf") if (cell, twin) != (cells[-1], "rnn_torch")
    }
    assert report["environment"]["versions"].keys() >= {"numpy", "torch", "tensorflow", "keras"}
    assert "Left out: torch.nn, GRU v3" in ran.output
    assert "…" not in ran.output  # nothing is cut at 80 columns
    assert max(map(len, ran.output.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == [path]


@needs_both
def test_a_bound_that_does_not_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(contract, "OUTPUT_BOUND", 1e-30)
    path = tmp_path / "report.json"
    ran = invoke(*QUICK, "--cell", "LSTM", "--output", str(path))
    assert ran.exit_code == 1
    assert "BEYOND" in ran.output
    assert json.loads(path.read_text())["holds"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cell", "Elman"], "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 'Elman'"),
        (["--framework", "jax"], "framework should be one of torch, tf, got 'jax'"),
        (["--dtype", "int8"], "dtype should be one of float64, float32, got 'int8'"),
        (["--device", "tpu"], "device should be one of cpu, cuda, got 'tpu'"),
        (["--data", "imdb"], "data set should be one of vowels, gaussian, adding, got 'imdb'"),
        (["--hidden", "0"], "hidden should be at least 1, got 0"),
        (["--batch", "-1"], "batch should be at least 1, got -1"),
        (["--seed", "-1"], "seed should be at least 0, got -1"),
        (["--output", "/nowhere/report.json"], "output should be in a folder that can be written"),
        (["--output", "."], "output should be a file, got the folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message):
    ran = invoke(*QUICK, *arguments)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_an_absent_device():
    if any("cuda" in twins.get(name).devices() for name in twins.installed()):
        pytest.skip("there is a GPU")
    ran = invoke(*QUICK, "--device", "cuda")
    assert ran.exit_code == 2
    assert "device should be one of cpu, got 'cuda'" in ran.stderr


def test_an_option_that_does_not_exist():
    assert invoke("--speed", "3").exit_code == 2


@pytest.mark.parametrize("absent", ["torch", "tf"])
def test_one_framework_absent(tmp_path, monkeypatch, absent):
    rest = tuple(name for name in twins.installed() if name != absent)
    for module in (comparison, twins):
        monkeypatch.setattr(module, "installed", lambda: rest)
    path = tmp_path / "report.json"
    ran = invoke(*QUICK, "--cell", "SimpleRNN", "--output", str(path))
    assert ran.exit_code == 0, ran.output
    assert f"Left out: {absent}: not installed" in ran.output
    report = json.loads(path.read_text())
    assert report["left_out"] == {absent: "not installed"}
    assert len(report["pairs"]) == 3


def test_no_framework_at_all(tmp_path, monkeypatch):
    for module in (comparison, twins):
        monkeypatch.setattr(module, "installed", lambda: ())
    ran = invoke(*QUICK, "--framework", "torch", "--output", str(tmp_path / "report.json"))
    assert ran.exit_code == 2
    assert "none of the frameworks asked for is installed: torch" in ran.stderr


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (np.ones((4, 2)), None, r"x should have shape \(batch, time, 2\), got \(4, 2\)"),
        (np.ones((1, 4, 3)), None, r"x should have shape \(batch, time, 2\), got \(1, 4, 3\)"),
        (np.ones((1, 4, 2)), [5], "lengths should be from 1 to 4, got 5 to 5"),
        (np.ones((1, 4, 2)), [0], "lengths should be from 1 to 4, got 0 to 0"),
    ],
)
def test_cases_that_cannot_be(x, lengths, message):
    with pytest.raises(ValueError, match=message):
        make_case(initialise("LSTM", 2, 3), x, lengths)


def test_settings_need_a_cell():
    with pytest.raises(ValueError, match="cells should name at least one cell"):
        Settings(cells=())


def test_progress_goes_from_nothing_to_all():
    seen = []
    if not twins.installed():
        pytest.skip("needs a framework")
    chosen = twins.installed()[:1]
    compare(Settings(("SimpleRNN",), chosen, hidden=2, data="adding", batch=64, rounds=1), lambda w, s: seen.append(s))
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert seen == sorted(seen)


@needs_both
def test_the_command_is_quiet(tmp_path):
    """As a process of its own: nothing of TensorFlow's start-up reaches the user."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "rnn_common.cli.app",
            "compare",
            *QUICK,
            "--cell",
            "SimpleRNN",
            "--output",
            str(tmp_path / "r.json"),
        ],
        capture_output=True,
        text=True,
        env=clean,
    )
    assert ran.returncode == 0
    assert ran.stderr == ""
    assert "All 10 pairs are within their bounds." in ran.stdout


@needs_both
def test_a_layer_is_made_once_a_contender(monkeypatch):
    """Not for each batch, and not again to be timed."""
    made = []
    for twin in map(twins.get, twins.installed()):
        make = twin.make
        monkeypatch.setattr(twin, "make", lambda *a, make=make, **o: made.append(a[0].cell.name) or make(*a, **o))
    comparison.compare(Settings(hidden=3, batch=32, data="gaussian", rounds=1))  # two batches
    assert {name: made.count(name) for name in made} == {"SimpleRNN": 4, "LSTM": 4, "GRU": 4, "GRU v3": 3}


def test_without_the_cli_extra():
    program = "import sys; sys.modules['typer'] = None; import rnn_common.cli.app"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [
        "rnn-parity needs the package typer, which is not installed: pip install '.[cli]'"
    ]
