"""Live networks that are filled with what is in a file: they compute it, or are what they were."""

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rnn_common import exchange, twins
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.exchange import arrays_write, forward, proof
from rnn_common.exchange.description import (
    HARD_SIGMOID_KERAS_2,
    SIGMOID,
    SOFTMAX,
    TANH,
    Activation,
    Dense,
    Embedding,
    Found,
)
from rnn_common.packings import MergedBiasesWarning
from tests.exchange.described import recurrent

WIDTH, HIDDEN, SYMBOLS = 3, 4, 9
BOUND = 2e-6  # of float32, on small fresh networks
HALVES = {"float16": 2.0**-8, "bfloat16": 2.0**-5}  # four units of those
RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(-2, 2, (2, 6, WIDTH)).astype(np.float32)
HEAD = Dense("head", RANDOM.normal(size=(2, HIDDEN)).astype(np.float32), np.ones(2, np.float32))
TABLE = Embedding("table", RANDOM.normal(size=(SYMBOLS, WIDTH)).astype(np.float32))


@pytest.fixture(autouse=True)
def _no_merging():
    """Where two biases become one is shown in test_copy_weights.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MergedBiasesWarning)
        yield


@pytest.fixture(params=twins.TWINS)
def net(request):
    """A twin, and what makes its live layers."""
    if request.param not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[request.param]}")
    return {"torch": torch_net, "tf": tf_net}[request.param]()


def torch_net():
    import torch

    import rnn_torch

    def make(kind, builtin, hidden=HIDDEN, directions=1, width=WIDTH, cell=False, **options):
        row = CELLS[kind]
        name = {"SimpleRNN": "RNN"}.get(row.layer_class, row.layer_class) if builtin else row.layer_class
        options |= {} if builtin else row.options
        if not cell:
            options |= {"batch_first": True, "bidirectional": directions == 2}
        return getattr(torch.nn if builtin else rnn_torch, name + "Cell" * cell)(width, hidden, **options)

    def values(module):
        return [each.detach().float().numpy().copy() for each in module.parameters()]

    def call(module, x=X):
        with torch.no_grad():
            return module(torch.from_numpy(x).to(next(module.parameters()).dtype))[0].float().numpy()

    def embedding(symbols=SYMBOLS, width=WIDTH):
        return torch.nn.Embedding(symbols, width)

    def dense(outputs=2, width=HIDDEN, bias=True):
        return torch.nn.Linear(width, outputs, bias=bias)

    def network(*layers):
        return torch.nn.ModuleList(layers)

    def dtype(name, module):
        return module.to(getattr(torch, name))

    return SimpleNamespace(name="torch", fill=rnn_torch.fill, **locals())


def tf_net():
    import keras
    import tensorflow as tf

    import rnn_tf

    def make(kind, builtin, hidden=HIDDEN, directions=1, width=WIDTH, cell=False, **options):
        row, made = CELLS[kind], {"use_bias": options.pop("bias", True)} | options
        options = row.options | made
        if cell:
            layer = getattr(keras.layers if builtin else rnn_tf, row.layer_class + "Cell")(hidden, **options)
            layer.build((None, width))
            return layer
        layer = getattr(keras.layers if builtin else rnn_tf, row.layer_class)(hidden, return_sequences=True, **options)
        layer = keras.layers.Bidirectional(layer) if directions == 2 else layer
        layer.build((None, None, width))
        return layer

    def values(layer):
        return [np.asarray(each.value).astype(np.float32) for each in layer.weights]

    def call(layer, x=X):
        return np.asarray(tf.cast(layer(x), tf.float32))

    def embedding(symbols=SYMBOLS, width=WIDTH):
        made = keras.layers.Embedding(symbols, width)
        made.build((None, None))
        return made

    def dense(outputs=2, width=HIDDEN, bias=True):
        made = keras.layers.Dense(outputs, use_bias=bias)
        made.build((None, None, width))
        return made

    def network(*layers):
        return keras.Sequential(layers)

    def dtype(name, layer):
        config = layer.get_config() | {"dtype": name}
        return type(layer).from_config(config)

    return SimpleNamespace(name="tf", fill=rnn_tf.fill, **locals())


def found(*layers):
    return Found(Path("a.onnx"), "a test", layers)


def close(got, layer, bound=BOUND, x=X):
    exact = forward.run_layer(layer, x).outputs
    assert np.abs(got - exact).max() <= bound * np.abs(exact).max()


def unlike(values, before):
    return any((a != b).any() for a, b in zip(values, before, strict=True))


# What is filled


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    ("kind", "builtin"), [*((kind, builtin) for kind in IN_BOTH for builtin in (True, False)), ("GRU v3", False)]
)
def test_a_layer(net, kind, builtin, directions):
    layer = recurrent(kind, directions)
    live = net.make(kind, builtin, directions=directions)
    (proven,) = net.fill(live, found(layer))
    assert proven.holds
    assert proven.by == proof.BY[net.name]
    close(net.call(live), layer)


@pytest.mark.parametrize(("kind", "builtin"), [("LSTM", True), ("GRU", False), ("SimpleRNN", True), ("GRU v3", False)])
def test_a_cell(net, kind, builtin):
    """It is run by hand, in whatever direction."""
    layer = recurrent(kind, backwards=True)
    live = net.make(kind, builtin, cell=True)
    before = net.values(live)
    (proven,) = net.fill(live, found(layer))
    assert proven.holds
    assert unlike(net.values(live), before)


def test_a_bias_that_the_file_lacks_is_zero(net):
    bare = recurrent("LSTM")
    weights = {name: array for name, array in bare.directions[0].weights.items() if name not in bare.cell.biases}
    bare = replace(bare, directions=(replace(bare.directions[0], weights=weights),))
    live, head = net.make("LSTM", True), net.dense()
    net.fill(net.network(live, head), found(bare, replace(HEAD, b=None)))
    close(net.call(live), bare)
    assert not net.values(head)[-1].any()


@pytest.mark.parametrize("dtype", HALVES)
def test_a_coarse_dtype(net, dtype):
    """It is held to what that dtype can tell apart."""
    layer = recurrent("LSTM")
    live = net.dtype(
        dtype, net.make("LSTM", True, **({} if net.name == "torch" else {"recurrent_initializer": "zeros"}))
    )
    (proven,) = net.fill(live, found(layer))
    close(net.call(live), layer, 4 * HALVES[dtype])
    assert proven.deviation > 0
    assert proven.bound <= 8 * HALVES[dtype]


def test_activations_of_ones_own(net):
    layer = recurrent("LSTM", activations=(Activation("softsign"), HARD_SIGMOID_KERAS_2))
    live = net.make("LSTM", False, activation="softsign", recurrent_activation="hard_sigmoid_keras2")
    net.fill(live, found(layer))
    close(net.call(live), layer)


def test_a_network(net):
    """Each kind in its order, whatever stands between; what has no weights of its own is left."""
    first, second = recurrent("GRU", name="a"), recurrent("LSTM", width=HIDDEN, name="b")
    layers = (first, TABLE, second, HEAD)
    lives = net.embedding(), net.make("GRU", True), net.make("LSTM", False, width=HIDDEN), net.dense()
    proofs = net.fill(net.network(*lives), found(*layers))
    assert len(proofs) == 4
    assert all(each.holds for each in proofs)
    close(net.call(lives[1]), first)
    close(net.call(lives[2], X[..., [0, 1, 2, 0]]), second, x=X[..., [0, 1, 2, 0]])
    np.testing.assert_array_equal(net.values(lives[0])[0], TABLE.E)
    assert {each.tobytes() for each in net.values(lives[3])} in (
        {np.ascontiguousarray(HEAD.W).tobytes(), HEAD.b.tobytes()},
        {np.ascontiguousarray(HEAD.W.T).tobytes(), HEAD.b.tobytes()},
    )


def test_from_a_file_by_name(net, tmp_path):
    """Only what is named is filled."""
    layers = recurrent("LSTM", name="a"), recurrent("LSTM", name="b")
    np.savez(tmp_path / "a.npz", **arrays_write.state_dict(layers), **{"fc.weight": HEAD.W, "fc.bias": HEAD.b})
    lives = net.make("LSTM", True), net.make("LSTM", True), net.dense()
    network = net.network(*lives)
    one, two, _ = [each.name for each in twins.page(net.name, "live").inside(network)]
    before = [net.values(each) for each in lives]
    proofs = net.fill(network, tmp_path / "a.npz", {two: "a"})
    assert [each.name for each in proofs] == [two]
    close(net.call(lives[1]), layers[0])
    assert not unlike(net.values(lives[0]), before[0])
    assert not unlike(net.values(lives[2]), before[2])
    net.fill(network, tmp_path / "a.npz", {one: "a", two: "b"})
    close(net.call(lives[0]), layers[0])
    close(net.call(lives[1]), layers[1])


@pytest.mark.parametrize(("cell", "directions"), [("LSTM", 2), ("GRU", 1)])
def test_a_stack_in_one_module(cell, directions):
    """PyTorch's: of one module the file has several layers."""
    torch = pytest.importorskip("torch")
    import rnn_torch

    layers = (
        recurrent(cell, directions, name="net.lstm, layer 1"),
        recurrent(cell, directions, width=HIDDEN * directions, name="net.lstm, layer 2"),
    )
    modules = torch.nn.ModuleDict(
        {
            "ours": getattr(rnn_torch, cell)(WIDTH, HIDDEN, 2, bidirectional=directions == 2, dropout=0.5),
            "theirs": getattr(torch.nn, cell)(WIDTH, HIDDEN, 2, bidirectional=directions == 2, dropout=0.5),
        }
    )
    match = {f"{name}, layer {n}": f"net.lstm, layer {n}" for name in modules for n in (1, 2)}
    proofs = rnn_torch.fill(modules, found(*layers), match)
    assert [each.name for each in proofs] == ["ours", "theirs"]
    expected = forward.run_chain([replace(each, returns_sequences=True) for each in layers], X)
    for each in modules.values():
        assert each.training
        with torch.no_grad():
            got = each.eval()(torch.from_numpy(X).transpose(0, 1))[0].transpose(0, 1).numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=BOUND)
    with pytest.raises(ValueError, match="all layers of one module, got ours, layer 2 without ours, layer 1"):
        rnn_torch.fill(modules, found(*layers), {"ours, layer 2": "net.lstm, layer 2"})


def test_cells_in_one_layer_and_layers_in_layers():
    """Keras's: a layer of several cells; a model within a model; wrappers; what keeps its states."""
    keras = pytest.importorskip("keras")
    import rnn_tf

    layers = recurrent("LSTM", name="a"), recurrent("LSTM", width=HIDDEN, name="b"), recurrent("GRU", width=HIDDEN)
    stack = keras.layers.RNN([keras.layers.LSTMCell(HIDDEN), rnn_tf.LSTMCell(HIDDEN)], return_sequences=True, name="s")
    gru = keras.layers.GRU(HIDDEN, stateful=True, return_state=True, name="g", go_backwards=True)
    inner = keras.Sequential([keras.Input((5, WIDTH), batch_size=2), stack], name="inner")
    x = keras.Input((5, WIDTH), batch_size=2)
    y, state = gru(inner(x))
    head = keras.layers.TimeDistributed(keras.layers.Dense(2, name="d"), name="t")
    model = keras.Model(x, [head(keras.layers.RepeatVector(3)(y)), state])
    gru.states[0].assign(np.ones((2, HIDDEN)))
    names = [each.name for each in twins.page("tf", "live").inside(model)]
    assert names == ["inner/s, layer 1", "inner/s, layer 2", "g", "t/d"]
    backwards = replace(layers[2], backwards=True)
    proofs = rnn_tf.fill(model, found(*layers[:2], backwards, HEAD))
    assert [each.name for each in proofs] == ["inner/s", "g", "t/d"]
    assert (np.asarray(gru.states[0]) == 1).all()
    assert gru.stateful
    given = X[:, :5]
    expected = forward.run_chain([replace(each, returns_sequences=True) for each in layers[:2]], given)
    np.testing.assert_allclose(np.asarray(inner(given)), expected, rtol=0, atol=BOUND)


def test_layers_that_have_no_weights_yet():
    keras = pytest.importorskip("keras")
    import rnn_tf

    layers = recurrent("LSTM", 2, merge="sum", returns_sequences=False), HEAD
    both = keras.layers.Bidirectional(keras.layers.LSTM(HIDDEN), merge_mode="sum")
    model = keras.Sequential([both, keras.layers.Dense(2)])
    rnn_tf.fill(model, found(*layers))
    np.testing.assert_allclose(np.asarray(model(X)), forward.run_chain(layers, X), rtol=0, atol=BOUND)


@pytest.mark.parametrize("flipped", [True, False])
def test_what_load_made_of_another_file(flipped):
    """A module that runs backwards, its outputs in the order of the file."""
    pytest.importorskip("torch")
    import rnn_torch
    from rnn_torch import exchange as page

    options = dict(backwards=True, flipped=flipped, returns_sequences=True)
    old, new = recurrent("LSTM", **options), recurrent("LSTM", activations=(TANH, SIGMOID), **options)
    weights = {name: 2 * array for name, array in new.directions[0].weights.items()}
    new = replace(new, directions=(replace(new.directions[0], weights=weights),))
    model = page.model(found(old))
    (proven,) = rnn_torch.fill(model, found(new))
    assert proven.name == "layers.lstm"
    np.testing.assert_allclose(page.run(model, X), forward.run_layer(new, X).outputs, rtol=0, atol=BOUND)
    with pytest.raises(ValueError, match=r"order of outputs, (last|first) step first, got (first|last) step first"):
        rnn_torch.fill(model, found(replace(new, flipped=not flipped)))


def test_keras_layers_behind_a_dense_one_are_its_activation():
    """In a file they are one; and a file of arrays does not say."""
    keras = pytest.importorskip("keras")
    import rnn_tf

    dense = keras.layers.Dense(2)
    apart = keras.Sequential([keras.Input((None, HIDDEN)), dense, keras.layers.Activation("softmax")])
    rnn_tf.fill(apart, found(replace(HEAD, activation=SOFTMAX)))
    np.testing.assert_array_equal(np.asarray(dense.kernel), HEAD.W.T)
    for activation in ("softmax", "gelu"):
        within = keras.Sequential([keras.Input((None, HIDDEN)), keras.layers.Dense(2, activation=activation)])
        rnn_tf.fill(within, found(replace(HEAD, said=False)))
        np.testing.assert_array_equal(np.asarray(within.layers[0].kernel), HEAD.W.T)


# What is refused

LSTM, BOTH = recurrent("LSTM"), recurrent("LSTM", 2)
NAN = replace(
    LSTM, directions=(replace(LSTM.directions[0], weights=LSTM.directions[0].weights | {"b_i": np.full(4, np.nan)}),)
)
REFUSALS = {
    "cell": (["GRU"], [LSTM], r"\(from lstm\) should be of the source's cell, LSTM, got GRU: .* LSTM\(\) of"),
    "form": (["GRU"], [recurrent("GRU v3")], "cell, GRU v3, got GRU: .*reset_after=False"),
    "input size": (["LSTM"], [recurrent("LSTM", width=5)], "source's input size, 5, got 3"),
    "hidden size": (["LSTM"], [recurrent("LSTM", hidden=5)], "source's hidden size, 5, got 4"),
    "one direction": (["LSTM"], [BOTH], r"should have \[2\] directions, layer by layer, as source has, got \[1\]"),
    "directions": (["LSTM both"], [LSTM], r"should have \[1\] directions, layer by layer, as source has, got \[2\]"),
    "backwards": (["LSTM"], [recurrent("LSTM", backwards=True)], "source's go_backwards, True, got False"),
    "merge mode": (["LSTM both"], [recurrent("LSTM", 2, merge="sum")], "source's merge_mode, sum, got concat"),
    "tanh": (["LSTM"], [recurrent("LSTM", activations=(Activation("relu"), SIGMOID))], "activation, relu, got tanh"),
    "σ": (
        ["LSTM"],
        [recurrent("LSTM", activations=(TANH, HARD_SIGMOID_KERAS_2))],
        r"recurrent_activation, hard_sigmoid 0\.2·a \+ 0\.5, got sigmoid",
    ),
    "backward half": (
        ["LSTM both"],
        [replace(BOTH, directions=(BOTH.directions[0], replace(BOTH.directions[1], activations=(TANH, TANH))))],
        ", backward should have the source's recurrent_activation, tanh, got sigmoid",
    ),
    "no place": (["LSTM bare"], [LSTM], "should have biases as the source has, got none"),
    "not finite": (["LSTM"], [NAN], "lstm should have finite weights, got NaN or infinity in b_i"),
    "symbols": (["E"], [replace(TABLE, E=TABLE.E[1:])], "source's symbols, 8, got 9"),
    "width": (["E"], [replace(TABLE, E=TABLE.E[:, 1:])], "source's width, 2, got 3"),
    "dense inputs": (["D"], [replace(HEAD, W=HEAD.W[:, 1:])], "source's input size, 3, got 4"),
    "dense outputs": (["D"], [replace(HEAD, W=HEAD.W[:1], b=HEAD.b[:1])], "source's output size, 1, got 2"),
    "dense bias": (["D bare"], [HEAD], "should have biases as the source has, got none"),
    "fewer": (
        ["LSTM", "LSTM"],
        [LSTM],
        r"as many recurrent layers as a.onnx, 1 \(lstm\), got 2 \(.*; .*\): say by match",
    ),
    "none in the file": (["LSTM", "D"], [LSTM], r"as many dense layers as a.onnx, 0 \(none\), got 1"),
    "nothing": ([], [], "model should hold at least one recurrent layer, embedding or dense layer, got none"),
    "the second": (["LSTM", "GRU"], [LSTM, recurrent("GRU", hidden=3)], "source's hidden size, 3, got 4"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_would_not_compute_the_same_is_refused_before_anything_is_written(net, case):
    kinds, layers, message = REFUSALS[case]
    makers = {
        "LSTM": lambda: net.make("LSTM", False),
        "GRU": lambda: net.make("GRU", True),
        "LSTM both": lambda: net.make("LSTM", True, directions=2),
        "LSTM bare": lambda: net.make("LSTM", True, bias=False),
        "E": net.embedding,
        "D": net.dense,
        "D bare": lambda: net.dense(bias=False),
    }
    lives = [makers[kind]() for kind in kinds]
    before = [net.values(each) for each in lives]
    with pytest.raises(ValueError, match=message):
        net.fill(net.network(*lives), found(*layers))
    assert not any(unlike(net.values(live), old) for live, old in zip(lives, before, strict=True))


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ({"A": "lstm"}, r"match should name one of the model's layers \(.*\), got A"),
        ({"one": "b"}, r"match should name one of the layers of a.onnx \(lstm; head\), got b"),
        ({"one": "head"}, "a layer of its kind, recurrent, got head, which is dense"),
        ({}, "match should name at least one"),
    ],
)
def test_a_name_that_is_none(net, match, message):
    live = net.network(net.make("LSTM", True))
    (one,) = [each.name for each in twins.page(net.name, "live").inside(live)]
    with pytest.raises(ValueError, match=message):
        net.fill(live, found(LSTM, HEAD), {one if name == "one" else name: given for name, given in match.items()})


def test_a_model_of_neither(net):
    with pytest.raises(TypeError, match=r"should be a (PyTorch module|Keras model or layer), got builtins.int"):
        net.fill(3, found(LSTM))


def torch_odd():
    import torch
    from torch.nn.utils import prune

    class Twice(torch.nn.LSTM):
        def forward(self, x, hx=None):
            return super().forward(2 * x, hx)

    class Half(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) / 2

    lstm = torch.nn.LSTM(WIDTH, HIDDEN, batch_first=True)
    tied = torch.nn.Linear(WIDTH, SYMBOLS, bias=False)
    tied.weight = torch.nn.Parameter(tied.weight.detach())
    embedding = torch.nn.Embedding(SYMBOLS, WIDTH)
    embedding.weight = tied.weight
    other = replace(HEAD, W=np.ones((SYMBOLS, WIDTH), np.float32), b=None)
    return {
        "forward": (Twice(WIDTH, HIDDEN), [LSTM], "should compute what LSTM does, got Twice, whose forward is its own"),
        "dense": (Half(HIDDEN, 2), [HEAD], "Half \\(from head\\): layer should compute what Linear does, got Half"),
        "projection": (torch.nn.LSTM(WIDTH, HIDDEN, proj_size=2), [LSTM], "source's projection, 0, got 2"),
        "pruned": (
            prune.random_unstructured(lstm, "weight_hh_l0", 0.5),
            [LSTM],
            "weight_hh_l0 of the target should be",
        ),
        "norm": (torch.nn.Embedding(SYMBOLS, WIDTH, max_norm=1.0), [TABLE], "as they are, got max_norm=1.0"),
        "tied": (torch.nn.ModuleList([embedding, tied]), [TABLE, other], "got one that is shared"),
        "range": (torch.nn.Linear(HIDDEN, 2).half(), [replace(HEAD, W=HEAD.W * 1e6)], "in the range of torch.float16"),
    }


def tf_odd():
    import keras

    class Half(keras.layers.Dense):
        def call(self, x):
            return super().call(x) / 2

    def built(layer, *shape):
        layer.build(shape)
        return layer

    quantized = built(keras.layers.Dense(2), None, HIDDEN)
    quantized.quantize("int8")
    relu = keras.layers.Dense(2, activation="relu")
    masked = keras.layers.Embedding(SYMBOLS, WIDTH, mask_zero=True)
    last, every = replace(LSTM, backwards=True), keras.layers.LSTM(HIDDEN, return_sequences=True, go_backwards=True)
    half = keras.layers.Dense(2, dtype="float16")
    return {
        "call": (built(Half(2), None, HIDDEN), [HEAD], "layer should compute what Dense does, got Half"),
        "quantized": (quantized, [HEAD], "should have weights that are variables"),
        "activation": (built(relu, None, HIDDEN), [HEAD], "source's activation, linear, got relu"),
        "softmax": (
            built(keras.layers.Dense(2), None, HIDDEN),
            [replace(HEAD, activation=SOFTMAX)],
            "source's activation, softmax, got linear",
        ),
        "masking": (built(masked, None, None), [TABLE], "source's masking, False, got True"),
        "order": (built(every, None, None, WIDTH), [last], "order of outputs, first step first, got last step first"),
        "range": (built(half, None, HIDDEN), [replace(HEAD, W=HEAD.W * 1e6)], "in the range of float16"),
    }


@pytest.mark.parametrize("case", ["forward", "dense", "projection", "pruned", "norm", "tied", "range"])
def test_what_only_pytorch_has_is_refused(case):
    pytest.importorskip("torch")
    import rnn_torch

    module, layers, message = torch_odd()[case]
    before = [each.detach().clone() for each in module.parameters()]
    with pytest.raises(ValueError, match=message):
        rnn_torch.fill(module, found(*layers))
    assert all((a == b).all() for a, b in zip(before, module.parameters(), strict=True))


@pytest.mark.parametrize("case", ["call", "quantized", "activation", "softmax", "masking", "order", "range"])
def test_what_only_keras_has_is_refused(case):
    pytest.importorskip("keras")
    import rnn_tf

    layer, layers, message = tf_odd()[case]
    before = [np.asarray(each.value).copy() for each in layer.weights]
    with pytest.raises(ValueError, match=message):
        rnn_tf.fill(layer, found(*layers))
    assert not unlike([np.asarray(each.value) for each in layer.weights], before)


def test_a_proof_that_fails_leaves_the_old_weights(net, monkeypatch):
    lives = net.make("LSTM", False), net.dense()
    before = [net.values(each) for each in lives]

    def run_chain(layers, x, **options):
        return forward.run_chain(layers, x, **options) * np.float32(1.01)

    monkeypatch.setattr(proof, "run_chain", run_chain)
    message = "should compute what was found in a.onnx, but run by .* off, bound .*; the weights are what they were"
    with pytest.raises(proof.ProofFailed, match=message):
        net.fill(net.network(*lives), found(LSTM, HEAD))
    assert not any(unlike(net.values(live), old) for live, old in zip(lives, before, strict=True))


def test_a_layer_that_runs_otherwise_is_seen(net, monkeypatch):
    """The live layer itself is run: what is wrong with it, and not with the weights, shows."""
    live = net.make("LSTM", True)
    before = net.values(live)
    method = {"torch": "forward", "tf": "inner_loop"}[net.name]
    right = getattr(live, method)

    def wrong(*given, **named):
        given = [1.01 * each if n == 0 else each for n, each in enumerate(given)]
        named = {name: 1.01 * each if name == "sequences" else each for name, each in named.items()}
        return right(*given, **named)

    monkeypatch.setattr(live, method, wrong)
    with pytest.raises(proof.ProofFailed):
        net.fill(live, found(LSTM))
    assert not unlike(net.values(live), before)


def test_what_exchange_reads_is_taken_as_it_is(net, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays_write.state_dict([LSTM]))
    live = net.make("LSTM", True)
    assert net.fill(live, exchange.read(tmp_path / "a.npz")) == net.fill(live, str(tmp_path / "a.npz"))
