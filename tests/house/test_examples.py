"""Each program in `examples/` runs, from start to end, and says what it shows."""

import ast
import runpy
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
NEEDS = {
    "torch": "torch",
    "rnn_torch": "torch",
    "keras": "tensorflow",
    "tensorflow": "tensorflow",
    "rnn_tf": "tensorflow",
}


def imported(tree):
    """The top-level packages that a program imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def test_there_are_programs():
    assert len(PROGRAMS) >= 3


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program(path, capsys):
    tree = ast.parse(path.read_text())
    assert len(ast.get_docstring(tree)) > 100
    names = set(imported(tree))
    own_cell = "rnn_common.cells import" in path.read_text()  # which serves where either framework is absent
    assert ("rnn_common" in names) == own_cell  # else what users type is rnn_torch or rnn_tf
    for name in sorted({NEEDS[name] for name in names & set(NEEDS)}):
        pytest.importorskip(name)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
