"""Gates held at exactly 0 and exactly 1, and first calls from many threads: each cell, engine and twin, in every dtype.

A gate is held by a bias of ±10,000 and zero matrices, so that its σ is exactly 0 or 1 in every dtype. What the equations then
say to the bit is asked for to the bit.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rnn_common import twins
from rnn_common.cells import CELLS
from rnn_common.parity.case import Case, run_oracle
from rnn_common.weights import Parameters, initialise

each_dtype = pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])

# What the equations say of gates held at these values, in all four units or in each.
HELD = [
    ("LSTM", {"f": [1, 1, 0, 0], "i": 0}, "c_n is c_0, or 0"),
    ("LSTM", {"o": 0}, "h is 0"),
    ("GRU", {"z": [1, 1, 0, 0], "r": 0}, "h is h_0, or h_0 does not matter"),
    ("GRU v3", {"z": [1, 1, 0, 0], "r": 0}, "h is h_0, or h_0 does not matter"),
]


def held(cell, gates, hidden=4, width=3):
    """Weights that hold gates at 0 or 1."""
    row = CELLS[cell]
    drawn = initialise(row, width, hidden, seed=2, scale=2)
    weights = dict(drawn)
    for gate, value in gates.items():
        for name in (row.input_weight(gate), row.recurrent_weight(gate)):
            weights[name] = np.zeros_like(weights[name])
        weights[row.bias(gate)] = np.where(np.broadcast_to(value, hidden), 1e4, -1e4)
    return Parameters(row, weights)


def run(twin, parameters, state, dtype, engine, steps=50):
    """Outputs, final states and whether all gradients are finite, of a layer of that dtype on a case of order one."""
    random = np.random.default_rng(5)
    x = random.standard_normal((2, steps, parameters.input_size))
    d_outputs = random.standard_normal((2, steps, parameters.hidden_size))
    case = Case(parameters, x, state, None, d_outputs, tuple(np.ones_like(h) for h in state))
    layer = twin.make(parameters, engine=engine, dtype=dtype)
    if twin.name == "torch":
        import torch

        from rnn_torch.twin import _forward, _tensors

        inputs, states, cotangents = _tensors(layer, case)
        tensors = [t.requires_grad_() for t in (inputs, *states)]
        outputs, final = _forward(layer, inputs, states)
        gradients = torch.autograd.grad([outputs, *final], [*tensors, *layer.parameters()], cotangents)
        return [t.detach().double().numpy() for t in (outputs, *final)], all(d.isfinite().all() for d in gradients)
    import tensorflow as tf

    from rnn_tf.twin import _forward, _tensors

    inputs, states, mask, cotangents = _tensors(layer, case)
    with tf.GradientTape() as tape:
        tape.watch([inputs, *states])
        outputs, final = _forward(layer, inputs, states, mask)
    wanted = [inputs, *states, *(v.value for v in layer.trainable_variables)]
    gradients = tape.gradient([outputs, *final], wanted, cotangents)
    finite = all(np.isfinite(tf.cast(d, tf.float64).numpy()).all() for d in gradients)
    return [tf.cast(t, tf.float64).numpy() for t in (outputs, *final)], finite


@pytest.mark.parametrize(("cell", "gates", "what"), HELD, ids=[f"{cell}-{what}" for cell, _, what in HELD])
@each_dtype
def test_gates_at_0_and_1(twin, cell, gates, what, engine, dtype):
    parameters = held(cell, gates)
    start = 2.0**-20  # which every one of these dtypes holds
    state = tuple(np.full((2, 4), start) for _ in parameters.cell.states)
    (outputs, *final), finite = run(twin, parameters, state, dtype, engine)
    assert finite
    if what == "c_n is c_0, or 0":
        assert (final[1][:, :2] == start).all()
        assert not final[1][:, 2:].any()
        assert not outputs[:, :, 2:].any()
    elif what == "h is 0":
        assert not outputs.any()
    else:
        assert (outputs[:, :, :2] == start).all()
        assert (final[0][:, :2] == start).all()
        (other, *_), _ = run(twin, parameters, tuple(8 * h for h in state), dtype, engine)
        assert (outputs[:, :, 2:] == other[:, :, 2:]).all()


@pytest.mark.parametrize(
    ("cell", "gates"),
    [
        (cell, {gate: value})
        for cell in CELLS
        for gate in CELLS[cell].gates
        if gate in ("i", "f", "o", "r", "z")
        for value in (0, 1)
    ],
)
def test_gradients_of_gates_at_0_and_1(twin, cell, gates, engine):
    """Against the oracle, in float64."""
    parameters = held(cell, gates)
    random = np.random.default_rng(6)
    state = tuple(random.standard_normal((2, 4)) for _ in parameters.cell.states)
    case = Case(
        parameters,
        random.standard_normal((2, 6, 3)),
        state,
        None,
        random.standard_normal((2, 6, 4)),
        tuple(random.standard_normal((2, 4)) for _ in state),
    )
    expected, found = run_oracle(case).result, twin.run(twin.make(parameters, engine=engine), case)
    for name, right in expected.gradients.items():
        # The bound of gradients for pre-activations of order one: the held gate's own derivative is exactly 0.
        assert np.abs(found.gradients[name] - right).max() <= 1e-12 * max(1.0, np.abs(right).max()), name
        if name[-1] in gates and name.startswith(("W_", "b_")):
            assert not found.gradients[name].any(), name


def test_an_infinite_initial_state(cell, engine):
    """PyTorch: as nn and the equations have it, inf where the other terms are finite, not NaN."""
    torch = pytest.importorskip("torch")
    twin = twins.get("torch")
    parameters = initialise(cell, 3, 4, seed=1)
    layers = [twin.make(parameters, engine=engine), twin.make(parameters, engine="reference")]
    if twin.has_builtin(parameters):
        layers.append(twin.make(parameters, builtin=True))
    h = torch.full((1, 2, 4), float("inf"), dtype=torch.float64)
    hx = (torch.zeros_like(h), h) if cell == "LSTM" else h
    with torch.no_grad():
        found = [layer(torch.ones(2, 1, 3, dtype=torch.float64), hx)[0] for layer in layers]
    for other in found[1:]:
        assert torch.equal(found[0].isnan(), other.isnan())
        assert torch.equal(found[0].isinf(), other.isinf())


# Threads from cold

PROGRAM = '''
import importlib, sys, threading
import numpy as np
from rnn_common import twins
from rnn_common.parity.case import make_case
from rnn_common.weights import initialise

twin, engine = twins.get(sys.argv[1]), sys.argv[2]
graphs = importlib.import_module(f"graphs_{twin.name}")
bound = {"torch": dict(rtol=1e-12, atol=1e-13), "tf": dict(rtol=0, atol=0)}[twin.name]

def at_once(call, layers):
    """Four calls in threads, and one alone afterwards."""
    start, found = threading.Barrier(4), []

    def work(layer):
        start.wait()
        try:
            found.append(call(layer))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=work, args=(layer,)) for layer in layers[:4]]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    found.append(call(layers[4]))
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found

parameters = initialise("LSTM", 3, 4)
case = make_case(parameters, np.random.default_rng(0).standard_normal((2, 5, 3)), None)
layers = [twin.make(parameters, engine=engine) for _ in range(5)]
found = at_once(lambda layer: twin.run(layer, case), layers)
for result in found:
    np.testing.assert_array_equal(result.outputs, found[0].outputs)
    for key, gradient in found[0].gradients.items():
        np.testing.assert_allclose(result.gradients[key], gradient, **bound)
second = at_once(lambda layer: graphs.second(layer, graphs.the_last_state, case.x, len(case.state)), layers)
for result in second:
    for a, b in zip(result, second[0], strict=True):
        np.testing.assert_allclose(a, b, **bound)
'''


def test_threads_from_cold(twin, engine):
    """The first steps and second derivatives of a process, in four threads at once, each with a layer of its own.

    Then one more alone.
    """
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, twin.name, engine], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
