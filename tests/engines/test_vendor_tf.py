"""The engine `vendor` in TensorFlow, without a GPU: the weights as cuDNN wants them, what it refuses, and all that is around the
operation, which an imitation stands in for that reads cuDNN's flat buffer by its documented layout."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

import rnn_tf
from rnn_common.cells import CELLS
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_tf import private
from rnn_tf.engines import order, vendor

# cuDNN's gates in order, each with the name that its documentation gives it, and what ours is called.
GATES = {
    "SimpleRNN": {"i": "h"},
    "LSTM": {"i": "i", "f": "f", "c'": "c", "o": "o"},
    "GRU": {"r": "r", "i": "z", "h'": "n"},
}
KINDS = {
    "tanh": ("SimpleRNN", {}),
    "relu": ("SimpleRNN", {"activation": "relu"}),
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
}
NO_GPU = "no GPU, and cuDNN is for GPUs"

each_cell = pytest.mark.parametrize("cell", GATES)
each_kind = pytest.mark.parametrize("kind", KINDS)


def draw(*shape, seed=1, dtype="float64"):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


def layer_of(kind, units=4, features=3, **options):
    name, own = KINDS[kind]
    options = {"dtype": "float64", "return_sequences": True, "return_state": True, **own, **options}
    keras.utils.set_random_seed(0)
    layer = getattr(rnn_tf, name)(units, bias_initializer="random_normal", **options)
    layer.build((None, None, features))
    return layer


# The flat buffer


def read(params, cell, width, units):
    """The matrices W and R and their biases of each gate, by cuDNN's names: a matrix is (outputs, inputs), row by row, and all
    biases follow all matrices."""
    place, found = 0, {}

    def take(*shape):
        nonlocal place
        size = int(np.prod(shape))
        taken = params[place : place + size]
        place += size
        return tf.reshape(taken, shape) if tf.is_tensor(taken) else taken.reshape(shape)

    for gate in GATES[cell]:
        found["W", gate] = take(units, width)
    for gate in GATES[cell]:
        found["R", gate] = take(units, units)
    for kind in ("b_W", "b_R"):
        for gate in GATES[cell]:
            found[kind, gate] = take(units)
    assert params.shape == (place,)
    return found


@each_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_weights_are_packed_to_the_bit(cell, bias, dtype):
    """Against Keras's own layers, by the order of the gates in their documentation."""
    keras_order = {"SimpleRNN": ["h"], "LSTM": ["i", "f", "c", "o"], "GRU": ["z", "r", "n"]}[cell]
    units, width = 5, 3
    theirs = getattr(keras.layers, cell)(units, use_bias=bias, bias_initializer="random_normal", dtype=dtype)
    theirs.build((None, None, width))
    weights = [np.asarray(w) for w in theirs.get_weights()]
    packed = vendor.pack(CELLS[cell], [tf.constant(w) for w in weights]).numpy()
    assert packed.dtype == np.dtype(dtype)
    found = read(packed, cell, width, units)
    kernel, recurrent, *biases = weights
    for gate, ours in GATES[cell].items():
        column = slice(keras_order.index(ours) * units, (keras_order.index(ours) + 1) * units)
        assert np.array_equal(found["W", gate], kernel[:, column].T)
        assert np.array_equal(found["R", gate], recurrent[:, column].T)
        rows = np.zeros((2, units), dtype)
        if bias and cell == "GRU":
            rows = biases[0][:, column]
        elif bias:
            rows[0] = biases[0][column]
        assert np.array_equal(found["b_W", gate], rows[0])
        assert np.array_equal(found["b_R", gate], rows[1])
        assert not bias or rows[0].any()


# What it refuses


def test_there_is_no_gpu_here():
    """On a machine with one these tests would say nothing of cuDNN."""
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is one")
    for kind in KINDS:
        layer = layer_of(kind, engine="vendor")
        assert layer.explain(draw(2, 5, 3)) == ("reference", {"vendor": NO_GPU})
        assert layer_of(kind).explain(draw(2, 5, 3)).engine != "vendor"
        assert layer.supports_jit


def test_the_order_on_a_gpu():
    for cell in CELLS:
        assert order("cuda", cell) == ("vendor", "fused", "reference")
        assert order("cpu", cell)[-1] == "reference"


@pytest.fixture
def imitation(monkeypatch):
    """A GPU that is there by name, and an imitation of cuDNN's operation; whatever it runs is written down."""
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu] if kind == "GPU" else [])
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: True)
    ran = []

    @tf.custom_gradient
    def without_a_second_derivative(*inputs):
        """As cuDNN's: the derivative has none."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            returned = imitate(*ran[-1], *inputs)

        def gradient(*d):
            @tf.custom_gradient
            def first(*d):
                def none(*_):
                    raise LookupError("No gradient defined for operation CudnnRNNBackpropV3")

                return tape.gradient(returned, inputs, d, tf.UnconnectedGradients.ZERO), none

            return first(*d)

        return returned, gradient

    def cudnn(layer, x, state, packed, lengths):
        ran.append((layer, lengths, len(state)))
        return without_a_second_derivative(x, *state, packed)

    monkeypatch.setattr(vendor, "cudnn", cudnn)
    return ran


def imitate(layer, lengths, states, x, *others):
    """The documented equations of cuDNN, on its buffer; zeros behind a sequence's end, and the state at it."""
    state, packed = others[:states], others[states]
    cell = {"lstm": "LSTM", "gru": "GRU"}.get(layer, "SimpleRNN")
    units = state[0].shape[1]
    w = read(packed, cell, x.shape[2], units)
    tf.debugging.assert_greater(lengths, 0)

    def a(x_t, h, gate):
        W = tf.matmul(x_t, w["W", gate], transpose_b=True) + w["b_W", gate]
        return W, tf.matmul(h, w["R", gate], transpose_b=True) + w["b_R", gate]

    history = []
    for t in range(x.shape[0]):
        h = state[0]
        if cell == "SimpleRNN":
            after = ({"rnn_tanh": tf.tanh, "rnn_relu": tf.nn.relu}[layer](tf.add_n(a(x[t], h, "i"))),)
        elif cell == "LSTM":
            i, f, o = (tf.sigmoid(tf.add_n(a(x[t], h, gate))) for gate in ("i", "f", "o"))
            c = f * state[1] + i * tf.tanh(tf.add_n(a(x[t], h, "c'")))
            after = (o * tf.tanh(c), c)
        else:
            r, i = (tf.sigmoid(tf.add_n(a(x[t], h, gate))) for gate in ("r", "i"))
            W, R = a(x[t], h, "h'")
            after = ((1 - i) * tf.tanh(W + r * R) + i * h,)
        within = (t < lengths)[:, None]
        history.append(tf.where(within, after[0], tf.zeros_like(after[0])))
        state = tuple(tf.where(within, new, old) for new, old in zip(after, state, strict=True))
    return tf.stack(history), *state


def test_what_it_refuses_with_a_gpu(imitation, monkeypatch):
    x = draw(2, 5, 3)
    for kind in KINDS:
        assert layer_of(kind).explain(x) == ("vendor", {})
        assert layer_of(kind, use_bias=False).explain(x) == ("vendor", {})
        assert layer_of(kind).explain(x, tf.ones([2, 5], tf.bool)).engine == "vendor"
        assert "a mask for each unit" in layer_of(kind).explain(x, tf.ones([2, 5, 4], tf.bool)).refused["vendor"]
        assert "dropout" in layer_of(kind, recurrent_dropout=0.5).explain(x, training=True).refused["vendor"]
        assert "activations" in layer_of(kind, activation="softsign").explain(x).refused["vendor"]
        assert "activations" in layer_of(kind, activation=None).explain(x).refused["vendor"]
        assert not layer_of(kind).supports_jit
        assert layer_of(kind, engine="fused").supports_jit
    assert "activations" in layer_of("LSTM", recurrent_activation="hard_sigmoid").explain(x).refused["vendor"]
    assert "a cell" in layer_of("GRU", reset_after=False).explain(x).refused["vendor"]
    assert "every c_t" in layer_of("LSTM", return_all_states=True).explain(x).refused["vendor"]
    assert layer_of("GRU", return_all_states=True).explain(x) == ("vendor", {})
    asked = []
    layer = layer_of("LSTM")
    tf.function(lambda x: (asked.append(layer.explain(x)), x)[1], jit_compile=True, autograph=False)(x)
    assert asked[0] == ("fused", {"vendor": "XLA, which has no cuDNN operation"})
    with tf.autodiff.ForwardAccumulator(x, x):
        assert layer.explain(x) == ("fused", {"vendor": "forward-mode differentiation"})
    monkeypatch.setattr(private, "is_being_saved", lambda: True)
    assert layer.explain(x) == ("fused", {"vendor": "a SavedModel, which may be loaded where there is no GPU"})


def test_use_cudnn(imitation):
    x = draw(2, 5, 3)
    for kind in ("LSTM", "GRU"):
        for use_cudnn, engine in ((True, "vendor"), ("auto", "vendor"), (False, "fused")):
            layer = layer_of(kind, use_cudnn=use_cudnn)
            assert layer.explain(x).engine == engine
            imitation.clear()
            layer(x)
            assert bool(imitation) is (engine == "vendor")
        assert layer.explain(x).refused == {"vendor": "use_cudnn=False"}
        with pytest.raises(ValueError, match=r"use_cudnn=True was specified.* a cell or activations that cuDNN"):
            layer_of(kind, use_cudnn=True, activation="relu")(x)
        with pytest.raises(ValueError, match="engine should be auto or vendor with use_cudnn=True, got 'fused'"):
            layer_of(kind, use_cudnn=True, engine="fused")


def test_use_cudnn_without_a_gpu():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is one")
    for kind in ("LSTM", "GRU"):
        with pytest.raises(ValueError, match=r"use_cudnn=True was specified, but cuDNN is not supported.*: no GPU"):
            layer_of(kind, use_cudnn=True)(draw(2, 5, 3))
        assert layer_of(kind, use_cudnn=False).explain(draw(2, 5, 3)).engine != "vendor"
        assert not layer_of(kind, use_cudnn=True).supports_jit


# All that is around the operation


def differentiate(layer, x, graph=False, **call):
    """What a layer returns, and its gradients with respect to input, state and weights."""
    weights = [v.value for v in layer.trainable_variables]
    sources = [x, *call.get("initial_state", [])]

    def compute():
        with tf.GradientTape() as tape:
            tape.watch(sources)
            returned = tf.nest.flatten(layer(x, **call))
        cotangents = [draw(*each.shape, seed=5 + i) for i, each in enumerate(returned)]
        return returned, tape.gradient(returned, [*sources, *weights], cotangents)

    return (tf.function(compute, autograph=False) if graph else compute)()


def assert_close(found, expected, bound):
    for a, b in zip(found, expected, strict=True):
        assert deviation(np.asarray(a), np.asarray(b)) <= bound


MASKS = {
    "none": None,
    "right": [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]],
    "gaps": [[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0], [0, 1, 1, 1, 1, 1]],
    "an empty sequence": [[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]],
}


@each_kind
@pytest.mark.parametrize(
    ("mask", "options", "graph"),
    [
        ("none", {}, False),
        ("none", {"use_bias": False, "go_backwards": True}, True),
        ("right", {}, False),
        ("gaps", {}, True),
        ("gaps", {"go_backwards": True}, False),
        ("an empty sequence", {"use_bias": False}, False),
    ],
)
def test_outputs_states_and_gradients(kind, mask, options, graph, imitation):
    x = draw(3, 6, 3)
    given = {"initial_state": [draw(3, 4, seed=8 + i) for i in range(2 if kind == "LSTM" else 1)]}
    if MASKS[mask] is not None:
        given["mask"] = tf.cast(MASKS[mask], tf.bool)
        if mask == "right":
            x = tf.where(given["mask"][:, :, None], x, tf.constant(np.nan, tf.float64))
    found, gradients = differentiate(layer_of(kind, engine="vendor", **options), x, graph, **given)
    assert imitation
    expected, expected_gradients = differentiate(layer_of(kind, engine="reference", **options), x, **given)
    if np.isnan(x).any():  # `reference` masks what it computes, and its derivative has 0 · NaN
        x = tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)
        _, expected_gradients = differentiate(layer_of(kind, engine="reference", **options), x, **given)
    assert_close(found, expected, OUTPUT_BOUND)
    assert_close(gradients, expected_gradients, GRADIENT_BOUND)


@pytest.mark.parametrize(
    ("kind", "masked", "graph"), [*((kind, False, False) for kind in KINDS), ("GRU", True, False), ("LSTM", True, True)]
)
def test_second_derivatives_are_those_of_fused(kind, masked, graph, imitation):
    """With respect to input, state, weights and the cotangent itself: cuDNN's derivative has none."""
    state = [draw(3, 3, seed=8 + i) for i in range(2 if kind == "LSTM" else 1)]
    given = {"mask": tf.cast(MASKS["gaps"], tf.bool)} if masked else {}
    results = []
    for engine in ("vendor", "fused"):
        layer = layer_of(kind, units=3, features=2, engine=engine)
        weights = [v.value for v in layer.trainable_variables]
        x = draw(3, 6, 2)
        cotangents = [draw(3, 6, 3, seed=7), *(draw(3, 3, seed=27 + i) for i in range(len(state)))]

        def compute(layer=layer, weights=weights, x=x, cotangents=cotangents):
            sources = [x, *state, *weights]
            with tf.GradientTape() as outer:
                outer.watch([*sources, *cotangents])
                with tf.GradientTape() as inner:
                    inner.watch(sources)
                    returned = layer(x, initial_state=state, **given)
                first = inner.gradient(returned, sources, cotangents)
                total = tf.add_n(
                    [tf.reduce_sum(d * draw(*w.shape, seed=9)) for d, w in zip(first, sources, strict=True)]
                )
            return outer.gradient(total, [*sources, *cotangents], unconnected_gradients=tf.UnconnectedGradients.ZERO)

        results.append((tf.function(compute, autograph=False) if graph else compute)())
    assert imitation
    assert_close(*results, GRADIENT_BOUND)


@each_kind
def test_what_the_operation_is_given(kind, monkeypatch):
    """By name and shape, as its definition wants them; TensorFlow's own shape function has a look at them."""
    layer = layer_of(kind, dtype="float32")
    recurrence = layer.cell.recurrence(None, None)
    shapes = [w.shape for w in layer.cell.packed()]
    graph = tf.Graph()
    with graph.as_default():
        x, lengths = tf.zeros([5, 2, 3]), tf.constant([5, 3])
        weights = [tf.zeros(shape) for shape in shapes]
        state = tuple(tf.zeros([2, 4]) for _ in recurrence.cell.states)
        returned = vendor.run(recurrence, weights, x, state, lengths)
        gradients = tf.gradients(returned, [x, *state, *weights])
    assert [tuple(y.shape) for y in returned] == [(5, 2, 4)] + [(2, 4)] * len(state)
    assert [tuple(d.shape) for d in gradients] == [tuple(t.shape) for t in (x, *state, *weights)]
    operations = {operation.type: operation for operation in graph.get_operations()}
    forward, backward = operations["CudnnRNNV3"], operations["CudnnRNNBackpropV3"]
    for operation in (forward, backward):
        assert operation.get_attr("rnn_mode").decode() == vendor.layer_of(recurrence)
        assert operation.get_attr("time_major")
        assert operation.get_attr("direction") == b"unidirectional"
    blocks, units, width = len(GATES[KINDS[kind][0]]), 4, 3
    (size,) = forward.inputs[3].shape
    assert size == blocks * units * (width + units + 2)
    assert tuple(forward.inputs[1].shape) == (1, 2, 4)
