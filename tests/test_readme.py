"""The README's examples run, and what it says of the house is true."""

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
