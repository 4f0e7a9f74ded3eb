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
    house = README.split("## The house")[1].split("`pip install")[0]
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


def between(name):
    return README.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]


TRAININGS = re.findall(r"<!-- training (\S+) -->", README)


def test_every_task_has_its_table():
    from common.tasks import TASKS

    assert set(TASKS) <= set(TRAININGS)


@pytest.mark.parametrize("name", TRAININGS)
def test_its_tables_of_tasks_are_those_of_the_reports_beside_it(name):
    from common import reports

    found = json.loads((ROOT / f"docs/training/{name}.json").read_text())
    assert between(f"training {name}") == reports.markdown(found)
    scores = {
        (problem["name"], row["framework"], row["cell"]): {m: s["mean"] for m, s in row["scores"].items()}
        for problem in found["problems"]
        for row in problem["rows"]
    }
    assert {framework for _, framework, _ in scores} == {"torch", "tf"}
    assert {cell for _, _, cell in scores} == {"SimpleRNN", "LSTM", "GRU"}
    for (problem, framework, cell), measured in scores.items():
        if name == "speech" and cell != "SimpleRNN":
            assert measured["accuracy"] >= 0.96
        if name == "text":
            ngrams = found["problems"][0]["baselines"].values()
            margin = 1 if cell == "SimpleRNN" else 0.95
            assert measured["bits per character"] < margin * min(s["bits per character"] for s in ngrams)
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
