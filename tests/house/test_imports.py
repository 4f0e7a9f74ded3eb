"""Whoever imports our packages can use both frameworks in one process, in whatever order they come: see `rnn_common.loading`.

A crash takes the process with it, so that each order has one of its own. They fail only where Triton is installed, which
is why the test set holds it.
"""

import ctypes
import importlib
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import rnn_common
from rnn_common import loading, twins
from tests.cases import inductors_compiler

# What every order of imports is followed by: all that makes PyTorch import Triton, and TensorFlow use its LLVM.
USE = """
import sys
from importlib.util import find_spec
import keras
import numpy as np
import torch

x = torch.linspace(-1, 1, 8, requires_grad=True)
compiled = torch.compile(lambda x: torch.sin(x) * 2, backend=sys.argv[1])
compiled(x).sum().backward()
torch.testing.assert_close(x.grad, 2 * torch.cos(x.detach()))

weight = torch.nn.Parameter(torch.ones(2))
optimiser = torch.optim.SGD([weight], lr=0.5)
weight.sum().backward()
optimiser.step()
assert weight.tolist() == [0.5, 0.5]

network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
network.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=True)
network.train_on_batch(np.ones((2, 1)), np.zeros((2, 1)))
assert [w.tolist() for w in network.get_weights()] == [[[0]], [-1]]

assert find_spec("triton") is None or "triton" in sys.modules, "PyTorch no longer imports Triton here: what do we test?"
"""

# By what is in the process when ours come, each with a backend of `torch.compile`: Inductor loads most, eager least.
# A process takes a dozen seconds, half of them TensorFlow's.
ORDERS = {
    "rnn_torch first": ("import rnn_torch, tensorflow", "inductor"),
    "common first": ("from rnn_common import twins; twins.get('tf'); twins.get('torch')", "eager"),
    "TensorFlow before ours": ("import tensorflow, rnn_torch", "inductor"),
}


@pytest.fixture(scope="module")
def compiled_kernels(tmp_path_factory):
    """Where the processes share what PyTorch has compiled."""
    return tmp_path_factory.mktemp("inductor")


@pytest.mark.skipif(twins.installed() != ("torch", "tf"), reason="needs both frameworks")
@pytest.mark.parametrize("order", ORDERS)
def test_no_order_of_imports_crashes(order, compiled_kernels):
    imports, backend = ORDERS[order]
    if not inductors_compiler():
        backend = "eager"
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", imports + USE, backend],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(compiled_kernels)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("platform", "installed", "imported", "mode"),
    [
        ("linux", ["triton", "tensorflow"], [], os.RTLD_NOW),
        ("linux", ["triton", "tensorflow"], ["tensorflow"], os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0)),
        ("linux", ["triton"], [], None),
        ("linux", ["tensorflow"], ["tensorflow"], None),
        ("linux", [], [], None),
        ("darwin", ["triton", "tensorflow"], [], None),
        ("win32", ["triton", "tensorflow"], ["tensorflow"], None),
    ],
)
def test_tritons_library_is_loaded_only_where_both_are_installed(monkeypatch, platform, installed, imported, mode):
    calls = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(
        loading, "find_spec", {name: ModuleSpec(name, None, origin=f"/{name}/_.py") for name in installed}.get
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: calls.append((path, mode)))
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    for name in imported:
        monkeypatch.setitem(sys.modules, name, sys)
    loading.load_triton()
    assert calls == ([] if mode is None else [("/triton/_C/libtriton.so", mode)])


def broken(tmp_path):
    """A Triton whose library is none."""
    library = tmp_path / "triton" / "_C" / "libtriton.so"
    library.parent.mkdir(parents=True)
    library.write_text("no library")
    (tmp_path / "triton" / "__init__.py").touch()


def without_library(tmp_path):
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").touch()


def without_init(tmp_path):
    (tmp_path / "triton").mkdir()


@pytest.mark.parametrize("triton", [broken, without_library, without_init])
@pytest.mark.skipif(twins.installed() != ("torch", "tf"), reason="needs TensorFlow")
def test_a_triton_that_cannot_be_loaded_harms_nobody(triton, tmp_path, monkeypatch):
    triton(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    loading.load_triton()


@pytest.mark.parametrize("replacement", [None, ModuleType("triton")], ids=["switched off", "replaced"])
def test_a_triton_that_somebody_has_replaced_is_left_alone(replacement, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", replacement)
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: pytest.fail(f"loaded {path}"))
    loading.load_triton()


@pytest.mark.parametrize("package", ["rnn_common", "rnn_common.twins"])
def test_nothing_is_imported_to_load_triton(package):
    program = (
        f"import sys, {package}; print([m for m in ('triton', 'torch', 'tensorflow', 'keras') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("own", ["common.py", "common/__init__.py"])
@pytest.mark.parametrize("package", ["rnn_torch", "rnn_tf"])
def test_a_project_with_a_common_of_its_own_keeps_it(package, own, tmp_path):
    """A great many have one, beside the script that they run."""
    if not framework_of(package):
        pytest.skip("not installed")
    place = tmp_path / own
    place.parent.mkdir(exist_ok=True)
    place.write_text("WHOSE = 'the user'\n")
    script = tmp_path / "script.py"
    script.write_text(f"import {package}\nimport common\nprint(common.WHOSE, {package}.LSTM.__name__)\n")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "the user LSTM\n"


@pytest.mark.parametrize("package", ["rnn_torch", "rnn_tf"])
def test_the_twins_are_of_one_version(package):
    if not framework_of(package):
        pytest.skip("not installed")
    assert importlib.import_module(package).__version__ == rnn_common.__version__


def framework_of(package):
    return {"rnn_torch": "torch", "rnn_tf": "tf"}[package] in twins.installed()


def test_no_two_files_of_tests_have_one_name():
    """pytest imports them by their names, without their folders, and takes the second for the first."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
