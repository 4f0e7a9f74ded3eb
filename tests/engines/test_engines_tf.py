"""The engines in TensorFlow beside `reference`: what they take and leave, activations, gaps, every way of asking for a
derivative. Every test is run with each as the engine of its layers."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

import rnn_tf
from rnn_common.cells import CELLS
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_tf import compiled, operation
from rnn_tf.engines import fused

ENGINE = ""


# That of `vendor`, which needs a GPU, is test_vendor_tf.py.
@pytest.fixture(params=["fused", "native"], autouse=True)
def fast(request, monkeypatch):
    """The engine that `layer_of` gives a layer."""
    if request.param == "native" and (why := operation.absent()):
        pytest.skip(why)
    monkeypatch.setitem(globals(), "ENGINE", request.param)
    return request.param


each_mode = pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])


def draw(*shape, seed=1):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape))


def layer_of(cell, units=4, features=3, **options):
    row = CELLS[cell]
    options = {"dtype": "float64", "engine": ENGINE, "return_sequences": True, "return_state": True} | options
    options |= row.options
    keras.utils.set_random_seed(0)
    layer = getattr(rnn_tf, row.layer_class)(units, bias_initializer="random_normal", **options)
    layer.build((None, None, features))
    return layer


def pair(cell, **options):
    """The same layer on the engine and on `reference`."""
    return [layer_of(cell, engine=engine, **options) for engine in (ENGINE, "reference")]


def flat(nested):
    return [np.asarray(each) for each in tf.nest.flatten(nested)]


def assert_close(found, expected, bound):
    for a, b in zip(flat(found), flat(expected), strict=True):
        assert a.shape == b.shape
        assert deviation(a, b) <= bound


def differentiate(layer, x, chosen=lambda outputs: outputs, graph=False, **call):
    """What a layer returns, and the gradients of some of it with respect to input, state and weights."""
    weights = [v.value for v in layer.trainable_variables]
    sources = [x, *call.get("initial_state", [])]

    def compute():
        with tf.GradientTape() as tape:
            tape.watch(sources)
            returned = layer(x, **call)
        some = chosen(returned)
        cotangents = [draw(*each.shape, seed=5 + i) for i, each in enumerate(some)]
        return returned, tape.gradient(some, [*sources, *weights], cotangents, tf.UnconnectedGradients.ZERO)

    return (tf.function(compute, autograph=False) if graph else compute)()


def agree(layers, x, **options):
    (found, gradients), (expected, expected_gradients) = (differentiate(layer, x, **options) for layer in layers)
    assert_close(found, expected, OUTPUT_BOUND)
    assert_close(gradients, expected_gradients, GRADIENT_BOUND)


# Which cases it takes


def left(cell, valid=None, training=False, **options):
    """Why the engine does not take a case of a layer, or None."""
    choice = layer_of(cell, **options).explain(draw(2, 5, 3), valid, training)
    assert choice.engine == ("reference" if choice.refused else ENGINE)
    return choice.refused.get(ENGINE)


def test_it_can_be_asked_for(fast):
    x = draw(2, 5, 3)
    assert layer_of("GRU").explain(x) == (fast, {})
    assert layer_of("GRU", engine="reference").explain(x) == ("reference", {})


def test_the_default_is_the_fastest_that_there_is():
    chosen = layer_of("GRU", engine="auto").explain(draw(2, 5, 3))
    without = operation.absent()
    assert chosen == (("fused", {"native": without}) if without else ("native", {}))
    lower = layer_of("GRU", engine="auto", dtype="bfloat16", recurrent_initializer="ones").explain(draw(2, 5, 3))
    assert lower == ("fused", {"native": "numbers other than float32 and float64"})


def test_what_it_takes(cell):
    padded = tf.ones((2, 5), tf.bool)
    assert left(cell) is None
    assert left(cell, padded) is None
    assert left(cell, use_bias=False) is None
    assert left(cell, training=True, dropout=0.5) is None
    if ENGINE == "fused" or cell == "SimpleRNN":
        assert left(cell, activation="relu") is None
    if ENGINE == "fused":
        assert left(cell, activation=None) is None


def test_what_it_leaves_to_the_reference(cell):
    padded = tf.ones((2, 5), tf.bool)
    assert "dropout" in left(cell, training=True, recurrent_dropout=0.5)
    assert left(cell, recurrent_dropout=0.5) is None  # outside of training
    asked, other = (layer_of(cell, recurrent_dropout=0.5, seed=1) for _ in range(2))
    asked.explain(draw(2, 5, 3), training=True)  # a question changes no answer
    assert_close(asked(draw(2, 5, 3), training=True), other(draw(2, 5, 3), training=True), 0)
    assert "activations" in left(cell, activation="softsign")
    if ENGINE == "fused" or cell == "SimpleRNN":
        assert "padding" in left(cell, padded, activation="relu")
    assert left(cell, padded, activation=None)
    if cell != "SimpleRNN":
        assert "activations" in left(cell, recurrent_activation="hard_sigmoid")


@pytest.mark.parametrize(
    "options", [{"recurrent_dropout": 0.5}, {"activation": "softsign"}, {"implementation": 1, "dropout": 0.5}]
)
def test_what_it_leaves_is_run_all_the_same(options):
    results = []
    for layer in pair("LSTM", **options):
        keras.utils.set_random_seed(3)
        results.append(flat(layer(draw(2, 5, 3), training=True)))
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


# What it takes


@each_mode
@pytest.mark.parametrize(
    "options", [{}, {"use_bias": False}, {"go_backwards": True}, {"unroll": True}, {"return_all_states": True}]
)
def test_options_of_the_layer(cell, graph, options):
    agree(pair(cell, **options), draw(2, 5, 3), graph=graph)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "linear"])
def test_activations(cell, activation):
    agree(pair(cell, activation=activation), draw(2, 5, 3))
    if cell != "SimpleRNN":
        agree(pair(cell, recurrent_activation=activation), draw(2, 5, 3))


@each_mode
def test_an_initial_state_and_a_mask_with_gaps(cell, graph):
    mask = tf.cast([[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0], [0] * 6, [1] * 6], tf.bool)
    state = [draw(4, 4, seed=8 + i) for i in range(2 if cell == "LSTM" else 1)]
    agree(pair(cell, return_all_states=True), draw(4, 6, 3), graph=graph, mask=mask, initial_state=state)


def test_what_is_in_the_padding_does_not_matter(cell):
    """Not even NaN and infinity, forwards or backwards."""
    layer = layer_of(cell)
    mask = tf.cast([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0]], tf.bool)
    results = []
    for garbage in (0.0, np.nan, np.inf):
        x = tf.where(mask[:, :, None], draw(2, 5, 3), tf.constant(garbage, tf.float64))
        returned, gradients = differentiate(layer, x, mask=mask)
        assert not gradients[0].numpy()[1, [1, 3, 4]].any()
        results.append(flat([returned, gradients]))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_one_graph_for_all_sizes(cell):
    """With unknown batch and time, and a gradient that knows as much of its shape as the input."""
    ours, reference = pair(cell)
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.float64)], autograph=False)
    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output, *_ = ours(x)
        gradient = tape.gradient(output, x)
        shapes.append(gradient.shape)
        return output, gradient

    for batch, time in ((2, 5), (3, 4), (1, 1)):
        x = draw(batch, time, 3)
        with tf.GradientTape() as tape:
            tape.watch(x)
            expected, *_ = reference(x)
        assert_close(compute(x), [expected, tape.gradient(expected, x)], GRADIENT_BOUND)
    assert [tuple(shape) for shape in shapes] == [(None, None, 3)]


def test_eagerly_layers_share_graphs(cell):
    """A graph is traced for a cell, not for each layer: many layers of many sizes take few."""
    if ENGINE != "fused":
        pytest.skip("no graphs")
    layers = [layer_of(cell, units) for units in (2, 3, 4, 5, 6)]
    recurrence = layers[0].cell.recurrence(draw(2, 3), draw(2, 2))
    forward, _ = compiled.graphs(fused, recurrence.cell, recurrence.activations)
    before = forward.function.experimental_get_tracing_count()
    for layer in layers:
        for batch, time in ((2, 3), (4, 5)):
            layer(draw(batch, time, 3))
    assert forward.function.experimental_get_tracing_count() - before <= 3


# Derivatives


@each_mode
@pytest.mark.parametrize(
    "chosen", [lambda r: r[:1], lambda r: r[-1:], lambda r: r[1:]], ids=["outputs", "last state", "all states"]
)
def test_a_loss_of_a_part_of_what_comes_back(cell, graph, chosen):
    agree(pair(cell), draw(2, 5, 3), chosen=chosen, graph=graph)


@pytest.mark.parametrize(("graph", "mask"), [(False, False), (True, True)], ids=["eager", "graph, mask"])
def test_second_derivatives_of_everything(cell, graph, mask):
    """With respect to input, state, weights and the cotangent itself."""
    state = [draw(2, 3, seed=8 + i) for i in range(2 if cell == "LSTM" else 1)]
    given = {"mask": tf.cast([[1, 1, 1, 1], [1, 0, 1, 0]], tf.bool)} if mask else {}
    results = []
    for layer in pair(cell, units=3, features=2, return_state=False):
        weights = [v.value for v in layer.trainable_variables]
        x, cotangent = draw(2, 4, 2), draw(2, 4, 3, seed=7)

        def compute(layer=layer, weights=weights, x=x, cotangent=cotangent):
            sources = [x, *state, *weights]
            with tf.GradientTape() as outer:
                outer.watch([*sources, cotangent])
                with tf.GradientTape() as inner:
                    inner.watch(sources)
                    output = layer(x, initial_state=state, **given)
                first = inner.gradient(output, sources, cotangent)
                total = tf.add_n(
                    [tf.reduce_sum(d * draw(*w.shape, seed=9)) for d, w in zip(first, sources, strict=True)]
                )
            return outer.gradient(total, [*sources, cotangent])

        results.append((tf.function(compute, autograph=False) if graph else compute)())
    assert_close(*results, GRADIENT_BOUND)


# TensorFlow takes half a minute to differentiate the loop of `reference` twice; PyTorch's twin says the same within a second.


def in_torch(layer, cell):
    """The twin in PyTorch, its engine `reference`, as a function from inputs to all outputs."""
    torch = pytest.importorskip("torch")
    import rnn_torch

    row = CELLS[cell]
    options = {"batch_first": True, "dtype": torch.float64, "engine": "reference"} | row.options
    twin = getattr(rnn_torch, row.layer_class)(layer.cell.kernel.shape[0], layer.units, **options)
    rnn_torch.copy_weights(layer, twin)
    return torch, lambda x: twin.requires_grad_(False)(x)[0]


def jacobian(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x)
    return tape.batch_jacobian(output, x)


def jacobian_in_torch(torch, f, x):
    return torch.stack([torch.autograd.functional.jacobian(lambda each: f(each[None])[0], each) for each in x])


def hessian(layer, x):
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            total = tf.reduce_sum(layer(x) ** 2)
        gradient = inner.gradient(total, x)
    return outer.jacobian(gradient, x)


def hessian_in_torch(torch, f, x):
    return torch.autograd.functional.hessian(lambda x: (f(x) ** 2).sum(), x)


def forward_over_reverse(layer, x):
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(layer(x) ** 2)
        gradient = tape.gradient(total, x)
    return accumulator.jvp(gradient)


def forward_over_reverse_in_torch(torch, f, x):
    return hessian_in_torch(torch, f, x).sum((3, 4, 5))


def vectorized(layer, x):
    return tf.vectorized_map(lambda sequence: layer(sequence[None])[0], x)


def vectorized_in_torch(torch, f, x):
    return f(x)


TRANSFORMS = [
    (jacobian, jacobian_in_torch),
    (hessian, hessian_in_torch),
    (forward_over_reverse, forward_over_reverse_in_torch),
    (vectorized, vectorized_in_torch),
]


@pytest.mark.parametrize(("transform", "expected"), TRANSFORMS, ids=[each.__name__ for each, _ in TRANSFORMS])
def test_transforms(cell, transform, expected):
    if transform is hessian and cell != "SimpleRNN":
        pytest.skip("takes TensorFlow half a minute; that of the LSTM is below")
    layer, x = layer_of(cell, units=3, features=2, return_state=False), draw(2, 3, 2)
    torch, f = in_torch(layer, cell)
    assert_close(transform(layer, x), expected(torch, f, torch.from_numpy(x.numpy())).numpy(), GRADIENT_BOUND)


def test_a_hessian_in_a_graph():
    """Which TensorFlow cannot vectorise for a loop that it differentiates by itself."""
    layer, x = layer_of("LSTM", units=3, features=2, return_state=False), draw(2, 3, 2)
    torch, f = in_torch(layer, "LSTM")
    found = tf.function(lambda x: hessian(layer, x), autograph=False)(x)
    assert_close(found, hessian_in_torch(torch, f, torch.from_numpy(x.numpy())).numpy(), GRADIENT_BOUND)


def test_third_derivatives(cell):
    """Of a scalar function of the input, along a line."""
    layer, x, cotangent = (
        layer_of(cell, units=3, features=2, return_state=False),
        draw(2, 3, 2),
        draw(2, 3, 3, seed=4),
    )
    s = tf.constant(0.3, tf.float64)
    with tf.GradientTape() as third:
        third.watch(s)
        with tf.GradientTape() as second:
            second.watch(s)
            with tf.GradientTape() as first:
                first.watch(s)
                value = tf.reduce_sum(layer(s * x) * cotangent)
            d = first.gradient(value, s)
        dd = second.gradient(d, s)
    found = [float(each) for each in (d, dd, third.gradient(dd, s))]
    torch, f = in_torch(layer, cell)
    x, cotangent = (torch.from_numpy(each.numpy()) for each in (x, cotangent))
    s, expected = torch.tensor(0.3, dtype=torch.float64, requires_grad=True), []
    value = (f(s * x) * cotangent).sum()
    for _ in range(3):
        (value,) = torch.autograd.grad(value, s, create_graph=True)
        expected.append(value.item())
    assert found == pytest.approx(expected, rel=1e-12)
