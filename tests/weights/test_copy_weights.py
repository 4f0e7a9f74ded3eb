"""`copy_weights`: the target computes what the source computes, or the copy is refused and the target is as it was."""

import itertools
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
import tensorflow as tf
from torch import nn
from torch.nn.utils import parametrizations, prune

import rnn_tf
import rnn_torch
from rnn_common.cells import CELLS
from rnn_common.copying import copy_weights
from rnn_common.packings import MergedBiasesWarning
from rnn_common.parity.contract import FEW_UNITS, OUTPUT_BOUND, deviation

INPUT, HIDDEN, STEPS = 3, 4, 3
PACKAGES = {"rnn_torch": rnn_torch, "torch.nn": nn, "rnn_tf": rnn_tf, "keras.layers": keras.layers}
# A stack in Keras is a list of layers or a Sequential.
KINDS = ["rnn_torch", "torch.nn", "rnn_tf", "keras.layers", "rnn_tf Sequential"]
# layers, directions
STRUCTURES = {"1 layer": (1, 1), "2 layers": (2, 1), "2 directions": (1, 2), "both": (2, 2)}
DTYPES = ["float64", "float32", "float16", "bfloat16"]


def kinds(cell, among=KINDS):
    return [kind for kind in among if kind != "torch.nn" or cell != "GRU v3"]


def layer_class(kind, cell, suffix=""):
    name = "RNN" if kind == "torch.nn" and cell == "SimpleRNN" else cell
    return getattr(PACKAGES[kind], name + suffix)


def make(kind, cell, structure="1 layer", *, bias=True, dtype="float64", hidden=HIDDEN, **options):
    """A layer or stack, with weights of its own drawing; in Keras, without weights yet."""
    row = CELLS[cell]
    layers, directions = STRUCTURES[structure]
    package, _, network = kind.partition(" ")
    if package != "torch.nn":
        options |= row.options
    if package in ("rnn_torch", "torch.nn"):
        options |= dict(num_layers=layers, bidirectional=directions == 2, batch_first=True)
        return layer_class(kind, row.layer_class)(INPUT, hidden, bias=bias, dtype=getattr(torch, dtype), **options)
    options |= dict(use_bias=bias, return_sequences=True, dtype=dtype)
    stack = [layer_class(package, row.layer_class)(hidden, **options) for _ in range(layers)]
    if directions == 2:
        stack = [keras.layers.Bidirectional(layer, dtype=dtype) for layer in stack]
    if network:
        return keras.Sequential(stack)
    return stack if layers > 1 else stack[0]


def make_cell(kind, cell, *, bias=True):
    row = CELLS[cell]
    options = {} if kind == "torch.nn" else row.options
    if kind in ("rnn_torch", "torch.nn"):
        return layer_class(kind, row.layer_class, "Cell")(INPUT, HIDDEN, bias=bias, dtype=torch.float64, **options)
    return layer_class(kind, row.layer_class, "Cell")(HIDDEN, use_bias=bias, dtype="float64", **options)


def draw(layer, seed=0):
    """Fill every variable with multiples of 1/64 in (−1/2, 1/2), which every dtype holds, as it does the sum of two."""
    rng = np.random.default_rng(seed)
    for variable in variables(layer):
        value = rng.integers(-31, 32, tuple(variable.shape)) / 64
        if isinstance(variable, torch.Tensor):
            variable.data.copy_(torch.from_numpy(value))
        else:
            variable.assign(value)
    return layer


def built(layer):
    width = INPUT
    for each in layer if isinstance(layer, list) else [layer]:
        if not isinstance(each, nn.Module):
            each.build((None, None, width) if isinstance(each, RUNS) else (None, width))
            width = HIDDEN * (1 + isinstance(each, keras.layers.Bidirectional))
    return layer


RUNS = (keras.layers.RNN, keras.layers.Bidirectional, keras.Sequential)


def filled(kind, cell, structure="1 layer", seed=0, **options):
    """A layer or stack to copy from."""
    if options.get("dtype") == "bfloat16" and not kind.startswith(("rnn_torch", "torch")):
        options["recurrent_initializer"] = "zeros"  # Keras has no orthogonal matrix in bfloat16
    return draw(built(make(kind, cell, structure, **options)), seed)


def variables(layer):
    if isinstance(layer, list):
        return [variable for each in layer for variable in variables(each)]
    return list(layer.parameters()) if isinstance(layer, nn.Module) else list(layer.trainable_variables)


def values(layer):
    """A copy of every variable, in float64."""
    found = variables(layer)
    return [
        np.array(v.detach().double().numpy() if isinstance(v, torch.Tensor) else tf.cast(v.value, "float64").numpy())
        for v in found
    ]


X = np.random.default_rng(0).integers(-64, 65, (2, STEPS, INPUT)) / 64


def run(layer, x=X):
    """The outputs at every step, in float64."""
    if isinstance(layer, nn.Module):
        weight = next(layer.parameters())
        with torch.no_grad():
            return layer(torch.tensor(x, dtype=weight.dtype))[0].double().numpy()
    for each in layer if isinstance(layer, list) else [layer]:
        x = each(tf.cast(x, each.dtype if not isinstance(each, keras.Sequential) else each.layers[0].dtype))
    return tf.cast(x, tf.float64).numpy()


def step(cell):
    """The state after one step from zeros, in float64."""
    if isinstance(cell, nn.Module):
        with torch.no_grad():
            after = cell(torch.from_numpy(X[:, 0]))
        return np.stack(after) if isinstance(after, tuple) else after[None].numpy()
    return np.stack([h.numpy() for h in tf.nest.flatten(cell(X[:, 0], cell.get_initial_state(2))[1])])


@pytest.fixture(autouse=True)
def _no_merging():
    """Where two biases become one is shown below; here they do so without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MergedBiasesWarning)
        yield


# The function stays


@pytest.mark.parametrize(("structure", "bias"), [*((structure, True) for structure in STRUCTURES), ("both", False)])
def test_any_layer_or_stack_from_any_other(cell, structure, bias):
    """Each target is filled from every source in turn, the first time before it has weights."""
    targets = [make(kind, cell, structure, bias=bias) for kind in kinds(cell)]
    for i, kind in enumerate(kinds(cell)):
        source = filled(kind, cell, structure, bias=bias, seed=i)
        expected, before = run(source), values(source)
        for target in targets:
            copy_weights(source, target)
            assert deviation(run(target), expected) <= OUTPUT_BOUND
        assert all(map(np.array_equal, values(source), before))


@pytest.mark.parametrize("bias", [True, False])
def test_any_cell_from_any_other(cell, bias):
    for source_kind, target_kind in itertools.product(kinds(cell, PACKAGES), repeat=2):
        source = draw(built(make_cell(source_kind, cell, bias=bias)))
        target = make_cell(target_kind, cell, bias=bias)
        copy_weights(source, target)
        assert deviation(step(target), step(source)) <= OUTPUT_BOUND


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_cell_and_a_layer_of_it(cell, kind):
    if kind not in kinds(cell):
        pytest.skip("torch.nn has no such layer")
    source, cell, target = filled(kind, cell), make_cell(kind, cell), make(kind, cell)
    copy_weights(source, cell)
    copy_weights(cell, target)
    assert deviation(run(target), run(source)) <= OUTPUT_BOUND


@pytest.mark.parametrize("source_dtype", DTYPES)
def test_any_dtype_from_any_other(cell, source_dtype):
    """Of weights that both hold, a float64 layer filled by way of the target computes what one filled straight does."""
    targets = [(make(kind, cell, dtype=dtype), dtype) for kind in kinds(cell, PACKAGES) for dtype in DTYPES]
    for i, kind in enumerate(kinds(cell, PACKAGES)):
        source, straight = filled(kind, cell, dtype=source_dtype, seed=i), make("rnn_torch", cell)
        copy_weights(source, straight)
        expected = run(straight)
        for target, dtype in targets:
            around = make("rnn_torch", cell)
            copy_weights(source, target)
            copy_weights(target, around)
            assert deviation(run(around), expected) <= OUTPUT_BOUND
            unit = float(torch.finfo(getattr(torch, dtype)).eps)
            assert deviation(run(target), expected) <= (
                OUTPUT_BOUND if dtype == "float64" else FEW_UNITS * STEPS * unit
            )


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_narrower_dtype_rounds(kind):
    source = nn.LSTM(INPUT, HIDDEN, dtype=torch.float64)
    nn.init.constant_(source.weight_ih_l0, 1 / 3)
    for dtype in ("float32", "float16", "bfloat16"):
        target = make(kind, "LSTM", dtype=dtype)
        copy_weights(source, target)
        assert np.array_equal(np.unique(values(target)[0]), [float(torch.tensor(1 / 3, dtype=getattr(torch, dtype)))])


@pytest.mark.parametrize("kind", KINDS)
def test_biases_that_the_source_lacks_are_zero(cell, kind):
    if kind not in kinds(cell):
        pytest.skip("torch.nn has no such layer")
    source, target = filled("rnn_tf", cell, "both", bias=False), filled(kind, cell, "both", seed=1)
    copy_weights(source, target)
    assert deviation(run(target), run(source)) <= OUTPUT_BOUND


def reparametrized(how):
    layer = draw(nn.GRU(INPUT, HIDDEN, 2, bidirectional=True, batch_first=True, dtype=torch.float64))
    for name in ("weight_hh_l0", "weight_ih_l1_reverse"):
        how(layer, name)
    return layer


def loaded(how):
    """After `load_state_dict`, what the attribute holds is of the weights before, until the next call."""

    def load(layer, name):
        how(layer, name)
        layer.load_state_dict({key: value * 0.5 for key, value in layer.state_dict().items()})

    return load


REPARAMETRIZED = {
    "pruned": lambda layer, name: prune.l1_unstructured(layer, name, amount=0.5),
    "pruned twice": lambda layer, name: [prune.random_unstructured(layer, name, amount=0.3) for _ in range(2)],
    "weight norm": parametrizations.weight_norm,
    "weight norm of old": nn.utils.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm of old": nn.utils.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("load", [False, True])
@pytest.mark.parametrize("how", REPARAMETRIZED)
def test_the_weights_in_force_are_copied(how, load):
    """As evaluation would compute them, from a source in training too; the source stays as it was."""
    torch.manual_seed(0)
    source = reparametrized(loaded(REPARAMETRIZED[how]) if load else REPARAMETRIZED[how])
    before = {name: value.clone() for name, value in source.state_dict().items()}
    targets = [make(kind, "GRU", "both") for kind in KINDS]
    for target in targets:
        copy_weights(source, target)
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())
    assert source.training
    expected = run(source.eval())
    assert all(deviation(run(target), expected) <= OUTPUT_BOUND for target in targets)


def test_projections():
    for kind, other in itertools.product(("rnn_torch", "torch.nn"), repeat=2):
        source, target = (draw(make(each, "LSTM", "both", proj_size=2), i) for i, each in enumerate((kind, other)))
        copy_weights(source, target)
        assert deviation(run(target), run(source)) <= OUTPUT_BOUND


@pytest.mark.parametrize("kind", ["rnn_tf", "keras.layers"])
def test_what_runs_cells_in_keras(kind):
    """`keras.layers.RNN` around a cell or several, either way, and a stack among layers that have no weights."""
    source = filled("torch.nn", "GRU", "2 layers")
    cells = [layer_class(kind, "GRU", "Cell")(HIDDEN, dtype="float64") for _ in range(2)]
    layers = make(kind, "GRU", "2 layers")
    for target in (
        keras.layers.RNN(keras.layers.StackedRNNCells(cells, dtype="float64"), return_sequences=True, dtype="float64"),
        [keras.layers.RNN(cell, return_sequences=True, dtype="float64") for cell in cells],
        [keras.Input((None, INPUT)), layers[0], keras.layers.Dropout(0.5, dtype="float64"), layers[1]],
        keras.Sequential([keras.layers.Masking(-9.0, dtype="float64"), *make(kind, "GRU", "2 layers")]),
    ):
        copy_weights(source, target)
        assert isinstance(target, list) or target.built
        again = make("rnn_torch", "GRU", "2 layers")
        copy_weights(target, again)
        assert deviation(run(again), run(source)) <= OUTPUT_BOUND
        runs = (
            [each for each in target if not isinstance(each, keras.KerasTensor)] if isinstance(target, list) else target
        )
        assert deviation(run(runs), run(source)) <= OUTPUT_BOUND


def test_lists_in_either_framework():
    source = filled("torch.nn", "LSTM", "2 layers")
    target = [rnn_torch.LSTM(width, HIDDEN, batch_first=True, dtype=torch.float64) for width in (INPUT, HIDDEN)]
    copy_weights(source, [target[0], nn.Dropout(0.5), target[1]])
    between = torch.from_numpy(run(target[0])).numpy()
    assert deviation(run(target[1], between), run(source)) <= OUTPUT_BOUND


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (lambda: filled("keras.layers", "LSTM", go_backwards=True), lambda: make("rnn_tf", "LSTM", go_backwards=True)),
        (
            lambda: filled("torch.nn", "SimpleRNN", nonlinearity="relu"),
            lambda: make("rnn_tf", "SimpleRNN", activation="relu"),
        ),
        (
            lambda: filled("rnn_tf", "GRU", activation=tf.nn.tanh, recurrent_activation=tf.sigmoid),
            lambda: make("torch.nn", "GRU"),
        ),
        (lambda: filled("rnn_tf", "LSTM", activation=own), lambda: make("keras.layers", "LSTM", activation=own)),
        (
            lambda: built(keras.layers.Bidirectional(make("rnn_tf", "GRU"), merge_mode="sum", dtype="float64")),
            lambda: keras.layers.Bidirectional(make("keras.layers", "GRU"), merge_mode="sum", dtype="float64"),
        ),
        # What changes no weight's meaning
        (
            lambda: filled("rnn_torch", "GRU", "both", dropout=0.5, recurrent_dropout=0.5),
            lambda: make("keras.layers", "GRU", "both", dropout=0.5, unroll=True),
        ),
        (
            lambda: filled("keras.layers", "GRU", recurrent_dropout=0.5, implementation=1),
            lambda: make("rnn_torch", "GRU", engine="reference"),
        ),
    ],
)
def test_options_of_both(source, target):
    source, target = source(), target()
    if isinstance(source, nn.Module):
        source.eval()
    copy_weights(source, target)
    assert deviation(run(target), run(source)) <= OUTPUT_BOUND


def own(x):
    return tf.nn.softsign(x)


# The split between two biases


@pytest.mark.parametrize(
    ("cell", "source", "target"),
    [(cell, *pair) for cell in CELLS for pair in itertools.product(["rnn_torch", "torch.nn"], repeat=2)
     if "torch.nn" not in pair or cell != "GRU v3"]
    + [("GRU", *pair) for pair in itertools.product(PACKAGES, repeat=2)],
)  # fmt: skip
def test_where_both_hold_two_biases_both_are_kept(cell, source, target):
    source, target = filled(source, cell, "both"), make(target, cell, "both")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy_weights(source, target)
        again = make("rnn_torch", cell, "both")
        copy_weights(target, again)
        straight = make("rnn_torch", cell, "both")
        copy_weights(source, straight)
    assert all(map(np.array_equal, values(again), values(straight)))
    assert deviation(run(target), run(source)) <= OUTPUT_BOUND


@pytest.mark.parametrize("cell", [name for name, row in CELLS.items() if not row.apart])
@pytest.mark.parametrize("target", ["rnn_tf", "keras.layers"])
def test_a_split_that_is_lost_is_warned_of(cell, target):
    source = filled("rnn_torch", cell, "both")
    with pytest.warns(MergedBiasesWarning, match="were added into one") as warned:
        copy_weights(source, make(target, cell, "both"))
    assert {each.filename for each in warned} == {__file__}
    for name, parameter in source.named_parameters():
        if name.startswith("bias_hh"):
            nn.init.zeros_(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy_weights(source, make(target, cell, "both"))


# What is refused


class Own(nn.LSTM):
    def forward(self, *args):
        return super().forward(*args)


class OwnCell(keras.layers.LSTMCell):
    def call(self, inputs, states, training=False):
        return super().call(inputs, states, training=training)


class OwnLayer(rnn_tf.LSTM):
    def call(self, *args, **kwargs):
        return super().call(*args, **kwargs)


def with_cell(layer, cell):
    layer.cell = cell
    return layer


def shared():
    layer = make("rnn_torch", "GRU", "2 directions")
    layer.weight_hh_l0_reverse = layer.weight_hh_l0
    return layer


def changed(layer, value):
    torch.nn.init.constant_(layer.weight_hh_l0, value)
    return layer


def shared_layer():
    layer = filled("rnn_tf", "GRU")
    return [layer, layer]


def both_ways(kind, cell="GRU", **options):
    return keras.layers.Bidirectional(make(kind, cell), dtype="float64", **options)


REFUSED = {
    "cell": (lambda: nn.LSTM(3, 4), lambda: nn.GRU(3, 4), "target should be of the source's cell, LSTM, got GRU"),
    "form": (
        lambda: filled("rnn_tf", "GRU v3"), lambda: nn.GRU(3, 4),
        r"source's cell, GRU v3, got GRU: .*make it by GRU\(reset_after=False\) of rnn_torch, rnn_tf, keras.layers",
    ),
    "form, Keras": (lambda: nn.GRU(3, 4), lambda: make("keras.layers", "GRU v3"),
        "cell, GRU, got GRU v3: .*GRU\\(\\) of rnn_torch, rnn_tf, torch.nn, keras.layers"),
    "relu": (
        lambda: nn.RNN(3, 4, nonlinearity="relu"), lambda: rnn_torch.SimpleRNN(3, 4),
        "target should have the source's activation, relu, got tanh: .*nonlinearity='tanh' or 'relu'",
    ),
    "relu, into Keras": (lambda: nn.RNN(3, 4, nonlinearity="relu"), lambda: rnn_tf.SimpleRNN(4), "activation, relu, got tanh"),
    "relu cell": (
        lambda: nn.RNNCell(3, 4, nonlinearity="relu"), lambda: rnn_torch.SimpleRNNCell(3, 4), "activation, relu, got tanh",
    ),
    "GRU of relu": (
        lambda: filled("keras.layers", "GRU", activation="relu"), lambda: nn.GRU(3, 4), "activation, relu, got tanh",
    ),
    "hard sigmoid": (
        lambda: filled("keras.layers", "LSTM", recurrent_activation="hard_sigmoid"), lambda: nn.LSTM(3, 4),
        "recurrent_activation, hard_sigmoid 0.1667·a .*, got sigmoid: Keras's layers and .* torch.nn's sigmoid alone",
    ),
    "hard sigmoid, cell": (
        lambda: built(keras.layers.GRUCell(4, recurrent_activation="hard_sigmoid")), lambda: rnn_torch.GRUCell(3, 4),
        "recurrent_activation, hard_sigmoid 0.1667·a .*, got sigmoid",
    ),
    "a function of the user's": (
        lambda: filled("rnn_tf", "LSTM", activation=own), lambda: nn.LSTM(3, 4),
        r"activation, the function test_copy_weights\.own, got tanh",
    ),
    "two functions of the user's": (
        lambda: filled("rnn_tf", "LSTM", activation=own), lambda: make("rnn_tf", "LSTM", activation=lambda x: x),
        r"own, got the function test_copy_weights\.<lambda>",
    ),
    "backwards": (
        lambda: filled("rnn_tf", "GRU", go_backwards=True), lambda: nn.GRU(3, 4),
        "go_backwards, True, got False: Keras's layers take it; elsewhere copy from the layer's cell",
    ),
    "backwards, stack of cells": (
        lambda: built(keras.layers.RNN([keras.layers.GRUCell(4)] * 1, go_backwards=True)), lambda: rnn_tf.GRU(4),
        "go_backwards, True, got False",
    ),
    "Bidirectional the other way round": (
        lambda: built(both_ways("rnn_tf")),
        lambda: keras.layers.Bidirectional(
            make("rnn_tf", "GRU", go_backwards=True), backward_layer=make("rnn_tf", "GRU"), dtype="float64"
        ),
        "target, forward should have the source's go_backwards, False, got True",
    ),
    "merge mode": (
        lambda: built(both_ways("rnn_tf", merge_mode="sum")), lambda: nn.GRU(3, 4, bidirectional=True),
        "merge_mode, sum, got concat: PyTorch concatenates",
    ),
    "merge mode None": (
        lambda: nn.GRU(3, 4, bidirectional=True), lambda: both_ways("rnn_tf", merge_mode=None), "merge_mode, concat, got None",
    ),
    "backward half of another kind": (
        lambda: nn.GRU(3, 4, bidirectional=True),
        lambda: keras.layers.Bidirectional(
            make("rnn_tf", "GRU"), backward_layer=make("rnn_tf", "GRU", activation="relu", go_backwards=True), dtype="float64"
        ),
        "target, backward should have the source's activation, tanh, got relu",
    ),
    "layers": (
        lambda: nn.GRU(3, 4, 2), lambda: rnn_tf.GRU(4), "target should have 2 layers as source has, got 1 layer: num_layers",
    ),
    "directions": (
        lambda: nn.GRU(3, 4, bidirectional=True), lambda: rnn_tf.GRU(4),
        r"target should have \[2\] directions, layer by layer, as source has, got \[1\]: bidirectional",
    ),
    "hidden": (
        lambda: nn.LSTM(3, 33), lambda: nn.LSTM(3, 32), "hidden size, 33, got 32: make the target with it: hidden_size in",
    ),
    "hidden, Keras": (lambda: nn.LSTM(3, 33), lambda: rnn_tf.LSTM(32), "hidden size, 33, got 32"),
    "hidden of the second layer": (
        lambda: nn.GRU(3, 4, 2), lambda: [rnn_tf.GRU(4), rnn_tf.GRU(5)],
        "target, layer 1 should have the source's hidden size, 4, got 5",
    ),
    "input": (lambda: nn.LSTM(3, 4), lambda: nn.LSTM(5, 4), "input size, 3, got 5"),
    "bias": (
        lambda: nn.LSTM(3, 4), lambda: rnn_tf.LSTM(4, use_bias=False),
        "target should have biases as the source has, got none: bias=True in PyTorch",
    ),
    "projection": (lambda: nn.LSTM(3, 4, proj_size=2), lambda: rnn_tf.LSTM(4), "projection, 2, got 0: PyTorch's LSTMs alone"),
    "no projection": (lambda: nn.LSTM(3, 4), lambda: nn.LSTM(3, 4, proj_size=2), "projection, 0, got 2"),
    "pruned target": (
        lambda: nn.GRU(3, 4, 2, bidirectional=True, dtype=torch.float64), lambda: reparametrized(REPARAMETRIZED["pruned"]),
        "weight_hh_l0 of the target should be a parameter, .*prune.remove",
    ),
    "parametrized target": (
        lambda: nn.GRU(3, 4, 2, bidirectional=True, dtype=torch.float64),
        lambda: reparametrized(REPARAMETRIZED["weight norm"]),
        "weight_hh_l0 of the target should be a parameter, .*remove_parametrizations",
    ),
    "too large for float16": (
        lambda: changed(nn.GRU(3, 4), 1e5), lambda: nn.GRU(3, 4, dtype=torch.float16), r"range of torch.float16, got 1e\+05",
    ),
    "too large for float16, Keras": (
        lambda: changed(nn.GRU(3, 4), 1e5), lambda: rnn_tf.GRU(4, dtype="float16"), r"range of float16, got 1e\+05",
    ),
    "not finite": (
        lambda: changed(nn.GRU(3, 4), float("nan")), lambda: rnn_tf.GRU(4),
        "source should have finite weights, got NaN or infinity in W_hr, W_hz, W_hn",
    ),
    "complex": (lambda: nn.RNN(3, 4, dtype=torch.complex64), lambda: nn.RNN(3, 4), "weight_ih_l0 should be of .*complex64"),
    "complex target": (lambda: nn.RNN(3, 4), lambda: nn.RNN(3, 4, dtype=torch.complex64), "weight_ih_l0 should be of"),
    "source without memory": (lambda: nn.GRU(3, 4, device="meta"), lambda: nn.GRU(3, 4), "meta device"),
    "target without memory": (lambda: nn.GRU(3, 4), lambda: nn.GRU(3, 4, device="meta"), "meta device"),
    "source without weights": (lambda: rnn_tf.LSTM(4), lambda: nn.LSTM(3, 4), "should have been built before"),
    "shared weights": (
        lambda: nn.GRU(3, 4, bidirectional=True), shared, "variables of its own for every layer and direction",
    ),
    "a layer twice": (
        lambda: [filled("rnn_tf", "GRU"), filled("rnn_tf", "GRU", seed=1)], shared_layer, "variables of its own",
    ),
    "a forward of its own": (
        lambda: Own(3, 4), lambda: nn.LSTM(3, 4), "source: layer should compute what LSTM does, got Own, whose forward is its",
    ),
    "a call of its own": (
        lambda: nn.LSTM(3, 4), lambda: OwnLayer(4), "target: layer should compute what LSTM does, got OwnLayer, whose call is",
    ),
    "a cell's call of its own": (
        lambda: nn.LSTM(3, 4), lambda: keras.layers.RNN(OwnCell(4)), "what LSTMCell does, got OwnCell, whose call is its own",
    ),
    "another cell": (
        lambda: nn.GRU(3, 4), lambda: with_cell(keras.layers.LSTM(4), keras.layers.GRUCell(4)),
        "target: layer should have a cell of its own kind, got LSTM with GRUCell",
    ),
    "a cell of a kind unknown": (
        lambda: nn.LSTM(3, 4), lambda: keras.layers.ConvLSTM1D(4, 2), r"or cell, got .*\.ConvLSTMCell",
    ),
    "Bidirectional around a stack": (
        lambda: nn.GRU(3, 4, 2, bidirectional=True),
        lambda: keras.layers.Bidirectional(keras.layers.RNN([keras.layers.GRUCell(4) for _ in range(2)])),
        "Bidirectional around one layer, got one around a stack",
    ),
    "a layer with weights among them": (
        lambda: nn.GRU(3, 4), lambda: keras.Sequential([keras.layers.GRU(4), keras.layers.Dense(2)]),
        r"target: layer should be a recurrent layer or cell, got .*\.Dense",
    ),
    "a network": (
        lambda: nn.Sequential(nn.GRU(3, 4)), lambda: nn.GRU(3, 4), r"source: .* or cell, got .*\.Sequential",
    ),
    "nothing": (list, lambda: nn.GRU(3, 4), "source should hold a recurrent layer or cell, got none"),
    "no layer": (dict, lambda: nn.GRU(3, 4), "source: layer should be a PyTorch module or a Keras layer, got builtins.dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    """With what differs and what would work; the target is as it was."""
    make_source, make_target, message = REFUSED[case]
    source, target = make_source(), make_target()
    readable = not any(getattr(v, "is_meta", False) or v.dtype == torch.complex64 for v in variables(target))
    before = values(target) if readable else []
    with pytest.raises((TypeError, ValueError), match=message):
        copy_weights(source, target)
    if readable:
        after = values(target)
        assert all(map(np.array_equal, before, after))


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_late_in_a_stack_leaves_all_of_it(kind):
    """The last weight alone does not fit: nothing of what goes before it is changed."""
    source = filled("torch.nn", "GRU", "both")
    nn.init.constant_(source.bias_hh_l1_reverse, 1e6)
    target = filled(kind, "GRU", "both", dtype="float16", seed=1)
    before = values(target)
    with pytest.raises(ValueError, match="should be in the range of"):
        copy_weights(source, target)
    assert all(map(np.array_equal, values(target), before))


def test_a_layer_backwards_is_copied_by_way_of_its_cell():
    source, target = filled("keras.layers", "GRU", go_backwards=True), make("torch.nn", "GRU")
    copy_weights(source.cell, target)
    assert deviation(run(target, X[:, ::-1].copy()), run(source)) <= OUTPUT_BOUND


def test_copying_onto_itself_changes_nothing():
    for kind in KINDS:
        layer = filled(kind, "LSTM", "both")
        before = values(layer)
        copy_weights(layer, layer)
        after = make("rnn_torch", "LSTM", "both")
        copy_weights(layer, after)
        assert all(map(np.array_equal, values(layer), before))
