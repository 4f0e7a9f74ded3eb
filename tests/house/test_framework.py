"""The twins behind the Protocol: weights carry over, imports stay apart, mistakes are named."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rnn_common import copying, twins
from rnn_common.cells import CELLS
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_common.weights import initialise
from tests.cases import inductors_compiler, make

SOURCE = Path(__file__).parents[2] / "src"


def four(parameters):
    """A layer of each kind of this cell, filled with zeros: ours and the built-in in each framework."""
    blank = initialise(
        parameters.cell,
        parameters.input_size,
        parameters.hidden_size,
        bias=parameters.bias,
        scale=0,
    )
    both = [twins.get(name) for name in twins.installed()]
    return [
        twin.make(blank, builtin=builtin)
        for twin in both
        for builtin in (False, True)
        if not builtin or twin.has_builtin(parameters)
    ]


@pytest.mark.parametrize("bias", [True, False])
def test_any_layer_is_filled_from_any_other(cell, bias):
    row = CELLS[cell]
    parameters = initialise(row, 3, 5, bias=bias, seed=7)
    for i in range(len(four(parameters))):
        for j in range(len(four(parameters))):
            layers = four(parameters)
            twins.of(layers[i]).write(layers[i], parameters)
            copying.copy_weights(layers[i], layers[j])
            found = twins.of(layers[j]).read(layers[j])
            assert all(np.array_equal(found[name], parameters[name]) for name in parameters)


def test_state_dict_and_get_weights_are_the_built_ins_own():
    torch, keras = pytest.importorskip("torch"), pytest.importorskip("keras")
    import rnn_tf
    import rnn_torch

    for name, builtin in (("SimpleRNN", "RNN"), ("LSTM", "LSTM"), ("GRU", "GRU")):
        theirs = getattr(torch.nn, builtin)(3, 5)
        ours = getattr(rnn_torch, name)(3, 5)
        ours.load_state_dict(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict())
        assert list(ours.state_dict()) == list(theirs.state_dict())
        theirs, ours = getattr(keras.layers, name)(5), getattr(rnn_tf, name)(5)
        for layer in (theirs, ours):
            layer.build((None, None, 3))
        ours.set_weights(theirs.get_weights())
        theirs.set_weights(ours.get_weights())
        assert [v.path.split("/")[1:] for v in ours.weights] == [v.path.split("/")[1:] for v in theirs.weights]


@pytest.mark.parametrize(
    "package", ["rnn_common", "rnn_common.parity.compare", "rnn_common.twins", "rnn_common.data", "rnn_torch", "rnn_tf"]
)
def test_imports_stay_apart(package):
    """`common` imports no framework, and no twin the other's."""
    mine = {"rnn_torch": "torch", "rnn_tf": "tensorflow"}.get(package)
    if mine:
        pytest.importorskip(mine)
    program = f"import {package}, sys; print([m for m in ('torch', 'tensorflow', 'keras') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    expected = {"rnn_torch": ["torch"], "rnn_tf": ["tensorflow", "keras"]}.get(package, [])
    assert ran.stdout.strip() == str(expected)


@pytest.mark.parametrize(("package", "absent"), [("rnn_torch", "tensorflow keras"), ("rnn_tf", "torch")])
def test_a_twin_works_where_the_other_framework_is_absent(package, absent):
    pytest.importorskip({"rnn_torch": "torch", "rnn_tf": "tensorflow"}[package])
    name = "torch" if package == "rnn_torch" else "tf"
    program = f"""
import sys

class Absent:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] in {absent.split()!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent)
from rnn_common import twins
from rnn_common import copying
from rnn_common.parity.case import make_case
from rnn_common.weights import initialise
import numpy as np
twin = twins.get({name!r})
case = make_case(initialise("LSTM", 3, 4), np.ones((2, 5, 3)))
print(twin.run(twin.make(case.parameters), case).outputs.shape)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.strip() == "(2, 5, 4)", ran.stderr


def test_unknown_names(twin):
    parameters = initialise("LSTM", 3, 5)
    with pytest.raises(ValueError, match="framework should be one of torch, tf, got 'jax'"):
        twins.get("jax")
    with pytest.raises(ValueError, match=r"device should be one of cpu.*, got 'tpu'"):
        twin.make(parameters, device="tpu")
    with pytest.raises(ValueError, match=r"engine should be one of auto, reference.*, got 'warp'"):
        twin.make(parameters, engine="warp")
    with pytest.raises(
        TypeError, match=r"source: layer should be a PyTorch module or a Keras layer, got builtins\.dict"
    ):
        copying.copy_weights({}, {})


def test_weights_that_do_not_fit(twin):
    layer = twin.make(initialise("GRU", 3, 5))
    with pytest.raises(ValueError, match="parameters should be of GRU, got LSTM"):
        twin.write(layer, initialise("LSTM", 3, 5))
    with pytest.raises(ValueError, match="parameters should be of GRU, got GRU v3"):
        twin.write(layer, initialise("GRU v3", 3, 5))
    with pytest.raises(ValueError, match="parameters should fill"):
        twin.write(layer, initialise("GRU", 3, 6))
    with pytest.raises(ValueError, match="parameters should fill"):
        twin.write(layer, initialise("GRU", 3, 5, bias=False))


def test_layers_that_one_set_of_weights_does_not_fill():
    torch = pytest.importorskip("torch")
    twin = twins.get("torch")
    for options, message in (
        (dict(num_layers=2), "one layer and one direction"),
        (dict(bidirectional=True), "one layer and one direction"),
        (dict(proj_size=2), "no projection"),
    ):
        with pytest.raises(ValueError, match=message):
            twin.read(torch.nn.LSTM(3, 5, **options))
    with pytest.raises(TypeError, match=r"should be a recurrent layer or cell, got torch\..*\.Linear"):
        twin.read(torch.nn.Linear(3, 5))


def test_keras_layers_without_weights():
    keras = pytest.importorskip("keras")
    twin = twins.get("tf")
    with pytest.raises(ValueError, match="should have been built"):
        twin.read(keras.layers.LSTM(5))
    with pytest.raises(TypeError, match=r"should be a recurrent layer or cell, got keras\..*\.Dense"):
        twin.read(keras.layers.Dense(5))


@pytest.mark.parametrize("builtin", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_timed_is_what_is_compared(twin, builtin, compiled):
    """Inference and training step, called twice, give the outputs and the gradients of `run`."""
    if compiled and twin.name == "torch" and not inductors_compiler():
        pytest.skip("the compiler that torch.compile calls is not installed")
    case = make("LSTM", "ragged")
    layer = twin.make(case.parameters, builtin=builtin)
    expected = twin.run(layer, case)
    infer, step = (make(layer, case, compiled=compiled) for make in (twin.inference, twin.training_step))
    for _ in range(2):
        found = infer(), step()
    assert deviation(twin.outputs(found[0]), expected.outputs) <= OUTPUT_BOUND
    gradients = twin.gradients(layer, found[1])
    assert set(gradients) == set(expected.gradients) - {"x", "h_0", "c_0"}
    assert all(deviation(gradients[name], expected.gradients[name]) <= GRADIENT_BOUND for name in gradients)


def test_layers_of_another_dtype_than_the_weights(twin):
    case = make("GRU", "plain", dtype="float32")
    found = twin.outputs(twin.inference(twin.make(case.parameters, dtype="bfloat16"), case)())
    expected = twin.outputs(twin.inference(twin.make(case.parameters), case)())
    assert found.dtype == expected.dtype == np.float32
    assert 0 < deviation(found, expected) < 2.0**-4  # seven steps of a handful of roundings to 8 bits


def test_the_clock_counts_all_calls(twin, monkeypatch):
    calls, clock = [], iter([10.0, 16.0])
    monkeypatch.setattr(sys.modules[f"{twin.package}.clock"], "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert twin.seconds(lambda: calls.append(1), calls=3) == 2.0
    assert len(calls) == 3


def test_the_matrix_product(twin):
    product = np.asarray(twin.matrix_product(5)())
    assert product.shape == (5, 5)
    assert 0 < product.min() < product.max() < 5
    assert twin.device_name("cpu") == "cpu"


@pytest.mark.gpu
def test_memory_on_a_gpu(twin):
    if "cuda" not in twin.devices():
        pytest.skip(f"{twin.package} sees no GPU")
    product = twin.matrix_product(1024, "cuda")
    product()
    assert twin.peak_memory(product) == pytest.approx(4 * 1024**2, rel=0.2)
    assert 0 < twin.seconds(product, 3, "cuda") < 1
    assert twin.device_name("cuda") != "cpu"


def test_threads_of_torch():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    twins.get("torch").set_threads(2)
    assert torch.get_num_threads() == 2
    twins.get("torch").set_threads(before)


def test_threads_of_tensorflow():
    """They are set before the first operation, or not at all."""
    pytest.importorskip("tensorflow")
    program = """
from rnn_common import twins
from rnn_common import copying
twin = twins.get("tf")
twin.set_threads(3)
import tensorflow as tf
twin.matrix_product(2)()
print(tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads())
twin.set_threads(3)
try:
    twin.set_threads(2)
except RuntimeError as error:
    print("too late")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.split() == ["3", "3", "too", "late"], ran.stderr


def test_versions(twin):
    assert all(version[0].isdigit() for version in twin.versions().values())
    assert twin.devices()[0] == "cpu"
    assert twin.engines()[:2] == ("reference", "fused")
