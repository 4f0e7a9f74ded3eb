"""The parity suite must notice a wrong layer: each fault is planted in a twin and the check must fail.

The faults go into what both the suite and the users run: the step functions and the mask.
"""

import importlib

import numpy as np
import pytest

from cases import check_against_oracle, make
from common.parameters import CELLS

FORMS_WITH_GATES = ["LSTM", "GRU", "GRU-reset-before"]


def cells_of(twin):
    return importlib.import_module(f"{twin.package}.cells")


def plant(monkeypatch, twin, cell, change):
    """Have a twin's step run on `change(w)`."""
    steps = cells_of(twin).STEPS
    step = steps[cell]
    monkeypatch.setitem(steps, cell, lambda w, x_t, state, **options: step(change(w), x_t, state, **options))


def must_fail(twin, form, shape="ragged"):
    with pytest.raises(AssertionError, match="is beyond"):
        check_against_oracle(twin, make(form, shape))


def test_without_a_fault_the_planting_passes(twin, monkeypatch):
    plant(monkeypatch, twin, "LSTM", lambda w: w)
    check_against_oracle(twin, make("LSTM", "ragged"))


@pytest.mark.parametrize("form", FORMS_WITH_GATES)
@pytest.mark.parametrize("which", ["input_weight", "recurrent_weight", "bias"])
def test_two_gates_swapped(twin, monkeypatch, form, which):
    cell = form.partition("-")[0]
    name = getattr(CELLS[cell], which)
    first, second = map(name, CELLS[cell].gates[:2])
    plant(monkeypatch, twin, cell, lambda w: w._replace(**{first: getattr(w, second), second: getattr(w, first)}))
    must_fail(twin, form)


@pytest.mark.parametrize("form", ["SimpleRNN", "LSTM", "GRU", "GRU-reset-before"])
def test_each_bias_dropped(twin, monkeypatch, form):
    cell = form.partition("-")[0]
    for name in CELLS[cell].bias_names(form != "GRU-reset-before"):
        with monkeypatch.context() as patch:
            plant(patch, twin, cell, lambda w, name=name: w._replace(**{name: 0.0 * getattr(w, name)}))
            must_fail(twin, form)


@pytest.mark.parametrize("form", ["GRU", "GRU-reset-before"])
def test_the_update_gates_complement(twin, monkeypatch, form):
    """z and 1 − z change places: h = z ⊙ ñ + (1 − z) ⊙ h. Since 1 − σ(a) = σ(−a), that is the gate's weights negated."""

    def complement(w):
        if hasattr(w.W_iz, "mask"):
            raise TypeError("the fault is for layers without dropout")
        return w._replace(W_iz=-w.W_iz, W_hz=-w.W_hz, b_z=-w.b_z)

    plant(monkeypatch, twin, "GRU", complement)
    must_fail(twin, form)


def test_the_grus_forms_exchanged(twin, monkeypatch):
    steps = cells_of(twin).STEPS
    step = steps["GRU"]
    monkeypatch.setitem(steps, "GRU", lambda w, x, h, reset_after, **o: step(w, x, h, reset_after=not reset_after, **o))
    must_fail(twin, "GRU-reset-before")


@pytest.mark.parametrize("form", ["SimpleRNN", "LSTM", "GRU", "GRU-reset-before"])
@pytest.mark.parametrize("shift", [1, -1])
def test_the_mask_off_by_one(twin, monkeypatch, form, shift):
    """The engine is told that every sequence ends a step late or a step early."""
    engines = importlib.import_module(f"{twin.package}.engines").ENGINES
    for name, engine in list(engines.items()):

        def shifted(step, w, x, state, valid=None, *args, engine=engine, **options):
            mask = np.roll(np.asarray(valid), shift, 0)
            mask[0 if shift > 0 else -1] = shift > 0
            moved = valid.new_tensor(mask) if twin.name == "torch" else mask
            return engine(step, w, x, state, moved, *args, **options)

        monkeypatch.setitem(engines, name, shifted)
    must_fail(twin, form, "ragged-none-full")


@pytest.mark.parametrize("form", ["SimpleRNN", "LSTM", "GRU"])
def test_a_wrong_derivative_alone(twin, monkeypatch, form):
    """Right outputs and a wrong gradient: the derivative with respect to the previous state is cut."""
    steps = cells_of(twin).STEPS
    step = steps[form]

    def detached(state):
        if twin.name == "torch":
            return tuple(h.detach() for h in state)
        import tensorflow as tf

        return tuple(tf.stop_gradient(h) for h in state)

    monkeypatch.setitem(steps, form, lambda w, x_t, state, **options: step(w, x_t, detached(state), **options))
    must_fail(twin, form)
