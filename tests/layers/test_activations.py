"""What stands for tanh and for σ in LSTMs and GRUs: by name against Keras's own layers, functions of one's own against `nn`'s,
what PyTorch's tools make of them, and where each is refused."""

import copy
import io
import pickle
import warnings
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
import tensorflow as tf
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_tf
import rnn_torch
from rnn_common.cells import CELLS
from rnn_common.copying import copy_weights
from rnn_common.exchange.description import HARD_SIGMOID, LINEAR, NAMED, TANH, Activation
from rnn_common.packings import MergedBiasesWarning
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_torch.activations import ACTIVATIONS, function_of

INPUT, HIDDEN = 3, 4
GATED = [name for name, row in CELLS.items() if row.activations == ("tanh", "sigmoid")]
OTHERS = [
    *({"activation": name} for name in NAMED if name != "tanh"),
    *({"recurrent_activation": name} for name in NAMED if name != "sigmoid"),
]

# TensorFlow has the slope in float32, whatever the layer computes in.
ROUNDED = {"leaky_relu": 1e-6}
# Every name for tanh, beside one for σ that keeps the state within bounds; and those that do not for σ.
BOUNDED = ["tanh", "sigmoid", "hard_sigmoid", "hard_sigmoid_keras2", "softsign"]
BOTH = [
    *({"activation": name, "recurrent_activation": other} for name, other in zip(NAMED, 2 * BOUNDED, strict=True)),
    *({"activation": "tanh", "recurrent_activation": name} for name in NAMED if name not in BOUNDED),
]

each_cell = pytest.mark.parametrize("cell", GATED)
each_name = pytest.mark.parametrize("name", NAMED)
each_other = pytest.mark.parametrize("options", OTHERS, ids=lambda options: "-".join(*options.items()))


def own_tanh(x):
    return torch.tanh(x)


def own_sigmoid(x):
    return torch.sigmoid(x)


OWN = {"activation": own_tanh, "recurrent_activation": own_sigmoid}


def draw(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer_of(cell, suffix="", **options):
    options = {"dtype": torch.float64, **CELLS[cell].options, **options}
    torch.manual_seed(0)
    return getattr(rnn_torch, CELLS[cell].layer_class + suffix)(INPUT, HIDDEN, **options)


def keras_options(options):
    """By name, but in Keras's own layers, which have no such name."""
    return {key: rnn_tf.hard_sigmoid_keras2 if name == "hard_sigmoid_keras2" else name for key, name in options.items()}


def keras_stack(module, cell, layers=2, **options):
    """Layers of both directions, filled with numbers that reach the flat ends of every activation."""
    options = {"return_sequences": True, "dtype": "float64", **CELLS[cell].options, **options}
    made = [
        keras.layers.Bidirectional(getattr(module, CELLS[cell].layer_class)(HIDDEN, **options), dtype="float64")
        for _ in range(layers)
    ]
    rng = np.random.default_rng(0)
    for layer, width in zip(made, (INPUT, *[2 * HIDDEN] * (layers - 1)), strict=True):
        layer.build((None, None, width))
        layer.set_weights([rng.normal(scale=0.5, size=array.shape) for array in layer.get_weights()])
    return made


def flat(nested):
    return [nested] if isinstance(nested, torch.Tensor) else [t for part in nested for t in flat(part)]


def assert_close(found, expected, bound):
    for a, b in zip(flat(found), flat(expected), strict=True):
        assert a.dtype == b.dtype
        assert deviation(a.numpy(force=True), b.numpy(force=True)) <= bound


def gradients(layer, *inputs, **options):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    outputs = flat(layer(*leaves))
    cotangents = [draw(*y.shape, seed=10 + i) for i, y in enumerate(outputs)]
    return outputs, torch.autograd.grad(outputs, [*leaves, *layer.parameters()], cotangents, **options)


# What they compute


@each_name
def test_a_name_is_one_function(name):
    """In both twins, and in what files are described by; between the ends and far beyond them."""
    x = np.concatenate([np.linspace(-6, 6, 1001), [-800.0, -50.0, -21.0, 0.0, 21.0, 50.0, 800.0]])
    expected = NAMED[name](x)
    # PyTorch's and Keras's exponential functions differ in the last places.
    assert np.abs(ACTIVATIONS[name](torch.from_numpy(x)).numpy() - expected).max() <= 1e-14 * max(1, expected.max())
    found = rnn_tf.LSTM(4, activation=name).activation(tf.constant(x))
    assert np.abs(found.numpy() - expected).max() <= max(1e-14, ROUNDED.get(name, 0)) * max(1, expected.max())


@pytest.mark.parametrize(
    "given", [Activation("hard_sigmoid", 0.25, 0.5), Activation("leaky_relu", 0.01), Activation("elu", 0.5)], ids=str
)
def test_an_activation_by_what_it_computes(given):
    x = np.linspace(-6, 6, 1001)
    assert np.abs(function_of(given)(torch.from_numpy(x)).numpy() - given(x)).max() <= 1e-15
    layer = layer_of("LSTM", activation=given)
    assert layer.activation is given
    same = layer_of("LSTM", activation=lambda x: torch.where(x < 0, function_of(given)(x), function_of(given)(x)))
    assert torch.equal(layer(draw(5, 2, 3))[0], same(draw(5, 2, 3))[0])
    assert torch.equal(pickle.loads(pickle.dumps(layer))(draw(5, 2, 3))[0], layer(draw(5, 2, 3))[0])


@each_cell
@pytest.mark.parametrize("options", BOTH, ids=lambda options: "-".join(options.values()))
def test_against_keras(cell, options):
    """Two layers, both directions: outputs and gradients of Keras's own layers with the same weights, and of the twin's."""
    rounded = max(ROUNDED.get(name, 0) for name in options.values())
    bound, gradient_bound = (max(rounded, each) for each in (OUTPUT_BOUND, GRADIENT_BOUND))
    x, cotangent = 2 * draw(2, 4, INPUT), draw(2, 4, 2 * HIDDEN, seed=2)
    theirs = keras_stack(keras.layers, cell, **keras_options(options))
    ours = layer_of(cell, num_layers=2, bidirectional=True, batch_first=True, **options)
    copy_weights(theirs, ours)
    twins = keras_stack(rnn_tf, cell, **options)
    leaf = x.clone().requires_grad_()
    output, _ = ours(leaf)
    found = torch.autograd.grad(output, [leaf, ours.weight_ih_l0, ours.weight_hh_l0_reverse], cotangent)
    for stack in (theirs, twins):
        variables = [stack[0].forward_layer.cell.kernel, stack[0].backward_layer.cell.recurrent_kernel]
        inputs = tf.constant(x.numpy())
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            expected = stack[1](stack[0](inputs))
        d_x, *d_weights = tape.gradient(
            expected, [inputs, *[v.value for v in variables]], tf.constant(cotangent.numpy())
        )
        assert deviation(output.detach().numpy(), expected.numpy()) <= bound
        assert deviation(found[0].numpy(), d_x.numpy()) <= gradient_bound
        for a, b in zip(found[1:], d_weights, strict=True):
            blocks = np.split(b.numpy().T, len(CELLS[cell].gates))
            order = [CELLS[cell].orders["keras"].index(gate) for gate in CELLS[cell].orders["torch"]]
            assert deviation(a.numpy(), np.concatenate([blocks[i] for i in order])) <= gradient_bound


@each_cell
@each_other
def test_second_derivatives(cell, options):
    """By finite differences of the first."""
    layer = layer_of(cell, **options)
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *parameters):
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))[0]

    inputs = [t.detach().clone().requires_grad_() for t in (draw(2, 1, INPUT), *layer.parameters())]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@each_cell
def test_cells_step_as_layers(cell):
    options = {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}
    layer, single = layer_of(cell, **options), layer_of(cell, "Cell", **options)
    single.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
    x, state = draw(5, 2, INPUT), None
    for x_t, expected in zip(x, layer(x)[0], strict=True):
        state = single(x_t, state)
        assert_close(flat([state])[0], expected, OUTPUT_BOUND)


# Functions of one's own


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2, "bidirectional": True, "dropout": 0.4},
        {"bias": False, "batch_first": True},
        {"proj_size": 2, "num_layers": 2},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_functions_of_ones_own_that_are_tanh_and_sigmoid(cell, options, packed):
    """By the equations, all that `nn`'s layers do: outputs, states, first and second derivatives, and the same dropout."""
    if cell == "GRU" and "proj_size" in options:
        pytest.skip("a GRU has no projection")
    ours = layer_of(cell, **options, **OWN)
    theirs = getattr(nn, cell)(INPUT, HIDDEN, dtype=torch.float64, **options)
    theirs.load_state_dict(ours.state_dict())

    def differentiate(layer):
        leaf = draw(5, 2, INPUT) if not options.get("batch_first") else draw(2, 5, INPUT)
        leaf.requires_grad_()
        torch.manual_seed(2)
        x = pack_padded_sequence(leaf, [3, 5], layer.batch_first, enforce_sorted=False) if packed else leaf
        output, hidden = layer(x)
        output = output.data if packed else output
        results = flat([output, hidden])
        inputs = [leaf, *layer.parameters()]
        first = torch.autograd.grad(results, inputs, [draw(*y.shape, seed=3) for y in results], create_graph=True)
        second = torch.autograd.grad(first, inputs, [draw(*y.shape, seed=4) for y in first], allow_unused=True)
        return results, list(first), [d for d in second if d is not None]

    (outputs, first, second), expected = differentiate(ours), differentiate(theirs)
    assert_close(outputs, expected[0], OUTPUT_BOUND)
    assert_close([first, second], expected[1:], GRADIENT_BOUND)


class Unhashable:
    """An activation as an object that defines equality and so has no hash."""

    def __eq__(self, other):
        raise AssertionError("nobody asks")

    __hash__ = None

    def __call__(self, x):
        return torch.tanh(x)


@each_cell
def test_an_object_without_a_hash(cell, engine):
    layer = layer_of(cell, activation=Unhashable(), engine=engine)
    x = draw(5, 2, INPUT)
    assert layer.explain(x).engine == "reference"
    assert_close(layer(x), layer_of(cell)(x), OUTPUT_BOUND)
    assert "activation=Unhashable" in repr(layer)


def test_a_module_with_weights_of_its_own_learns():
    layer = layer_of("GRU", activation=nn.PReLU(dtype=torch.float64))
    assert list(layer.state_dict())[-1] == "activation.weight"
    layer(draw(5, 2, INPUT))[0].sum().backward()
    assert layer.activation.weight.grad.abs().item() > 0
    plain = layer_of("GRU", activation=Activation("leaky_relu", 0.25))  # with which an nn.PReLU starts
    assert_close(layer(draw(5, 2, INPUT)), plain(draw(5, 2, INPUT)), OUTPUT_BOUND)


# Which engine runs them


@each_cell
@each_other
def test_no_fast_engine_takes_them(cell, options, engine):
    x, layer = draw(5, 2, INPUT), layer_of(cell, engine=engine, **options)
    choice = layer.explain(x)
    assert choice.engine == "reference"
    assert engine == "reference" or "activations" in choice.refused[engine]
    auto, reference = layer_of(cell, **options), layer_of(cell, engine="reference", **options)
    assert auto.explain(x).engine == "reference"
    assert all("activations" in why for why in auto.explain(x).refused.values())
    for each in (layer, auto):
        for found, expected in zip(gradients(each, x), gradients(reference, x), strict=True):
            assert all(map(torch.equal, found, expected))


@each_cell
@pytest.mark.parametrize("engine", ["auto", *rnn_torch.ENGINES])
@pytest.mark.parametrize(
    "options",
    [
        {"activation": "tanh", "recurrent_activation": "sigmoid"},
        {"activation": torch.tanh, "recurrent_activation": torch.sigmoid},
        {"activation": functional.tanh, "recurrent_activation": functional.sigmoid},
        {"activation": TANH, "recurrent_activation": Activation("sigmoid")},
    ],
    ids=["names", "functions", "functional", "described"],
)
def test_the_default_by_whatever_name_is_the_default(cell, options, engine):
    given, default = layer_of(cell, engine=engine, **options), layer_of(cell, engine=engine)
    x = draw(5, 2, INPUT)
    assert given.explain(x) == default.explain(x)
    assert repr(given) == repr(default)
    assert list(given.state_dict()) == list(default.state_dict())
    assert torch.equal(given(x)[0], default(x)[0])
    if cell != "GRU v3":
        torch.jit.trace(given, x)
        torch.jit.script(nn.Sequential(given))


# What is kept, and what is refused


def test_what_is_kept():
    layer = rnn_torch.LSTM(3, 4, activation=functional.relu, recurrent_activation=rnn_torch.hard_sigmoid_keras2)
    assert (layer.activation, layer.recurrent_activation) == ("relu", "hard_sigmoid_keras2")
    layer = rnn_torch.GRUCell(3, 4, activation=LINEAR, recurrent_activation=HARD_SIGMOID)
    assert (layer.activation, layer.recurrent_activation) == ("linear", "hard_sigmoid")
    assert rnn_torch.GRU(3, 4, activation=own_tanh).activation is own_tanh


NO_ACTIVATIONS = ["sin", "Tanh", None, 3, nn.Tanh, ["tanh"], Activation("softmax"), Activation("tanh", 2.0)]


@pytest.mark.parametrize("given", NO_ACTIVATIONS, ids=str)
@pytest.mark.parametrize("argument", ["activation", "recurrent_activation"])
@pytest.mark.parametrize("made", ["LSTM", "GRU", "LSTMCell", "GRUCell"])
def test_what_is_no_activation(made, argument, given):
    message = rf"^{argument} should be one of {', '.join(NAMED)}, or a function of a tensor, got "
    with pytest.raises(ValueError, match=message):
        getattr(rnn_torch, made)(3, 4, **{argument: given})


@pytest.mark.parametrize("made", ["SimpleRNN", "SimpleRNNCell"])
def test_a_simple_rnn_has_its_nonlinearity(made):
    with pytest.raises(TypeError, match="unexpected keyword argument 'activation'"):
        getattr(rnn_torch, made)(3, 4, activation="relu")


@each_cell
@pytest.mark.parametrize("suffix", ["", "Cell"], ids=["layer", "cell"])
def test_representation_and_copies(cell, suffix):
    made = layer_of(cell, suffix, activation="relu", recurrent_activation=own_sigmoid)
    assert ", activation=relu, recurrent_activation=own_sigmoid" in repr(made)
    assert "activation" not in repr(layer_of(cell, suffix))
    assert list(made.state_dict()) == list(layer_of(cell, suffix).state_dict())
    x = draw(5, 2, INPUT)[: 5 if not suffix else 1].squeeze(0)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert (other.activation, other.recurrent_activation) == ("relu", own_sigmoid)
        assert torch.equal(flat(other(x))[0], flat(made(x))[0])


WRITERS = {
    "trace": torch.jit.trace,
    "script": lambda layer, x: torch.jit.script(nn.Sequential(layer)),
    "onnx": lambda layer, x: torch.onnx.export(layer, (x,), io.BytesIO(), dynamo=False),
}


@each_cell
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"activation": "relu"}, "activation=relu"),
        ({"recurrent_activation": own_sigmoid}, "recurrent_activation=own_sigmoid"),
        ({"recurrent_activation": Activation("hard_sigmoid", 0.25, 0.5)}, "recurrent_activation=hard_sigmoid 0.25·a"),
    ],
)
def test_what_nn_would_compute_otherwise_is_refused_in_words(cell, options, named, write):
    layer = layer_of(cell, **options).eval()
    message = "reset_after=False" if cell == "GRU v3" else named
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match=f"which has no {message}"):
            WRITERS[write](layer, draw(5, 2, INPUT))


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_cell_is_traced_as_it_is_and_not_scripted(cell):
    made, x = layer_of(cell, "Cell", activation="softsign"), draw(2, INPUT)
    assert_close(torch.jit.trace(made, x)(draw(3, INPUT)), made(draw(3, INPUT)), OUTPUT_BOUND)
    with pytest.raises(RuntimeError, match="which has no activation=softsign"):
        torch.jit.script(nn.Sequential(made))


# PyTorch's tools

SOME = {
    "by name": {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    "described": {"activation": "elu", "recurrent_activation": Activation("hard_sigmoid", 0.25, 0.5)},
    "one's own": {"activation": lambda x: x * torch.sigmoid(x)},
}
some = pytest.mark.parametrize("options", SOME.values(), ids=SOME)


@pytest.mark.parametrize(
    ("cell", "options"),
    [*(("LSTM", options) for options in SOME.values()), ("GRU v3", SOME["by name"])],
    ids=[*SOME, "GRU v3"],
)
def test_compiled(cell, options):
    """Without a break in the graph, at two lengths."""
    torch.compiler.reset()
    layer = layer_of(cell, **options)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for x in (draw(3, 2, INPUT), draw(4, 2, INPUT)):
        found, expected = gradients_of(compiled, layer, x), gradients_of(layer, layer, x)
        assert_close(found, expected, GRADIENT_BOUND)


def gradients_of(call, layer, x):
    outputs = flat(call(x))
    return [outputs, *torch.autograd.grad(outputs[0].sum(), list(layer.parameters()))]


@some
def test_exported(options):
    """As plain operations, which run where this package is not installed."""
    layer, x = layer_of("LSTM", **options), draw(3, 2, INPUT)
    program = torch.export.export(layer, (x,))
    assert not [node for node in program.graph.nodes if "rnn_torch" in str(node.target)]
    assert_close(program.module()(x), layer(x), OUTPUT_BOUND)


@each_cell
@some
def test_gradients_of_each_sample_and_forward_mode(cell, options):
    layer, x = layer_of(cell, **options), draw(3, 5, INPUT)
    parameters = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(parameters, x):
        return functional_call(layer, parameters, (x,))[0].pow(2).sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for i, sequence in enumerate(x):
        expected = grad(loss)(parameters, sequence)
        assert_close([found[name][i] for name in parameters], list(expected.values()), GRADIENT_BOUND)
    direction = draw(3, 5, INPUT, seed=9)
    _, tangent = jvp(partial(loss, parameters), (x,), (direction,))
    leaf = x.clone().requires_grad_()
    (d_x,) = torch.autograd.grad(loss(parameters, leaf), leaf)
    assert tangent.item() == pytest.approx((d_x * direction).sum().item(), rel=1e-12)


@each_cell
@some
def test_autocast(cell, options):
    layer, x = layer_of(cell, dtype=torch.float32, **options), draw(5, 2, INPUT, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    assert {t.dtype for t in flat(low)} == {torch.bfloat16}
    for a, b in zip(flat(low), flat(layer(x)), strict=True):
        assert (a.float() - b).abs().max() <= 5 * 5 * 2**-8  # 5 steps, each of a handful of numbers of order one
    sum(t.float().sum() for t in flat(low)).backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}


@each_cell
@some
def test_packed_sequences_states_and_dropout(cell, options):
    """Each sequence of a packed batch as alone, all its states too; dropout of the hidden state is drawn as by default."""
    layer = layer_of(cell, return_all_states=True, bidirectional=True, **options)
    x, lengths = draw(5, 2, INPUT), [3, 5]
    output, hidden, states = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
    output, _ = pad_packed_sequence(output)
    for b, length in enumerate(lengths):
        alone, last, every = layer(x[:length, b])
        assert_close(output[:length, b], alone, OUTPUT_BOUND)
        assert_close([h[:, b] for h in flat(hidden)], flat(last), OUTPUT_BOUND)
        assert_close([h[:, :length, b] for h in flat([states])], flat([every]), OUTPUT_BOUND)
    dropped = [layer_of(cell, recurrent_dropout=0.5, engine=engine, **options) for engine in ("auto", "reference")]
    results = []
    for each in dropped:
        torch.manual_seed(3)
        results.append(each(x)[0])
    assert torch.equal(*results)
    assert not torch.equal(results[0], dropped[0].eval()(x)[0])


# copy_weights


@each_cell
@each_other
def test_weights_go_both_ways(cell, options):
    """From Keras's layer into PyTorch's and back into the twin's; the default takes them from none of the three."""
    source = keras_stack(keras.layers, cell, layers=1, **keras_options(options))
    ours = layer_of(cell, bidirectional=True, batch_first=True, **options)
    copy_weights(source, ours)
    with warnings.catch_warnings() if cell == "GRU" else nullcontext():
        warnings.simplefilter("ignore", MergedBiasesWarning)
        back = keras_stack(rnn_tf, cell, layers=1, **options)
        copy_weights(ours, back)
        for other in (source, ours, back):
            with pytest.raises(ValueError, match=f"should have the source's {next(iter(options))}, "):
                copy_weights(other, layer_of(cell, bidirectional=True))
            with pytest.raises(ValueError, match=f"should have the source's {next(iter(options))}, "):
                copy_weights(other, keras_stack(rnn_tf, cell, layers=1))
    x = draw(2, 5, INPUT)
    assert deviation(back[0](x.numpy()).numpy(), ours(x)[0].detach().numpy()) <= ROUNDED.get(
        next(iter(options.values())), OUTPUT_BOUND
    )


HARD = {"recurrent_activation": "hard_sigmoid"}
KERAS_2 = {"recurrent_activation": "hard_sigmoid_keras2"}


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (HARD, KERAS_2, r"hard_sigmoid 0\.1667·a \+ 0\.5, got hard_sigmoid 0\.2·a \+ 0\.5"),
        (KERAS_2, HARD, r"hard_sigmoid 0\.2·a \+ 0\.5, got hard_sigmoid 0\.1667·a \+ 0\.5"),
        (HARD, {}, r"hard_sigmoid 0\.1667·a \+ 0\.5, got sigmoid: .* take any"),
        ({"activation": "leaky_relu"}, {"activation": functional.leaky_relu}, "leaky_relu 0.2, got the function "),
        ({"activation": own_tanh}, {}, r"the function test_activations\.own_tanh, got tanh: .* as itself alone"),
        ({"activation": own_tanh}, {"activation": lambda x: torch.tanh(x)}, "own_tanh, got the function"),
    ],
)
def test_what_computes_otherwise_is_not_copied(source, target, message):
    with pytest.raises(ValueError, match=message):
        copy_weights(layer_of("LSTM", **source), layer_of("LSTM", **target))


def test_what_computes_the_same_is_copied():
    sloped = Activation("hard_sigmoid", 0.25, 0.5)
    for source, target in [
        (OWN, OWN),
        ({"activation": sloped}, {"activation": copy.deepcopy(sloped)}),
        (HARD, {"recurrent_activation": functional.hardsigmoid}),
        (KERAS_2, {"recurrent_activation": Activation("hard_sigmoid", 0.2, 0.5)}),
    ]:
        giver, taker = layer_of("LSTM", **source), layer_of("LSTM", "Cell", **target)
        copy_weights(giver, taker)
        assert torch.equal(taker.weight_hh, giver.weight_hh_l0)


def test_weights_go_to_nn_and_back_by_default_alone():
    copy_weights(layer_of("LSTM"), nn.LSTM(INPUT, HIDDEN))
    with pytest.raises(ValueError, match="activation, relu, got tanh"):
        copy_weights(layer_of("LSTM", activation="relu"), nn.LSTM(INPUT, HIDDEN))
    with pytest.raises(ValueError, match="activation, tanh, got relu"):
        copy_weights(nn.GRUCell(INPUT, HIDDEN), layer_of("GRU", "Cell", activation="relu"))


# In TensorFlow


@pytest.mark.parametrize("module", [keras.layers, rnn_tf], ids=["Keras's", "ours"])
def test_a_keras_file_with_keras_2s_hard_sigmoid(module, tmp_path):
    layer = module.LSTM(HIDDEN, recurrent_activation=rnn_tf.hard_sigmoid_keras2)
    model = keras.Sequential([keras.Input((None, INPUT)), keras.layers.Bidirectional(layer)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].forward_layer.cell.recurrent_activation is rnn_tf.hard_sigmoid_keras2
    x = np.random.default_rng(0).standard_normal((2, 5, INPUT)).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))


@each_cell
def test_keras_2s_hard_sigmoid_by_name(cell, tmp_path):
    stack = keras_stack(rnn_tf, cell, layers=1, recurrent_activation="hard_sigmoid_keras2", return_sequences=False)
    assert stack[0].forward_layer.recurrent_activation is rnn_tf.hard_sigmoid_keras2
    again = type(stack[0].forward_layer).from_config(stack[0].forward_layer.get_config())
    assert again.recurrent_activation is rnn_tf.hard_sigmoid_keras2
    again.build((None, None, INPUT))
    choice = again.explain(tf.zeros([2, 5, INPUT]))
    assert choice.engine == "reference"
    assert "activations" in choice.refused["fused"]
