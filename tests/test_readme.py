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
        line = next(line for line in house.splitlines() if f"src/{twin}/" in line)
        for room in re.findall(r"\b(cells|layers|engines|models|training|framework)\b", line):
            assert (ROOT / "src" / twin / f"{room}.py").is_file()


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
