"""The parity suite must notice a wrong layer: each fault is planted in a twin and the check must fail.

The faults go into what both the suite and the users run: the step functions of the engine `reference`, the kernels of the
engine `fused`, and the mask that any engine is given.
"""

import dataclasses
import importlib

import numpy as np
import pytest

from cases import FORMS, check_against_oracle, make
from rnn_common.cells import CELLS
from rnn_common.packings import GATE_ORDER

FORMS_WITH_GATES = ["LSTM", "GRU", "GRU-reset-before"]
each_form = pytest.mark.parametrize("form", FORMS)
each_form_with_gates = pytest.mark.parametrize("form", FORMS_WITH_GATES)
each_engine = pytest.mark.parametrize("engine", ["reference", "fused"])


def room(twin, name):
    return importlib.import_module(f"{twin.package}.{name}")


def must_fail(twin, form, engine, shape="ragged"):
    with pytest.raises(AssertionError, match="is beyond"):
        check_against_oracle(twin, make(form, shape), engine)


# In `reference`


def plant(monkeypatch, twin, cell, change):
    """Have a twin's step run on `change(w)`."""
    steps = room(twin, "cells").STEPS
    step = steps[cell]
    monkeypatch.setitem(steps, cell, lambda w, x_t, state, **options: step(change(w), x_t, state, **options))


def test_without_a_fault_the_planting_passes(twin, monkeypatch):
    plant(monkeypatch, twin, "LSTM", lambda w: w)
    check_against_oracle(twin, make("LSTM", "ragged"), "reference")


@each_form_with_gates
@pytest.mark.parametrize("which", ["input_weight", "recurrent_weight", "bias"])
def test_two_gates_swapped(twin, monkeypatch, form, which):
    cell = form.partition("-")[0]
    name = getattr(CELLS[cell], which)
    first, second = map(name, CELLS[cell].gates[:2])
    plant(monkeypatch, twin, cell, lambda w: w._replace(**{first: getattr(w, second), second: getattr(w, first)}))
    must_fail(twin, form, "reference")


@each_form
def test_each_bias_dropped(twin, monkeypatch, form):
    cell = form.partition("-")[0]
    for name in CELLS[cell].bias_names(form != "GRU-reset-before"):
        with monkeypatch.context() as patch:
            plant(patch, twin, cell, lambda w, name=name: w._replace(**{name: 0.0 * getattr(w, name)}))
            must_fail(twin, form, "reference")


@pytest.mark.parametrize("form", ["GRU", "GRU-reset-before"])
def test_the_update_gates_complement(twin, monkeypatch, form):
    """z and 1 − z change places: h = z ⊙ ñ + (1 − z) ⊙ h. Since 1 − σ(a) = σ(−a), that is the gate's weights negated."""

    def complement(w):
        return w._replace(W_iz=-w.W_iz, W_hz=-w.W_hz, b_z=-w.b_z)

    plant(monkeypatch, twin, "GRU", complement)
    must_fail(twin, form, "reference")


def test_the_grus_forms_exchanged(twin, monkeypatch):
    steps = room(twin, "cells").STEPS
    step = steps["GRU"]
    monkeypatch.setitem(steps, "GRU", lambda w, x, h, reset_after, **o: step(w, x, h, reset_after=not reset_after, **o))
    must_fail(twin, "GRU-reset-before", "reference")


@pytest.mark.parametrize("form", ["SimpleRNN", "LSTM", "GRU"])
def test_a_wrong_derivative_alone(twin, monkeypatch, form):
    """Right outputs and a wrong gradient: the derivative with respect to the previous state is cut."""
    steps = room(twin, "cells").STEPS
    step = steps[form]

    def detached(state):
        if twin.name == "torch":
            return tuple(h.detach() for h in state)
        import tensorflow as tf

        return tuple(tf.stop_gradient(h) for h in state)

    monkeypatch.setitem(steps, form, lambda w, x_t, state, **options: step(w, x_t, detached(state), **options))
    must_fail(twin, form, "reference")


# In `fused`


def plant_in_kernels(monkeypatch, twin, change):
    """Have a twin's kernels run on `change(blocks)`, with `blocks[weight][gate]` of the packed weights."""
    kernels = room(twin, "kernels")

    def changed(cell, packed):
        if twin.name == "torch":
            import torch

            split, join = lambda each, count: each.chunk(count), torch.cat
        else:
            import tensorflow as tf

            split, join = lambda each, count: tf.split(each, count, -1), lambda blocks: tf.concat(blocks, -1)
        order = GATE_ORDER["torch" if twin.name == "torch" else "keras"][cell]
        blocks = [dict(zip(order, split(each, len(order)), strict=True)) for each in packed]
        change(blocks)
        return tuple(join([each[gate] for gate in order]) for each in blocks)

    if twin.name == "torch":
        monkeypatch.setattr(
            room(twin, "fused"),
            "kernel_of",
            lambda r: kernels.kernel_of(dataclasses.replace(r, packed=changed(r.cell, r.packed))),
        )
        return
    weights = kernels.Kernel.weights
    monkeypatch.setattr(kernels.Kernel, "weights", lambda self, packed: weights(self, changed(self.cell, packed)))
    kernels._kernel.cache_clear()


@pytest.fixture(autouse=True)
def fresh_kernels(twin):
    """TensorFlow's kernels keep their graphs: a test with a planted fault makes its own, and leaves none behind."""
    yield
    if twin.name == "tf":
        room(twin, "kernels")._kernel.cache_clear()


def swapped(blocks, *gates):
    first, second = gates
    blocks[first], blocks[second] = blocks[second], blocks[first]


@each_form
def test_without_a_fault_the_planting_in_kernels_passes(twin, monkeypatch, form):
    plant_in_kernels(monkeypatch, twin, lambda blocks: None)
    check_against_oracle(twin, make(form, "ragged"), "fused")


@each_form_with_gates
@pytest.mark.parametrize("which", [0, 1, 2], ids=["input_weight", "recurrent_weight", "bias"])
def test_two_gates_swapped_in_kernels(twin, monkeypatch, form, which):
    gates = CELLS[form.partition("-")[0]].gates[:2]
    plant_in_kernels(monkeypatch, twin, lambda blocks: swapped(blocks[which], *gates))
    must_fail(twin, form, "fused")


@each_form
def test_each_bias_dropped_in_kernels(twin, monkeypatch, form):
    for gate in CELLS[form.partition("-")[0]].gates:
        with monkeypatch.context() as patch:
            plant_in_kernels(patch, twin, lambda blocks, gate=gate: blocks[2].update({gate: 0 * blocks[2][gate]}))
            must_fail(twin, form, "fused")


def test_the_grus_forms_exchanged_in_kernels(twin, monkeypatch):
    kernels = room(twin, "kernels")
    one, other = kernels.GRUKernel, kernels.GRUResetBeforeKernel
    monkeypatch.setattr(kernels, "GRUKernel", other)
    monkeypatch.setattr(kernels, "GRUResetBeforeKernel", one)
    if twin.name == "tf":
        kernels._kernel.cache_clear()
    must_fail(twin, "GRU-reset-before", "fused")


@each_form
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_a_wrong_derivative_in_kernels(twin, monkeypatch, form, activation):
    """Right outputs and wrong gradients: an activation's derivative is a thousandth too large."""
    if form == "SimpleRNN" and activation == "sigmoid":
        return
    kernels = room(twin, "kernels")
    if twin.name == "torch":
        right = getattr(kernels, f"_{activation}_backward")
        wrong = lambda *arguments, **options: right(*arguments, **options).mul_(1.001)  # noqa: E731
        monkeypatch.setattr(kernels, f"_{activation}_backward", wrong)
    else:
        import keras

        function = getattr(keras.activations, activation)
        right = kernels.BACKWARD[function]
        monkeypatch.setitem(kernels.BACKWARD, function, lambda d_y, y: right(d_y, y) * 1.001)
        kernels._kernel.cache_clear()
    must_fail(twin, form, "fused")


# In what any engine is given


@each_form
@each_engine
@pytest.mark.parametrize("shift", [1, -1])
def test_the_mask_off_by_one(twin, monkeypatch, form, engine, shift):
    """The engine is told that every sequence ends a step late or a step early."""
    engines = room(twin, "engines").ENGINES
    right = engines[engine]

    def shifted(recurrence, x, state, lengths=None, *args, **options):
        return right(recurrence, x, state, moved(np.asarray(lengths), shift), *args, **options)

    def moved(lengths, shift):
        if twin.name == "tf":  # a mask
            mask = np.roll(lengths, shift, 0)
            mask[0 if shift > 0 else -1] = shift > 0
            return mask
        import torch

        # How many sequences each step has: the longest ends a step early or late, another the other way.
        sizes = lengths.tolist()
        sizes = [*sizes[:-2], sizes[-2] + 1] if shift < 0 else [*sizes[:2], sizes[2] - 1, *sizes[3:], 1]
        return torch.tensor(sizes)

    monkeypatch.setitem(engines, engine, shifted)
    must_fail(twin, form, engine, "ragged-none-full")
