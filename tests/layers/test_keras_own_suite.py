"""Keras's own tests of its recurrent layers, as its wheel ships them, with rnn_tf's classes in the place of Keras's.

Nothing is skipped but what the tests skip themselves: those of the cuDNN path that Keras has for torch.
"""

from importlib import import_module
from types import ModuleType, SimpleNamespace
from unittest import TestCase

import pytest

pytest.importorskip("keras", minversion="3.15", reason="holds the tests of Keras 3.15")

from keras.src import layers
from keras.src.layers.rnn import bidirectional

import rnn_tf
from rnn_common.cells import IN_BOTH

CLASSES = (*IN_BOTH, *(f"{cell}Cell" for cell in IN_BOTH))
MODULES = [
    import_module(f"keras.src.layers.rnn.{room}_test")
    for room in ("simple_rnn", "lstm", "gru", "bidirectional", "stacked_rnn_cells", "time_distributed")
]


def own_tests(module: ModuleType) -> dict[str, type[TestCase]]:
    """The test classes that a module defines, under names that tell apart two of the same name."""
    prefix = module.__name__.rpartition(".")[2]
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, TestCase)]
    return {f"{prefix}_{cls.__name__}": cls for cls in classes if cls.__module__ == module.__name__}


for each in MODULES:
    globals().update(own_tests(each))


@pytest.fixture(autouse=True)
def replaced(monkeypatch):
    """For one test, rnn_tf's classes where Keras's tests, and its `Bidirectional`, look up Keras's by name."""
    ours = {name: getattr(rnn_tf, name) for name in CLASSES}
    for module in MODULES:
        monkeypatch.setattr(module, "layers", SimpleNamespace(**vars(layers) | ours))
    # `Bidirectional` asks whether it wraps an LSTM or a GRU, and for what these hold, to see if one call can run both.
    for name in ("LSTM", "GRU"):
        monkeypatch.setattr(bidirectional, name, ours[name])


@pytest.mark.parametrize("module", [*MODULES, bidirectional], ids=lambda module: module.__name__.rpartition(".")[2])
def test_no_class_of_keras_is_left(module):
    keras_own = [getattr(layers, name) for name in CLASSES]
    reachable = [*vars(module).values(), *vars(getattr(module, "layers", module)).values()]
    assert not [value for value in reachable if any(value is cls for cls in keras_own)]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_module_has_tests(module):
    assert [name for cls in own_tests(module).values() for name in vars(cls) if name.startswith("test_")]
