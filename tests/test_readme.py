"""The README's examples run, and what it says of the house is true."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("\n")[0])
def test_example(example):
    for package in ("torch", "keras", "aeon"):
        if package in example or (package == "aeon" and "vowels" in example):
            pytest.importorskip(package)
    exec(compile(example, "README.md", "exec"), {})


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


def test_the_rooms_it_names_exist():
    house = README.split("## Layout")[1].split("## Data")[0]
    for room in ("equations", "parameters", "layouts", "framework", "comparison", "data/", "cli"):
        assert f"\n      {room}" in house
        assert (ROOT / "src/common" / room).is_dir() or (ROOT / "src/common" / f"{room}.py").is_file()
    for twin in ("rnn_torch", "rnn_tf"):
        rooms = {path.stem for path in (ROOT / "src" / twin).glob("*.py")} - {"__init__"}
        named = house.split("src/rnn_torch/")[1]
        assert rooms <= set(re.findall(r"\w+", named))


def test_its_benchmarks_are_those_of_the_report_beside_it():
    pytest.importorskip("scipy")
    from benchmarks import comparing, tables
    from benchmarks.runs import Report, Settings

    report = comparing.load(ROOT / "docs/benchmarks/benchmarks.json")
    assert report.pop("passed") is True
    del report["format"]
    report = Report.from_dict(report)
    assert tables.summary(report) in README
    assert not report.environment["commit"].endswith("-dirty")
    assert report.settings.workloads == Settings().workloads
    # The floors below which an engine would be a step back.
    means = {(mean.measure, mean.contender, mean.cell): mean.ratio.value for mean in report.means}
    for cell, inference, training in (("SimpleRNN", 0.5, 1.1), ("LSTM", 0.5, 0.6), ("GRU", 0.8, 1.2)):
        assert means["inference", "rnn_torch", cell] >= inference
        assert means["training", "rnn_torch", cell] >= training
        assert means["inference", "rnn_tf", cell] >= 1.0
        assert means["training", "rnn_tf", cell] >= 1.3


def test_what_it_says_of_xla_is_in_the_report_beside_it():
    report = json.loads((ROOT / "docs/benchmarks/benchmarks.json").read_text())
    means = {(m["measure"], m["cell"], m["contender"]): m["ratio"][0] for m in report["means"]}
    said = {
        measure: [
            f"{means[measure, cell, 'rnn_tf, XLA'] / means[measure, cell, 'keras.layers, XLA']:.2f}" for cell in CELLS
        ]
        for measure in ("inference", "training")
    }
    first, second, third = said["inference"]
    assert f"is {first}, {second} and {third} times as fast in inference, " in README
    first, second, third = said["training"]
    assert f"{first}, {second} and {third} times in training (SimpleRNN, LSTM, GRU)" in README


CELLS = ("SimpleRNN", "LSTM", "GRU")


def test_what_it_says_of_gradients_is_in_the_report_beside_it():
    report = json.loads((ROOT / "docs/training/gradients.json").read_text())
    assert all(row["agreement"] < row["bound"] for row in report["rows"])
    flows = {
        (row["cell"], row["scale"], row["when"]): dict(
            zip(row["lags"], zip(row["gradients"], row["jacobians"], strict=True), strict=True)
        )
        for row in report["rows"]
        if row["by"] == "oracle"
    }
    start, end = "at initialisation", "after training"

    def left(cell, scale, when, lag=50):
        return flows[cell, scale, when][lag][0]

    assert 1e-9 < left("SimpleRNN", 0.7, end) < left("SimpleRNN", 0.7, start) < 5e-9
    assert max(norm for _, norm in flows["SimpleRNN", 0.7, start].values()) < 1
    assert left("SimpleRNN", 2, start) == pytest.approx(500, rel=0.05)
    assert left("SimpleRNN", 2, end) == pytest.approx(5, rel=0.05)
    assert left("LSTM", 1, end, 8) == pytest.approx(1 / 6, rel=0.05)
    assert min(left("LSTM", 1, end, lag) for lag in flows["LSTM", 1, end]) > 0.15
    assert left("LSTM", 1, end) == pytest.approx(1 / 4, rel=0.05)
    assert left("LSTM", 1, start) == pytest.approx(1 / 60, rel=0.05)
    assert left("GRU", 1, start) == pytest.approx(left("GRU", 1, end), rel=0.1) == pytest.approx(1.5e-7, rel=0.1)
    clipped, free = report["clipping"]
    assert clipped["clip_norm"] == 0.25
    assert sum(clipped["losses"][-30:]) / 30 < 0.05
    assert free["losses"][-1] > 1e100


def between(name):
    return README.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]


TRAININGS = re.findall(r"<!-- training (\S+) -->", README)


def test_every_task_has_its_table():
    from common.tasks import TASKS

    assert set(TASKS) <= set(TRAININGS)


@pytest.mark.parametrize("name", TRAININGS)
def test_its_tables_of_tasks_are_those_of_the_reports_beside_it(name):
    from common import reports
    from common.tasks.translation import PUBLISHED

    found = json.loads((ROOT / f"docs/training/{name}.json").read_text())
    assert between(f"training {name}") == reports.markdown(found)
    scores = {
        (problem["name"], row["framework"], row["cell"]): {m: s["mean"] for m, s in row["scores"].items()}
        for problem in found["problems"]
        for row in problem["rows"]
    }
    assert {framework for _, framework, _ in scores} == {"torch", "tf"}
    assert {cell for _, _, cell in scores} == set(CELLS)
    for (problem, framework, cell), measured in scores.items():
        if name == "speech" and cell != "SimpleRNN":
            assert measured["accuracy"] >= 0.96
        if name == "text":
            ngrams = found["problems"][0]["baselines"].values()
            margin = 1 if cell == "SimpleRNN" else 0.95
            assert measured["bits per character"] < margin * min(s["bits per character"] for s in ngrams)
        if name == "translation-full" and cell != "SimpleRNN":
            for rates in (
                *found["problems"][0]["baselines"].values(),
                PUBLISHED["Yao & Zweig 2015, encoder–decoder LSTM"],
            ):
                assert all(measured[name] < rate for name, rate in rates.items())
        if name == "adding" and cell != "SimpleRNN":
            assert measured["mean squared error"] < 0.2 * scores[problem, framework, "SimpleRNN"]["mean squared error"]
        if name.startswith("copying") and cell != "SimpleRNN":
            assert measured["symbols right"] > 0.9 > scores[problem, framework, "SimpleRNN"]["symbols right"]


def test_its_lockstep_is_that_of_the_report_beside_it():
    pytest.importorskip("torch")
    from common import lockstep

    found = json.loads((ROOT / "docs/training/lockstep.json").read_text())
    assert between("lockstep") == lockstep.markdown(found)
    assert found["updates"] == 1000
    assert all(lockstep.holds(row) for row in found["rows"] if row["dtype"] == "float64")


def test_the_files_it_links_to_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_commands_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for command in re.findall(r"^    make (\w+)", README, re.M):
        assert command in targets


@pytest.mark.parametrize("module", ["rnn_torch.layers", "rnn_tf.layers"])
def test_the_examples_in_docstrings(module):
    """Each layer's docstring has an example; run as a doctest."""
    import doctest
    import importlib

    pytest.importorskip("torch" if "torch" in module else "tensorflow")
    found = importlib.import_module(module)
    scope = {"torch": __import__("torch")} if "torch" in module else {"keras": __import__("keras")}
    result = doctest.testmod(found, extraglobs=scope)
    assert result.attempted >= 9
    assert result.failed == 0
