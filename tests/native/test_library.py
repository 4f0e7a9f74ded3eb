"""How the kernels are built and found: once, whole or not at all, never at import; and what becomes of layers without them."""

import importlib
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from rnn_common import twins
from rnn_common.native import library

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a compiler that is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", sys.executable)
    return tmp_path / "rnn-parity"


def test_what_is_kept_is_made_once(cache, caplog):
    made = []

    def make(path, compiler):
        time.sleep(0.05)
        made.append(compiler)
        path.write_text("library")

    with caplog.at_level(logging.WARNING):
        threads = [threading.Thread(target=library.kept, args=("name", ["a"], make)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert made == [[sys.executable]]
    assert "once for this machine" in caplog.text
    path = library.kept("name", ["a"], make)
    assert path.parent == cache
    assert path.read_text() == "library"


def test_what_is_there_is_found_where_nothing_may_be_written(cache, monkeypatch):
    path = library.kept("name", ["a"], lambda path, _: path.write_text("library"))
    monkeypatch.setattr(library, "_locked", lambda path: pytest.fail("no lock is needed"))
    assert library.kept("name", ["a"], lambda path, _: pytest.fail("it is there")) == path


def test_another_key_another_library(cache, monkeypatch):
    paths = [library.kept("name", [key], lambda path, _: path.write_text("")) for key in ("a", "b")]
    monkeypatch.setenv("CXX", f"{sys.executable} -E")
    paths.append(library.kept("name", ["a"], lambda path, _: path.write_text("")))
    assert len(set(paths)) == 3


def test_what_fails_leaves_nothing_behind(cache):
    def make(path, compiler):
        library.run([[*compiler, "-c", f"import sys; open({str(path)!r} + '.part', 'w'); sys.exit('error: no')"]])

    with pytest.raises(library.Unavailable, match="the C\\+\\+ compiler failed: error: no"):
        library.kept("name", [], make)
    assert not list(cache.glob("*.so"))


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"CXX": "/nowhere/c++"}, "there is no C++ compiler /nowhere/c++, which CXX names"),
        ({"CXX": "", "PATH": ""}, "there is no C++ compiler: none of c++, g++ and clang++"),
        ({"CXX": "false"}, "the C++ compiler does not run"),
    ],
)
def test_why_there_is_no_compiler(cache, monkeypatch, variables, reason):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(library.Unavailable, match=re.escape(reason)):
        library.compiled()


def test_no_place_to_keep_them(cache, monkeypatch):
    cache.write_text("a file")
    with pytest.raises(library.Unavailable, match="could not be compiled"):
        library.kept("name", [], lambda path, _: path.write_text(""))


def run(program, tmp_path, **environment):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), **environment}
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


def test_without_a_compiler_the_layers_run_all_the_same(twin, tmp_path):
    if library.shipped().exists():
        pytest.skip("the package carries the kernels")
    printed = run(
        f"""
        import numpy as np
        from rnn_common import twins
        from rnn_common.parity.case import make_case, run_oracle
        from rnn_common.weights import initialise
        twin = twins.get({twin.name!r})
        case = make_case(initialise("GRU", 3, 4), np.random.default_rng(0).normal(size=(2, 5, 3)))
        layer = twin.make(case.parameters)
        print(*twin.explain(layer, case))
        print(np.abs(twin.run(layer, case).outputs - run_oracle(case)[0].outputs).max() < 1e-13)
        """,
        tmp_path,
        CXX="/nowhere/c++",
    )
    assert printed == "fused {'native': 'there is no C++ compiler /nowhere/c++, which CXX names'}\nTrue\n"
    assert not (tmp_path / "rnn-parity").exists()


def test_nothing_is_compiled_at_import(tmp_path):
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    compiler.chmod(0o755)
    packages = [twins.TWINS[name].partition(".")[0] for name in twins.installed()]
    run(f"import {', '.join(packages)}", tmp_path, CXX=str(compiler))
    assert not {"called", "rnn-parity"} & {path.name for path in tmp_path.iterdir()}


def test_a_wheel_has_every_package_and_the_sources():
    tomllib = pytest.importorskip("tomllib")
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)["tool"]["setuptools"]
    folders = settings["package-dir"]
    found = {
        ".".join((name, *folder.relative_to(ROOT / place).parts))
        for name, place in folders.items()
        for folder in [ROOT / place, *(ROOT / place).rglob("*")]
        if folder.is_dir() and any(folder.glob("*.py"))
    }
    assert sorted(settings["packages"]) == sorted(found)
    data = settings["package-data"]
    for name, place in {"rnn_common.native": "src/common/native", "rnn_tf": "src/rnn_tf"}.items():
        sources = {path for path in (ROOT / place).iterdir() if path.suffix in (".h", ".hpp", ".cpp")}
        assert sources == {path for pattern in data[name] for path in (ROOT / place).glob(pattern)}


@pytest.mark.parametrize("package", ["rnn_common.native.library", "rnn_tf.operation"])
def test_where_there_is_a_compiler_it_compiles_them(package):
    """The other tests of kernels are skipped without them: that must not be for a mistake in their source."""
    try:
        library.find_compiler()
    except library.Unavailable as error:
        pytest.skip(str(error))
    if package.startswith("rnn_tf"):
        pytest.importorskip("tensorflow")
    assert importlib.import_module(package).absent() is None
