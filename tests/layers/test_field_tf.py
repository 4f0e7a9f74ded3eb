"""What users ask of rnn_tf beyond one call of whole tensors, each kind as a table over cells and engines.

Axes of 1, gates held at 0 and 1, types of numbers, infinite gradients, long sums in low precision, sparse
gradients, activations and cells of the user's own, states of both directions, messages, and graphs around a
layer. What is expected is the built-in layer's number or the equation's.
"""

import ctypes
import functools
import itertools

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

import rnn_tf
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.native import library
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_tf import operation
from rnn_tf.layer import Layer

UNITS, FEATURES, BATCH, TIME = 4, 2, 3, 5
NAMES = IN_BOTH
TWIN = "tf"
FAST = ("fused", "native")
each_fast = pytest.mark.parametrize("engine", FAST)
each_name = pytest.mark.parametrize("name", NAMES)
each_mode = pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])


def draw(*shape, seed=1):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape))


def make(cell, engine, units=UNITS, features=FEATURES, **options):
    """A layer of ours or, with the engine "keras", the built-in one, from the same seed."""
    row = CELLS[cell]
    options = {"dtype": "float64", "return_sequences": True, "return_state": True, **options}
    options |= row.options
    options |= {} if engine == "keras" else {"engine": engine}
    keras.utils.set_random_seed(0)
    layer = getattr(keras.layers if engine == "keras" else rnn_tf, row.layer_class)(
        units, bias_initializer="random_normal", recurrent_initializer="glorot_normal", **options
    )
    layer.build((None, None, features))
    return layer


def states_of(cell):
    return 2 if cell == "LSTM" else 1


def weights_of(layer):
    return [v.value for v in layer.trainable_variables]


def assert_close(found, expected, bound=GRADIENT_BOUND):
    found, expected = tf.nest.flatten(found), tf.nest.flatten(expected)
    assert [tuple(a.shape) for a in found] == [tuple(b.shape) for b in expected]
    for a, b in zip(found, expected, strict=True):
        assert deviation(np.asarray(a), np.asarray(b)) <= bound


def weighted(*nested):
    """A scalar in which every number counts."""
    tensors = tf.nest.flatten(nested)
    return tf.add_n([tf.reduce_sum(each * draw(*each.shape, seed=7 + i)) for i, each in enumerate(tensors)])


# Axes of 1

# The sizes of input batch, each state's batch (None: no state is given) and the mask (None: none is given).
AXES = {
    "input": (1, (3, 3), None),
    "states": (3, (1, 1), None),
    "first state": (3, (1, 3), None),
    "second state": (1, (3, 1), None),
    "mask's batch": (3, None, (1, 5)),
    "mask's batch, third axis 1": (3, None, (1, 5, 1)),
    "mask's third axis": (3, (3, 3), (3, 5, 1)),
    "mask for each unit": (3, (1, 1), (3, 5, 4)),
    "mask for each unit, its batch": (3, None, (1, 5, 4)),
    "all but the mask": (1, None, (3, 5)),
    "all but the states": (1, (3, 3), (1, 5)),
    "all": (1, (1, 1), (1, 5)),
}


def operands(cell, inputs, states, mask, time=TIME):
    x = draw(inputs, time, FEATURES)
    state = [] if states is None else [draw(n, UNITS, seed=3 + i) for i, n in enumerate(states[: states_of(cell)])]
    valid = None if mask is None else tf.constant(np.random.default_rng(5).random(mask) < 0.6)
    return x, state, valid


def results(layer, valid, *sources, explicitly=False):
    """What a layer returns and the gradients. `explicitly`: of operands that are broadcast beforehand."""
    with tf.GradientTape() as tape:
        tape.watch(sources)
        x, *state = sources
        if explicitly:
            batch = max(each.shape[0] for each in [*sources, *([] if valid is None else [valid])])
            x = tf.broadcast_to(x, [batch, *x.shape[1:]])
            state = [tf.broadcast_to(each, [batch, UNITS]) for each in state]
            if valid is not None:
                valid = tf.broadcast_to(valid, [batch, *valid.shape[1:]])
        returned = layer(x, initial_state=list(state) or None, mask=valid)
        cotangents = [tf.cast(tf.range(tf.size(each)), each.dtype) % 7 - 3 for each in returned]
        pairs = zip(returned, cotangents, strict=True)
        total = tf.add_n([tf.reduce_sum(each * tf.reshape(c, tf.shape(each))) for each, c in pairs])
    return returned, tape.gradient(total, [*sources, *weights_of(layer)])


def traced(layer, states, rank, features=FEATURES, units=UNITS):
    """The same in a graph that knows no size but the widths; `rank` is the mask's, None for no mask."""
    sources = [tf.TensorSpec([None, None, features], tf.float64), *[tf.TensorSpec([None, units], tf.float64)] * states]
    if rank is None:
        return tf.function(lambda *each: results(layer, None, *each), input_signature=sources, autograph=False)
    mask = tf.TensorSpec([None] * rank, tf.bool)
    return tf.function(lambda *each: results(layer, *each), input_signature=[mask, *sources], autograph=False)


def run(layer, x, state, valid):
    return results(layer, valid, x, *state)


@functools.cache
def broadcast_by_hand(cell, axes, **options):
    x, state, valid = operands(cell, *AXES[axes])
    return results(make(cell, "keras", **options), valid, x, *state, explicitly=True)


layer_of = functools.cache(make)


@functools.cache
def graph_of(cell, engine, states, rank):
    return traced(make(cell, engine), states, rank)


@pytest.mark.parametrize(
    ("cell", "engine", "graph"),
    [
        *((cell, engine, False) for cell in CELLS for engine in rnn_tf.ENGINES),
        *((cell, engine, True) for cell in CELLS for engine in FAST),
    ],
)
@pytest.mark.parametrize("axes", AXES)
def test_axes_of_1_are_broadcast(cell, engine, graph, axes):
    """As if they had been broadcast by hand: numbers, and gradients summed over what was broadcast.

    One layer, and one graph for every case of as many operands, serve them all. In a graph, `fused` leaves a mask of three
    axes to `reference`.
    """
    x, state, valid = operands(cell, *AXES[axes])
    if graph:
        call = graph_of(cell, engine, len(state), None if valid is None else valid.shape.rank)
        found = call(*([] if valid is None else [valid]), x, *state)
    else:
        found = run(layer_of(cell, engine), x, state, valid)
    assert_close(found, broadcast_by_hand(cell, axes))


@each_name
@pytest.mark.parametrize("axes", ["input", "states", "mask's batch", "mask for each unit"])
def test_keras_broadcasts_them(name, axes):
    assert_close(run(make(name, "keras"), *operands(name, *AXES[axes])), broadcast_by_hand(name, axes))


@each_name
@pytest.mark.parametrize(
    "options",
    [
        {"go_backwards": True, "zero_output_for_mask": True},
        {"unroll": True},
        {"zero_output_for_mask": True},
        {"use_bias": False},
        {"activation": "relu"},
        {"return_sequences": False},
    ],
    ids=str,
)
@pytest.mark.parametrize(("engine", "axes"), [("fused", "mask's batch"), ("reference", "mask for each unit")])
def test_axes_of_1_with_options(name, engine, options, axes):
    # Keras's unrolled loop refuses a mask for each unit.
    expected = broadcast_by_hand(name, axes, **{key: value for key, value in options.items() if key != "unroll"})
    assert_close(run(make(name, engine, **options), *operands(name, *AXES[axes])), expected)


@each_name
def test_axes_of_1_in_every_state_at_every_step(name, engine):
    x, state, valid = operands(name, 1, (3, 3), (1, 5))
    layer = make(name, engine, return_all_states=True)
    returned = layer(x, initial_state=state, mask=valid)
    wide = layer(tf.repeat(x, 3, 0), initial_state=state, mask=tf.repeat(valid, 3, 0))
    assert_close(list(returned), list(wide), OUTPUT_BOUND)


@each_name
def test_axes_of_1_both_directions(name, engine):
    x, _, valid = operands(name, 3, None, (1, 5))
    wrapped = []
    for each in (engine, "keras"):
        wrapped.append(keras.layers.Bidirectional(make(name, each), dtype="float64"))
        wrapped[-1].build((None, None, FEATURES))
    wrapped[0].set_weights(wrapped[1].get_weights())
    assert_close(wrapped[0](x, mask=valid), wrapped[1](x, mask=valid), OUTPUT_BOUND)


@each_name
def test_axes_of_1_stateful(name, engine):
    x, _, valid = operands(name, 3, None, (1, 5))
    results = []
    for each in (engine, "keras"):
        layer = make(name, each)
        layer = type(layer).from_config(layer.get_config() | {"stateful": True})
        keras.utils.set_random_seed(0)
        layer.build((3, None, FEATURES))
        layer.set_weights(make(name, "keras").get_weights())
        results.append([layer(x, mask=valid), layer(x, mask=valid)])
    assert_close(*results, OUTPUT_BOUND)


@each_name
@pytest.mark.parametrize(
    ("engine", "graph"), [("reference", False), *((engine, graph) for engine in FAST for graph in (False, True))]
)
def test_one_step_one_unit_one_feature(name, engine, graph):
    x, valid = draw(1, 1, 1), tf.constant([[True]])
    state = [draw(1, 1, seed=3 + i) for i in range(states_of(name))]
    ours, theirs = (make(name, each, units=1, features=1) for each in (engine, "keras"))
    found = traced(ours, len(state), 2, 1, 1)(valid, x, *state) if graph else run(ours, x, state, valid)
    assert_close(found, run(theirs, x, state, valid))


def test_a_cell_state_of_one_column_as_in_keras(engine):
    """c is multiplied entry by entry; h by a matrix, which no broadcasting serves."""
    x, h = draw(3, 5, FEATURES), draw(3, UNITS, seed=3)
    for c in (draw(3, 1, seed=4), draw(1, 1, seed=4), draw(UNITS, seed=4)):
        found, expected = (run(make("LSTM", each), x, [h, c], None) for each in (engine, "keras"))
        assert_close(found, expected)


@each_name
def test_a_cell_broadcasts(name):
    results = []
    for package in (rnn_tf, keras.layers):
        keras.utils.set_random_seed(0)
        cell = getattr(package, f"{name}Cell")(UNITS, dtype="float64")
        cell.build((None, FEATURES))
        for inputs, states in ((1, 3), (3, 1)):
            sources = [draw(inputs, FEATURES), *(draw(states, UNITS, seed=3 + i) for i in range(states_of(name)))]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                h, _ = cell(sources[0], sources[1:])
                total = weighted(h)
            results.append([h, tape.gradient(total, sources)])
    assert_close(results[:2], results[2:])


# What is refused

X = np.zeros((BATCH, TIME, FEATURES))


def zeros(*shapes, dtype="float64"):
    return [np.zeros(shape, dtype) for shape in shapes]


REFUSED = {
    "mask of another time": ({"mask": np.ones((3, 4), bool)}, r"mask should have shape \(batch, 5\).* got \(3, 4\)"),
    "mask of one step": ({"mask": np.ones((3, 1), bool)}, r"mask should have shape \(batch, 5\).* got \(3, 1\)"),
    "mask of 1, 1": ({"mask": np.ones((1, 1), bool)}, r"mask should have shape \(batch, 5\).* got \(1, 1\)"),
    "longer mask": ({"mask": np.ones((3, 6), bool)}, r"mask should have shape \(batch, 5\).* got \(3, 6\)"),
    "mask of one axis": ({"mask": np.ones(5, bool)}, r"mask should have shape \(batch, 5\).* got \(5,\)"),
    "mask of four axes": ({"mask": np.ones((3, 5, 1, 1), bool)}, r"mask should have shape .* got \(3, 5, 1, 1\)"),
    "mask of another width": ({"mask": np.ones((3, 5, 2), bool)}, r"third axis of 1 or 4, got \(3, 5, 2\)"),
    "mask of another batch": ({"mask": np.ones((2, 5), bool)}, r"the same batch, or 1, got 3 of sequences.* 2 of mask"),
    "complex mask": ({"mask": np.ones((3, 5), "complex64")}, "mask should hold real numbers, got complex64"),
}


def refused_states(name):
    parts, good = (["h", "c"] if name == "LSTM" else ["h"]), (3, UNITS)
    listed, last = ", ".join(parts), parts[-1]
    others = [good] * (len(parts) - 1)
    return {
        "one more": (
            zeros(*others, good, good),
            rf"initial_state should be \[{listed}\].* got {len(parts) + 1} tensors",
        ),
        "none": ([], rf"initial_state should be \[{listed}\].* got 0 tensors"),
        "another width": (
            zeros(*others, (3, 5)),
            rf"initial_state {last} should have shape \(batch, 4\), got \(3, 5\)",
        ),
        "three axes": (zeros(*others, (1, 3, 4)), rf"initial_state {last} should .* got \(1, 3, 4\)"),
        "one column of h": (zeros((3, 1), *others), r"initial_state h should have shape \(batch, 4\), got \(3, 1\)"),
        "another batch": (zeros(*others, (2, 4)), rf"the same batch, or 1, got 3 of sequences.* 2 of {last}"),
        "complex": (zeros(*others, good, dtype="complex128"), "should hold real numbers, got complex128"),
    }


@each_name
@pytest.mark.parametrize("case", REFUSED)
def test_refused_masks(name, engine, case):
    call, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message):
        make(name, engine)(X, **call)


@each_name
@pytest.mark.parametrize("case", refused_states("LSTM"))
def test_refused_states(name, engine, case):
    state, message = refused_states(name)[case]
    with pytest.raises((ValueError, TypeError), match=message):
        make(name, engine)(X, initial_state=state)


@each_name
def test_states_that_a_cell_refuses(name):
    cell = getattr(rnn_tf, f"{name}Cell")(UNITS, dtype="float64")
    for state, message in refused_states(name).values():
        message = message.replace("initial_state", "states").replace("sequences", "inputs")
        with pytest.raises((ValueError, TypeError), match=message):
            cell(X[:, 0], state)
    with pytest.raises(TypeError, match="inputs should hold real numbers, got complex128"):
        cell(X[:, 0] + 1j, zeros(*[(3, UNITS)] * states_of(name)))


@pytest.mark.parametrize(("name", "engine"), [*((name, "fused") for name in NAMES), ("LSTM", "reference")])
@pytest.mark.parametrize("jit", [False, True])
def test_refused_masks_of_unknown_shape(name, engine, jit):
    """When the graph runs; also where it is compiled, and so without assertions."""
    layer = make(name, engine)
    signature = [tf.TensorSpec([None, None, FEATURES], tf.float64), tf.TensorSpec([None, None], tf.bool)]
    function = tf.function(lambda x, mask: layer(x, mask=mask), signature, autograph=False, jit_compile=jit)
    x = draw(3, 5, FEATURES)
    assert_close(function(x, tf.ones((3, 5), tf.bool)), layer(x), OUTPUT_BOUND)
    for shape in ((3, 1), (1, 1), (3, 4), (3, 6), (2, 5)):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            tf.nest.map_structure(np.asarray, function(x, tf.ones(shape, tf.bool)))


# Types of numbers


@each_name
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_input_is_refused(name, engine, dtype):
    with pytest.raises(TypeError, match=f"sequences should hold real numbers, got {dtype}"):
        make(name, engine)(tf.cast(draw(3, 5, FEATURES), dtype))


@pytest.mark.parametrize(
    ("policy", "autocast"),
    [
        *((policy, True) for policy in ("float32", "float64", "mixed_bfloat16")),
        ("float32", False),
        ("mixed_float16", False),
    ],
)
@pytest.mark.parametrize(
    ("name", "engine", "unroll"),
    [*((name, "fused", False) for name in NAMES), ("LSTM", "fused", True), ("LSTM", "reference", False)],
)
def test_input_of_another_type(name, engine, policy, autocast, unroll):
    """Keras's types, and its numbers to the rounding of either type; states are of another type as well."""
    ours, theirs = (make(name, each, dtype=policy, autocast=autocast, unroll=unroll) for each in (engine, "keras"))
    for dtype in ("float64", "float32", "float16", "bfloat16", "int32"):
        x = tf.cast(3 * draw(3, 5, FEATURES), dtype)
        state = [tf.cast(draw(3, UNITS, seed=3 + i), dtype) for i in range(states_of(name))]
        found, expected = ours(x, initial_state=state), theirs(x, initial_state=state)
        assert [each.dtype for each in found] == [each.dtype for each in expected]
        unit = {"mixed_bfloat16": 2**-7, "mixed_float16": 2**-10, "float32": 2**-22}.get(policy, 2**-50)
        if not autocast and dtype in ("float16", "bfloat16"):
            unit = 2**-7  # Keras multiplies in the lower type
        assert_close([tf.cast(a, "float64") for a in found], [tf.cast(b, "float64") for b in expected], 16 * unit)


@each_name
def test_input_of_another_type_and_dropout(name, engine):
    """With autocast=False, where Keras fails: as if the input had been cast."""
    results = []
    for dtype in ("float64", "float32"):
        layer = make(name, engine, dtype="float32", autocast=False, dropout=0.3, recurrent_dropout=0.3, seed=3)
        results.append(list(layer(tf.cast(draw(3, 5, FEATURES), dtype), training=True)))
    assert_close(*results, 0.0)


# Gates held at 0 and at 1

TYPES = ["bfloat16", "float16", "float32", "float64"]
GATES = {"LSTM": ("i", "f", "c", "o"), "GRU": ("z", "r", "n"), "GRU v3": ("z", "r", "n")}


ON, OFF, FREE = 1e4, -1e4, np.nan  # the bias of a gate that is exactly 1, exactly 0, or not held


def held(cell, engine, dtype, units=UNITS, **biases):
    """A layer some of whose gates have no weights but a bias: for each gate that of all units, or of each."""
    layer = make(cell, engine, units, dtype=dtype)
    kernel, recurrent_kernel, bias = (2 * np.asarray(tf.cast(w, "float64")) for w in layer.get_weights())
    rows = np.atleast_2d(bias)
    for gate, given in biases.items():
        given = np.broadcast_to(given, units)
        columns = GATES[cell].index(gate) * units + np.flatnonzero(~np.isnan(given))
        kernel[:, columns] = recurrent_kernel[:, columns] = rows[:, columns] = 0
        rows[0, columns] = given[~np.isnan(given)]
    layer.set_weights([kernel, recurrent_kernel, bias])
    return layer


def bits(tensor):
    return np.asarray(tf.cast(tensor, "float64"))


def small_state(cell, dtype, units=UNITS):
    """From 1e-4 to 1, which rounding would lose in any sum with a number of order 1."""
    start = [10.0 ** -(np.arange(3.0 * units) % 12).reshape(3, units) / (1 + i) for i in range(states_of(cell))]
    return [tf.cast(np.maximum(each, 1e-4 if dtype == "float16" else 1e-11), dtype) for each in start]


def tanh(x, engine):
    """As the engine computes it: the last bit is TensorFlow's own, and depends on how many are computed at once."""
    if engine != "native" or x.dtype.size < 4 or operation.absent():
        return tf.tanh(x)
    y = x.numpy().copy()
    library.load().rnn_activate(y.itemsize, 0, ctypes.c_int64(y.size), ctypes.c_void_p(y.ctypes.data))
    return tf.constant(y)


def candidate(dtype, engine):
    """tanh(0.25) of as many numbers as there are states."""
    return tanh(tf.fill((3, UNITS), tf.cast(0.25, dtype)), engine)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("cell", ["GRU", "GRU v3"])
def test_a_gru_holds_its_state_to_the_bit(cell, dtype, engine):
    """z = 1: h stays, over 50 steps. z = 0: h is ñ, here tanh(0.25) whatever h was. In a graph, which TensorFlow rewrites."""
    x = tf.cast(draw(3, 50, FEATURES), dtype)
    (h,) = small_state(cell, dtype)
    layer = held(cell, engine, dtype, z=[ON, ON, OFF, OFF], n=[FREE, FREE, 0.25, 0.25])
    expected = np.where([True, True, False, False], bits(h), bits(candidate(dtype, engine)))
    outputs, final = tf.function(layer)(x, initial_state=[h])
    assert np.array_equal(bits(outputs), np.repeat(expected[:, None], 50, 1))
    assert np.array_equal(bits(final), expected)


@pytest.mark.parametrize("dtype", TYPES)
def test_an_lstm_holds_its_cell_to_the_bit(dtype, engine):
    """f = 1, i = 0: c stays. f = 0, i = 1: c is c̃. o = 0: h is 0. o = 1: h is tanh(c). A unit for each of the four."""
    x = tf.cast(draw(3, 50, FEATURES), dtype)
    state = small_state("LSTM", dtype)
    layer = held("LSTM", engine, dtype, f=[ON, OFF, ON, OFF], i=[OFF, ON, OFF, ON], o=[ON, ON, OFF, OFF], c=0.25)
    outputs, h, found = tf.function(layer)(x, initial_state=state)
    c = tf.where([True, False, True, False], state[1], candidate(dtype, engine))
    expected = np.where([True, True, False, False], bits(tanh(c, engine)), 0)
    assert np.array_equal(bits(found), bits(c))
    assert np.array_equal(bits(h), expected)
    assert np.array_equal(bits(outputs), np.repeat(expected[:, None], 50, 1))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("cell", GATES)
def test_gradients_of_held_gates(cell, dtype, engine):
    """With a unit for every combination of gates held at 0, held at 1 and not held: finite; a held gate's own are 0."""
    biases = np.array(list(itertools.product([FREE, OFF, ON], repeat=len(GATES[cell])))).T
    units = biases.shape[1]
    layer = held(cell, engine, dtype, units, **dict(zip(GATES[cell], biases, strict=True)))
    x, state = tf.cast(draw(3, 6, FEATURES), dtype), small_state(cell, dtype, units)
    returned, gradients = run(layer, x, state, None)
    assert all(np.isfinite(bits(each)).all() for each in tf.nest.flatten([returned, gradients]))
    of_kernel = bits(gradients[1 + len(state)])
    assert not of_kernel[:, ~np.isnan(biases).ravel()].any()
    assert of_kernel[:, np.isnan(biases).ravel()].any()


@pytest.mark.parametrize("held_back", [False, True])
def test_relu_that_is_off_lets_no_infinite_gradient_through(cell, held_back):
    """Of the fused engine; the derivative that TensorFlow has of relu multiplies by 0, which gives NaN."""
    layer = make(cell, "fused", activation="relu")
    kernel, recurrent_kernel, bias = layer.get_weights()
    bias[...] = -10 if held_back else 10
    layer.set_weights([0 * kernel, 0 * recurrent_kernel, bias])
    x = draw(2, 1, FEATURES)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)[0]
    gradients = tape.gradient(outputs, weights_of(layer), tf.fill(outputs.shape, tf.constant(np.inf, tf.float64)))
    candidate = slice(2 * UNITS, 3 * UNITS) if cell != "SimpleRNN" else slice(None)
    of_bias = np.asarray(gradients[2])[..., candidate]
    assert (of_bias == 0).all() if held_back else not np.isfinite(of_bias).all()


# Sums over many steps


@functools.cache
def gradients_of_1000_steps(cell, engine, policy, **options):
    layer = make(cell, engine, dtype=policy, return_state=False, **options)

    @tf.function(autograph=False)
    def compute(x):
        with tf.GradientTape() as tape:
            outputs = tf.cast(layer(x, training=True), tf.float64)
            total = tf.reduce_mean(outputs) + tf.reduce_mean(outputs**2)
        return tape.gradient(total, weights_of(layer))

    return [np.asarray(each, "float64") for each in compute(draw(4, 1000, FEATURES) + 0.5)]


@pytest.mark.parametrize(
    ("cell", "policy", "options"),
    [
        *((cell, policy, {}) for cell in CELLS for policy in ("mixed_bfloat16", "mixed_float16")),
        ("SimpleRNN", "mixed_float16", {"recurrent_dropout": 1e-9}),  # which `fused` leaves to `reference`
        ("LSTM", "mixed_bfloat16", {"recurrent_dropout": 1e-9}),
        ("GRU", "mixed_bfloat16", {"recurrent_dropout": 1e-9}),
        ("GRU v3", "mixed_float16", {"recurrent_dropout": 1e-9}),
    ],
)
def test_gradients_of_1000_steps_in_low_precision(cell, policy, options):
    """Within twice Keras's error and rounding, against float64."""
    unit = {"mixed_bfloat16": 2**-8, "mixed_float16": 2**-11}[policy]
    for ours, theirs, exact in zip(
        gradients_of_1000_steps(cell, "auto", policy, **options),
        gradients_of_1000_steps(cell, "keras", policy),
        gradients_of_1000_steps(cell, "keras", "float64"),
        strict=True,
    ):
        assert deviation(ours, exact) <= 2 * deviation(theirs, exact) + 4 * unit


def test_the_bias_of_a_large_batch_in_float16(cell):
    """TensorFlow adds float16 up in float16: 40,000 times 2^−10 would be 2 at most."""
    layer = make(cell, "fused", dtype="float16")
    x = tf.zeros((40_000, 1, FEATURES), tf.float16)
    with tf.GradientTape() as tape:
        outputs = layer(x)[0]
    cotangent = tf.fill(outputs.shape, tf.constant(2.0**-10, tf.float16))
    found = np.asarray(tape.gradient(outputs, weights_of(layer)[2], cotangent), "float64")
    single = make(cell, "fused", dtype="float64")
    single.set_weights(layer.get_weights())
    with tf.GradientTape() as tape:
        outputs = single(tf.zeros((1, 1, FEATURES)))[0]
    once = tape.gradient(outputs, weights_of(single)[2], tf.fill(outputs.shape, tf.constant(2.0**-10, tf.float64)))
    assert deviation(found, 40_000 * np.asarray(once)) <= 2**-8


# Sparse gradients

READERS = {
    "tf.gather": lambda h: tf.gather(h, [0, 2, 2]),
    "tf.gather_nd": lambda h: tf.gather_nd(h, [[0], [2]]),
    "keras.ops.take": lambda h: keras.ops.take(h, [0, 2], axis=0),
    "tf.nn.embedding_lookup": lambda h: tf.nn.embedding_lookup(h, [1, 2]),
    "tf.gather of the last axis": lambda h: tf.gather(h, [0, 2, 2], axis=-1),
    "tf.boolean_mask": lambda h: tf.boolean_mask(h, [True, False, True]),
}


def sparse_gradients(layer, read):
    """Into the last result alone and into all of them: outputs, final states, every state at every step."""
    x = draw(3, 5, FEATURES)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        squares = [tf.reduce_sum(read(each) ** 2) for each in layer(x)]
        totals = [squares[-1], tf.add_n(squares)]
    return [tape.gradient(total, [x, *weights_of(layer)]) for total in totals]


@functools.cache
def dense_gradients(cell, reader):
    """Of `reference`; where rows are read, by a product, whose gradient is dense."""
    rows = READERS[reader](tf.eye(3, dtype=tf.float64))
    by_product = rows.shape[-1] == 3 and "last" not in reader
    read = (lambda h: tf.tensordot(rows, h, 1)) if by_product else READERS[reader]
    return sparse_gradients(make(cell, "reference", return_all_states=True), read)


@pytest.mark.parametrize(
    ("cell", "engine", "graph", "reader"),
    [
        *(("LSTM", engine, graph, reader) for engine in FAST for graph in (False, True) for reader in READERS),
        *((cell, e, graph, "tf.gather") for e in FAST for graph in (False, True) for cell in CELLS if cell != "LSTM"),
        *((cell, engine, False, "tf.gather_nd") for engine in FAST for cell in CELLS if cell != "LSTM"),
        *(("LSTM", "reference", graph, "tf.gather") for graph in (False, True)),
    ],
)
def test_sparse_gradients(cell, engine, graph, reader):
    compute = tf.function(sparse_gradients, autograph=False) if graph else sparse_gradients
    found = compute(layer_of(cell, engine, return_all_states=True), READERS[reader])
    assert_close(found, dense_gradients(cell, reader))


# The user's own activations and cells


class Unhashable:
    """An activation as an object that defines equality and so has no hash."""

    def __init__(self, scale):
        self.scale = scale

    def __eq__(self, other):
        return isinstance(other, Unhashable) and self.scale == other.scale

    __hash__ = None

    def __call__(self, x):
        return self.scale * tf.tanh(x)


@pytest.mark.parametrize("which", ["activation", "recurrent_activation"])
def test_an_activation_without_a_hash(cell, engine, which):
    if cell == "SimpleRNN" and which != "activation":
        return
    options = {which: Unhashable(0.5)}
    x, valid = draw(3, 5, FEATURES), tf.constant([[True, False, True, True, True]] * 3)
    ours, theirs = make(cell, engine, **options), make(cell, "keras", **options)
    assert_close(run(ours, x, [], valid), run(theirs, x, [], valid))
    assert engine == "reference" or "activations" in ours.explain(x).refused[engine]


def own_cells(name):
    """Cells with steps of the user's own: each with the same change of the built-in cell, for comparison."""

    def doubled(base):
        class Own(base):
            def call(self, inputs, states, training=False):
                output, states = super().call(inputs, states, training=training)
                return 2 * output, states

        return Own

    return doubled(getattr(rnn_tf, f"{name}Cell")), doubled(getattr(keras.layers, f"{name}Cell"))


@each_name
@pytest.mark.parametrize(
    ("engine", "masked", "backwards"), [("fused", False, False), ("fused", True, True), ("reference", True, False)]
)
def test_a_cell_with_its_own_step(name, engine, masked, backwards):
    """The step runs: put into a layer, in a subclass of one, or Keras's own cell."""
    ours, theirs = own_cells(name)
    x = draw(3, 5, FEATURES)
    valid = tf.constant([[True, False, True, True, True], [True] * 5, [False] * 5]) if masked else None
    options = {"go_backwards": backwards, "return_sequences": True, "return_state": True, "dtype": "float64"}

    def layer_with(package, cell):
        layer = getattr(package, name)(UNITS, **options, **({"engine": engine} if package is rnn_tf else {}))
        keras.utils.set_random_seed(0)
        layer.cell = cell(UNITS, dtype="float64")
        layer.build((None, None, FEATURES))
        return layer

    class Subclass(getattr(rnn_tf, name)):
        cell_class = ours

    expected = run(layer_with(keras.layers, theirs), x, [], valid)
    for cell in (ours, theirs):
        assert_close(run(layer_with(rnn_tf, cell), x, [], valid), expected)
    keras.utils.set_random_seed(0)
    layer = Subclass(UNITS, engine=engine, **options)
    keras.utils.set_random_seed(0)
    layer.build((None, None, FEATURES))
    layer.set_weights(layer_with(keras.layers, theirs).get_weights())
    assert_close(run(layer, x, [], valid), expected)


@each_name
def test_weights_that_are_changed_on_their_way_to_the_step(name):
    class Own(getattr(rnn_tf, f"{name}Cell")):
        def packed(self):
            return [0 * each for each in super().packed()]

    layer = getattr(rnn_tf, name)(UNITS, dtype="float64")
    layer.cell = Own(UNITS, dtype="float64")
    assert not np.asarray(layer(draw(3, 5, FEATURES))).any()


@each_name
def test_every_state_of_a_cell_with_its_own_step_is_refused(name):
    layer = getattr(rnn_tf, name)(UNITS, dtype="float64", return_all_states=True)
    layer.cell = own_cells(name)[0](UNITS, dtype="float64")
    with pytest.raises(
        ValueError, match="return_all_states=True needs a cell of rnn_tf with its own equations, got Own"
    ):
        layer(draw(3, 5, FEATURES))


# Both directions


@pytest.mark.parametrize("masked", [False, True])
def test_every_state_of_both_directions_beside_the_outputs(cell, engine, masked):
    layer = make(cell, engine, return_all_states=True)
    layer = keras.layers.Bidirectional(layer, dtype="float64")
    valid = tf.constant([[True, True, True, False, False], [True] * 5, [True, False, True, False, True]])
    outputs, *states = layer(draw(3, 5, FEATURES), mask=valid if masked else None)
    half = len(states) // 2
    for direction in range(2):
        h = states[direction * half + states_of(cell)]
        own = outputs[..., direction * UNITS :][..., :UNITS]
        where = valid if masked else tf.ones((3, 5), tf.bool)
        assert np.array_equal(np.asarray(h)[where], np.asarray(own)[where])
        final = states[direction * half]
        assert np.array_equal(np.asarray(h)[:, 0 if direction else -1], np.asarray(final))


# A graph around the layer


def twice(layer, x):
    """Two calls, the state carried on."""
    first = layer(x)
    return weighted(layer(first[0], initial_state=list(first[1:])))


def state_from_input(layer, x):
    start = [tf.tanh(x[:, 0] * (i + 1)) for i in range(len(layer.state_size))]
    return weighted(layer(x, initial_state=start))


@functools.lru_cache(maxsize=1)
def like(layer):
    """A second layer. A graph makes no variables, so it is made before."""
    other = type(layer).from_config(layer.get_config())
    other.build((None, None, layer.units))
    return other


def shared(layer, x):
    """The same variables in two layers, and once more in the loss."""
    other, weights = like(layer), weights_of(layer)
    outputs = other.stateless_call(weights, [v.value for v in other.non_trainable_variables], layer(x)[0])[0]
    return weighted(outputs) * tf.reduce_sum(weights[1] ** 2)


def decoder(layer, x):
    """Fed its own outputs, a step at a time."""
    y, state, outputs = x[:, :1], None, []
    for _ in range(3):
        y, *state = layer(y, initial_state=state)
        outputs.append(y)
    return weighted(tf.concat(outputs, 1))


def gathered(layer, x):
    outputs, *state = layer(x)
    rows = [tf.reduce_sum(tf.gather(each, [1, 1, 0]) ** 2) for each in (outputs, *state)]
    return tf.add_n([*rows, tf.reduce_sum(tf.gather(outputs, [2, 0], axis=1) ** 3)])


def state_stopped(layer, x):
    outputs, *state = layer(x)
    return weighted(layer(outputs, initial_state=[tf.stop_gradient(each) for each in state]))


def masked(layer, x):
    return weighted(layer(x, mask=tf.constant([[True, False, True, True], [True, True, False, False]])))


def in_a_while_loop(layer, x):
    return weighted(tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, layer(y)[0]), (0, x))[1])


def in_map_fn(layer, x):
    return weighted(tf.map_fn(lambda sequence: layer(sequence[None])[0][0], x))


def vectorized(layer, x):
    start = draw(2, 3, seed=4)

    def one(each):
        return layer(each[0][None], initial_state=[each[1][None]] * len(layer.state_size))[0][0]

    if isinstance(layer, Layer):
        return weighted(tf.vectorized_map(one, (x, start)))
    return weighted(layer(x, initial_state=[start] * len(layer.state_size))[0])


def recomputed(layer, x):
    return weighted(tf.recompute_grad(lambda x: layer(x)[0])(x))


# The first five are asked for in test_graphs too, but not in a graph of TensorFlow's.
AROUND = [twice, state_from_input, shared, decoder, gathered, state_stopped, masked]
SQUARE = {"units": 3, "features": 3}  # so that outputs can be inputs


def first_derivatives(layer, around):
    x = draw(2, 4, 3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = around(layer, x)
    return tape.gradient(total, [x, *weights_of(layer)], unconnected_gradients="zero")


def second_derivatives(layer, around):
    x = draw(2, 4, 3)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            total = around(layer, x)
        sources = [x, *weights_of(layer)]
        first = weighted(inner.gradient(total, sources, unconnected_gradients="zero"))
    return outer.gradient(first, sources, unconnected_gradients="zero")


def persistent_tapes(layer, around):
    """Each asked twice."""
    x = draw(2, 4, 3)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(x)
            total = twice(layer, x)
        sources = [x, *weights_of(layer)]
        first = weighted(inner.gradient(total, sources)) + tf.reduce_sum(inner.gradient(total, x) ** 2)
    return [*outer.gradient(first, sources), *outer.gradient(total, sources)]


def meta_gradient(layer, around):
    """Through two gradient steps on the weights, as in MAML."""
    x, others = draw(2, 4, 3), [v.value for v in layer.non_trainable_variables]
    with tf.GradientTape() as outer:
        start = weights = weights_of(layer)
        outer.watch(start)
        for _ in range(2):
            with tf.GradientTape() as inner:
                inner.watch(weights)
                total = weighted(layer.stateless_call(weights, others, x)[0])
            steps = inner.gradient(total, weights)
            weights = [w - 0.1 * step for w, step in zip(weights, steps, strict=True)]
        total = weighted(layer.stateless_call(weights, others, 0.5 * x)[0])
    return outer.gradient(total, start)


def jacobians(layer, around):
    x = draw(2, 4, 3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)[0]
    return tape.jacobian(outputs, [x, *weights_of(layer)])


def forward_mode(layer, around):
    primals = [draw(2, 4, 3), *weights_of(layer)]
    tangents = [draw(*each.shape, seed=30 + i) for i, each in enumerate(primals)]
    with tf.autodiff.ForwardAccumulator(primals, tangents) as accumulator:
        returned = layer(primals[0])
    return accumulator.jvp(list(returned))


@functools.cache
def expected_of_keras(cell, derive, around):
    return derive(make(cell, "keras", **SQUARE), around)


def check_derivatives(cell, engine, derive, around=None, **options):
    layer = make(cell, engine, **SQUARE)
    like(layer)
    compute = tf.function(derive, autograph=False, **options) if options else derive
    assert_close(compute(layer, around), expected_of_keras(cell, derive, around))


GRAPH = {"jit_compile": False}


def name_of(each):
    return getattr(each, "__name__", str(each))


@pytest.mark.parametrize(
    ("cell", "around", "options"),
    [
        *((cell, around, GRAPH) for cell in CELLS for around in [*AROUND, in_a_while_loop, in_map_fn, recomputed]),
        *((cell, around, {}) for cell in CELLS for around in (in_a_while_loop, recomputed)),
        ("LSTM", in_map_fn, {}),
        *((cell, vectorized, {}) for cell in ("SimpleRNN", "GRU")),
        *((cell, vectorized, GRAPH) for cell in ("LSTM", "GRU v3")),
        *((cell, twice, {"jit_compile": True}) for cell in CELLS),
    ],
    ids=name_of,
)
@each_fast
def test_first_derivatives_of_a_graph_around(cell, around, options, engine):
    check_derivatives(cell, engine, first_derivatives, around, **options)


@pytest.mark.parametrize(
    ("cell", "around", "options"),
    [("LSTM", twice, GRAPH), *((cell, masked, {}) for cell in CELLS)],
    ids=name_of,
)
@each_fast
def test_second_derivatives_of_a_graph_around(cell, around, options, engine):
    """Those of one call in a graph are in test_engines_tf, of every cell."""
    check_derivatives(cell, engine, second_derivatives, around, **options)


@pytest.mark.parametrize(
    ("cell", "derive"),
    [
        *((cell, forward_mode) for cell in CELLS),
        *((cell, derive) for cell in ("LSTM", "GRU v3") for derive in (meta_gradient, persistent_tapes)),
    ],
    ids=name_of,
)
@each_fast
def test_other_derivatives(cell, derive, engine):
    check_derivatives(cell, engine, derive)


@each_fast
def test_jacobians(engine):
    """Of input and weights; those of each sequence by itself are in test_engines_tf."""
    check_derivatives("GRU v3", engine, jacobians)
