"""The parity suite must notice a wrong layer: each fault is planted in a twin and the check must fail.

The faults go into what both the suite and the users run: the step on a cell's page, which the engine `reference` runs, its fast
form, which the engine `fused` runs, the weights that the engine `native` gives to the kernels and `vendor` to the framework, and
the mask that any engine is given.
"""

import importlib

import numpy as np
import pytest

from rnn_common import twins
from rnn_common.cells import CELLS, IN_BOTH, GRUWeights
from rnn_common.native import library
from tests.cases import check_against_oracle, make

WITH_GATES = [name for name, cell in CELLS.items() if len(cell.gates) > 1]
each_cell_with_gates = pytest.mark.parametrize("cell", WITH_GATES)


def room(twin, name):
    return importlib.import_module(f"{twin.package}.{name}")


def page(twin, cell):
    return room(twin, "cells.base").PAGES[cell]


def must_fail(twin, cell, engine, shape="ragged"):
    with pytest.raises(AssertionError, match="is beyond"):
        check_against_oracle(twin, make(cell, shape), engine)


# In `reference`


def plant(monkeypatch, twin, cell, change):
    """Have a twin's step run on `change(w)`."""
    step = page(twin, cell).step
    monkeypatch.setattr(page(twin, cell), "step", lambda w, x_t, state, *options: step(change(w), x_t, state, *options))


def test_without_a_fault_the_planting_passes(twin, monkeypatch):
    plant(monkeypatch, twin, "LSTM", lambda w: w)
    check_against_oracle(twin, make("LSTM", "ragged"), "reference")


@each_cell_with_gates
@pytest.mark.parametrize("which", ["input_weight", "recurrent_weight", "bias"])
def test_two_gates_swapped(twin, monkeypatch, cell, which):
    name = getattr(CELLS[cell], which)
    first, second = map(name, CELLS[cell].gates[:2])
    plant(monkeypatch, twin, cell, lambda w: w._replace(**{first: getattr(w, second), second: getattr(w, first)}))
    must_fail(twin, cell, "reference")


def test_each_bias_dropped(twin, monkeypatch, cell):
    for name in CELLS[cell].biases:
        with monkeypatch.context() as patch:
            plant(patch, twin, cell, lambda w, name=name: w._replace(**{name: 0.0 * getattr(w, name)}))
            must_fail(twin, cell, "reference")


@pytest.mark.parametrize("cell", ["GRU", "GRU v3"])
def test_the_update_gates_complement(twin, monkeypatch, cell):
    """z and 1 − z change places: h = z ⊙ ñ + (1 − z) ⊙ h. Since 1 − σ(a) = σ(−a), that is the gate's weights negated."""

    def complement(w):
        return w._replace(W_iz=-w.W_iz, W_hz=-w.W_hz, b_z=-w.b_z)

    plant(monkeypatch, twin, cell, complement)
    must_fail(twin, cell, "reference")


def test_the_grus_forms_exchanged(twin, monkeypatch):
    step = page(twin, "GRU").step
    monkeypatch.setattr(page(twin, "GRU v3"), "step", lambda w, *arguments: step(GRUWeights(*w), *arguments))
    must_fail(twin, "GRU v3", "reference")


def test_a_wrong_derivative_alone(twin, monkeypatch, cell):
    """Right outputs and a wrong gradient: the derivative with respect to the previous state is cut."""
    step = page(twin, cell).step

    def detached(state):
        if twin.name == "torch":
            return tuple(h.detach() for h in state)
        import tensorflow as tf

        return tuple(tf.stop_gradient(h) for h in state)

    wrong = lambda w, x_t, state, *options: step(w, x_t, detached(state), *options)  # noqa: E731
    monkeypatch.setattr(page(twin, cell), "step", wrong)
    must_fail(twin, cell, "reference")


# In `fused`


def changed(twin, cell, packed, change):
    """The packed weights after `change(blocks)`, with `blocks[weight][gate]`."""
    if twin.name == "torch":
        import torch

        split, join = lambda each, count: each.chunk(count), torch.cat
    else:
        import tensorflow as tf

        split, join = lambda each, count: tf.split(each, count, -1), lambda blocks: tf.concat(blocks, -1)
    order = cell.orders["torch" if twin.name == "torch" else "keras"]
    blocks = [dict(zip(order, split(each, len(order)), strict=True)) for each in packed]
    change(blocks)
    return tuple(join([each[gate] for gate in order]) for each in blocks)


def plant_in_kernels(monkeypatch, twin, change):
    """Have a twin's fast forms run on `change(blocks)`, with `blocks[weight][gate]` of the packed weights."""

    if twin.name == "torch":
        fused = room(twin, "engines.fused")
        right = fused.make_kernel
        monkeypatch.setattr(fused, "make_kernel", lambda r, weights: right(r, changed(twin, r.cell, weights, change)))
        return
    kernel = room(twin, "cells.kernel").Kernel
    weights = kernel.weights
    monkeypatch.setattr(kernel, "weights", lambda self, packed: weights(self, changed(twin, self.cell, packed, change)))
    room(twin, "compiled").graphs.cache_clear()


@pytest.fixture(autouse=True)
def fresh_graphs(request):
    """TensorFlow's driver keeps graphs: a test with a planted fault makes its own, and leaves none behind."""
    twin = request.getfixturevalue("twin") if "twin" in request.fixturenames else None
    yield
    if twin and twin.name == "tf":
        room(twin, "compiled").graphs.cache_clear()


def swapped(blocks, *gates):
    first, second = gates
    blocks[first], blocks[second] = blocks[second], blocks[first]


def test_without_a_fault_the_planting_in_kernels_passes(twin, monkeypatch, cell):
    plant_in_kernels(monkeypatch, twin, lambda blocks: None)
    check_against_oracle(twin, make(cell, "ragged"), "fused")


@each_cell_with_gates
@pytest.mark.parametrize("which", [0, 1, 2], ids=["input_weight", "recurrent_weight", "bias"])
def test_two_gates_swapped_in_kernels(twin, monkeypatch, cell, which):
    gates = CELLS[cell].gates[:2]
    plant_in_kernels(monkeypatch, twin, lambda blocks: swapped(blocks[which], *gates))
    must_fail(twin, cell, "fused")


def test_each_bias_dropped_in_kernels(twin, monkeypatch, cell):
    for gate in CELLS[cell].gates:
        with monkeypatch.context() as patch:
            plant_in_kernels(patch, twin, lambda blocks, gate=gate: blocks[2].update({gate: 0 * blocks[2][gate]}))
            must_fail(twin, cell, "fused")


def test_the_grus_forms_exchanged_in_kernels(twin, monkeypatch):
    other = page(twin, "GRU").Kernel
    if twin.name == "tf":
        weights = other.weights
        other = type("Kernel", (other,), {"weights": lambda self, packed: GRUWeights(*weights(self, packed))})
        room(twin, "compiled").graphs.cache_clear()
    monkeypatch.setattr(page(twin, "GRU v3"), "Kernel", other)
    must_fail(twin, "GRU v3", "fused")


@pytest.mark.parametrize(("cell", "activation"), [(cell, f) for cell, row in CELLS.items() for f in row.activations])
def test_a_wrong_derivative_in_kernels(twin, monkeypatch, cell, activation):
    """Right outputs and wrong gradients: an activation's derivative is a thousandth too large."""
    kernel = room(twin, "cells.kernel")
    if twin.name == "torch":
        right = getattr(kernel, f"{activation}_backward")
        wrong = lambda *arguments, **options: right(*arguments, **options).mul_(1.001)  # noqa: E731
        monkeypatch.setattr(kernel, f"{activation}_backward", wrong)
    else:
        import keras

        function = getattr(keras.activations, activation)
        right = kernel.BACKWARD[function]
        monkeypatch.setitem(kernel.BACKWARD, function, lambda d_y, y: right(d_y, y) * 1.001)
        room(twin, "compiled").graphs.cache_clear()
    must_fail(twin, cell, "fused")


# In `native`


def plant_in_native(monkeypatch, twin, change, factor=1.0):
    """Have the kernels run on `change(blocks)`, and its gradients be so many times as large."""
    if why := library.absent():
        pytest.skip(why)
    native = room(twin, "engines.native")
    forward, backwards = native.forward, native if twin.name == "torch" else native._Call
    backward = backwards.backward

    def changed_forward(recurrence, weights, *given, **options):
        return forward(recurrence, changed(twin, recurrence.cell, weights, change), *given, **options)

    def changed_backward(first, weights, *given):
        if twin.name == "torch":
            weights = changed(twin, first.cell, weights, change)
        return [d if d is None else d * factor for d in backward(first, weights, *given)]

    monkeypatch.setattr(native, "forward", changed_forward)
    monkeypatch.setattr(backwards, "backward", changed_backward)


def test_without_a_fault_the_planting_in_native_passes(twin, monkeypatch, cell):
    plant_in_native(monkeypatch, twin, lambda blocks: None)
    check_against_oracle(twin, make(cell, "ragged"), "native")


@each_cell_with_gates
@pytest.mark.parametrize("which", [0, 1, 2], ids=["input_weight", "recurrent_weight", "bias"])
def test_two_gates_swapped_in_native(twin, monkeypatch, cell, which):
    gates = CELLS[cell].gates[:2]
    plant_in_native(monkeypatch, twin, lambda blocks: swapped(blocks[which], *gates))
    must_fail(twin, cell, "native")


def test_each_bias_dropped_in_native(twin, monkeypatch, cell):
    for gate in CELLS[cell].gates:
        with monkeypatch.context() as patch:
            plant_in_native(patch, twin, lambda blocks, gate=gate: blocks[2].update({gate: 0 * blocks[2][gate]}))
            must_fail(twin, cell, "native")


def test_a_wrong_derivative_in_native(twin, monkeypatch, cell):
    """Right outputs and wrong gradients: a thousandth too large."""
    plant_in_native(monkeypatch, twin, lambda blocks: None, 1.001)
    must_fail(twin, cell, "native")


# In `vendor`, which in TensorFlow needs a GPU: there see test_vendor_tf.py


def plant_in_vendor(monkeypatch, change, after=lambda returned: returned):
    """Have PyTorch's layers run on `change(blocks)`, with `blocks[weight][gate]` of the packed weights."""
    pytest.importorskip("torch")
    from rnn_torch.engines import vendor

    torch_twin, right = twins.get("torch"), vendor.run

    def run(recurrence, weights, *given):
        return after(right(recurrence, changed(torch_twin, recurrence.cell, weights, change), *given))

    monkeypatch.setattr(vendor, "run", run)
    return torch_twin


@pytest.mark.parametrize("cell", IN_BOTH)
def test_without_a_fault_the_planting_in_vendor_passes(monkeypatch, cell):
    check_against_oracle(plant_in_vendor(monkeypatch, lambda blocks: None), make(cell, "ragged"), "vendor")


@pytest.mark.parametrize("cell", [name for name in IN_BOTH if name in WITH_GATES])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["input_weight", "recurrent_weight", "bias"])
def test_two_gates_swapped_in_vendor(monkeypatch, cell, which):
    gates = CELLS[cell].gates[:2]
    must_fail(plant_in_vendor(monkeypatch, lambda blocks: swapped(blocks[which], *gates)), cell, "vendor")


@pytest.mark.parametrize("cell", IN_BOTH)
@pytest.mark.parametrize("which", [2, 3])
def test_each_bias_dropped_in_vendor(monkeypatch, cell, which):
    for gate in CELLS[cell].gates:
        with monkeypatch.context() as patch:
            drop = lambda blocks, gate=gate: blocks[which].update({gate: 0 * blocks[which][gate]})  # noqa: E731
            must_fail(plant_in_vendor(patch, drop), cell, "vendor", "plain")


@pytest.mark.parametrize("cell", IN_BOTH)
def test_a_wrong_derivative_in_vendor(monkeypatch, cell):
    """Right outputs and wrong gradients: a thousandth too large."""

    def wrong(returned):
        return [y + 0.001 * (y - y.detach()) for y in returned]

    must_fail(plant_in_vendor(monkeypatch, lambda blocks: None, wrong), cell, "vendor")


# In what any engine is given


@pytest.mark.parametrize("shift", [1, -1])
def test_the_mask_off_by_one(twin, monkeypatch, cell, engine, shift):
    """The engine is told that every sequence ends a step late or a step early."""
    unroll = room(twin, "unroll")
    right = unroll.unroll

    def shifted(engine, recurrence, weights, x, state, lengths=None, *args, **options):
        return right(engine, recurrence, weights, x, state, moved(np.asarray(lengths), shift), *args, **options)

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

    monkeypatch.setattr(unroll, "unroll", shifted)
    must_fail(twin, cell, engine, "ragged-none-full")
