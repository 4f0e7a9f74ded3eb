"""rnn_tf in the place of `keras.layers`' recurrent layers and cells: what users of Keras do with them, compared with Keras."""

import inspect
import itertools
import subprocess
import sys

import numpy as np
import pytest

keras = pytest.importorskip("keras", minversion="3.15", reason="states what Keras 3.15 does")
tf = pytest.importorskip("tensorflow")

import rnn_tf
from rnn_common.cells import IN_BOTH
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation

NAMES = IN_BOTH
each_layer = pytest.mark.parametrize("name", NAMES)
each_cell = pytest.mark.parametrize("name", [f"{name}Cell" for name in NAMES])
each_engine = pytest.mark.parametrize("engine", ["auto", *rnn_tf.ENGINES])

MASKS = {
    "right": [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]],
    "left": [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 1, 1, 1, 1]],
    "holes": [[1, 0, 1, 0, 1], [0, 1, 1, 0, 0], [1, 1, 0, 1, 1]],
    "a row all masked": [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]],
}


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def pair(name, *args, features=3, **options):
    """Our layer or cell and Keras's, built from the same seed, in float64 unless said otherwise."""
    made = []
    for package in (rnn_tf, keras.layers):
        keras.utils.set_random_seed(0)
        layer = getattr(package, name)(*(args or (4,)), **({"dtype": "float64"} | options))
        layer.build((None, features) if name.endswith("Cell") else (3, None, features))
        made.append(layer)
    return made


def flat(nested):
    return [np.asarray(tensor) for tensor in keras.tree.flatten(nested)]


def assert_close(found, expected, bound):
    found, expected = flat(found), flat(expected)
    assert [a.shape for a in found] == [b.shape for b in expected]
    assert [a.dtype for a in found] == [b.dtype for b in expected]
    assert all(deviation(a, b) <= bound for a, b in zip(found, expected, strict=True))


def differentiate(layer, x, **call):
    """Outputs, and gradients of the input, initial state and every weight for one random cotangent."""
    x = tf.constant(x)
    state = [tf.constant(h) for h in call.pop("initial_state", [])]
    with tf.GradientTape() as tape:
        tape.watch([x, *state])
        outputs = keras.tree.flatten(layer(x, **call, **({"initial_state": state} if state else {})))
    weights = [v.value for v in layer.trainable_variables]
    cotangents = [tf.constant(draw(*output.shape, seed=i), output.dtype) for i, output in enumerate(outputs)]
    return outputs, tape.gradient(outputs, [x, *state, *weights], cotangents)


def compare(ours, theirs, x, **call):
    (found, found_gradients), (expected, expected_gradients) = (differentiate(m, x, **call) for m in (ours, theirs))
    assert_close(found, expected, OUTPUT_BOUND)
    assert_close(found_gradients, expected_gradients, GRADIENT_BOUND)


# The signature


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}Cell" for name in NAMES)])
def test_signature(name):
    def arguments(package):
        return [(p.name, p.default) for p in inspect.signature(getattr(package, name)).parameters.values()]

    assert arguments(rnn_tf) == arguments(keras.layers)


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}Cell" for name in NAMES)])
@pytest.mark.parametrize("bias", [True, False])
def test_weights(name, bias):
    """Names, shapes, order, and values from the same seed."""
    ours, theirs = pair(name, use_bias=bias)
    assert [v.path.split("/")[1:] for v in ours.weights] == [v.path.split("/")[1:] for v in theirs.weights]
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))


def options_of(name):
    flags = dict(return_sequences=[True, False], return_state=[True, False], go_backwards=[True, False])
    flags |= dict(unroll=[True, False], zero_output_for_mask=[True, False])
    flags |= dict(activation=["tanh", "relu", None], use_bias=[True, False])
    flags |= dict(rates=[(0.0, 0.0), (0.3, 0.0), (0.0, 0.4), (0.3, 0.4)], mask=[None, *MASKS], state=[True, False])
    if name != "SimpleRNN":
        flags |= dict(recurrent_activation=["sigmoid", "hard_sigmoid"], implementation=[1, 2])
    if name == "LSTM":
        flags |= dict(unit_forget_bias=[True, False])
    if name == "GRU":
        flags |= dict(reset_after=[True, False])
    return flags


@each_layer
@pytest.mark.parametrize("seed", range(14))
def test_random_combinations_of_options(name, seed):
    """Outputs, states and gradients, with the same dropout masks in training."""
    random = np.random.default_rng((seed, NAMES.index(name)))
    chosen = {key: values[random.integers(len(values))] for key, values in options_of(name).items()}
    dropout, recurrent_dropout = chosen.pop("rates")
    mask, state = chosen.pop("mask"), chosen.pop("state")
    if chosen["unroll"] and chosen["go_backwards"] and chosen["zero_output_for_mask"]:
        mask = None  # there Keras is wrong; see tests/parity/test_differences.py
    if name == "GRU" and dropout and not recurrent_dropout:
        chosen["implementation"] = 2  # with 1, Keras's GRU fails on its own dropout masks
    ours, theirs = pair(name, dropout=dropout, recurrent_dropout=recurrent_dropout, seed=3, **chosen)
    call = {"training": bool(dropout or recurrent_dropout)}
    if mask:
        call["mask"] = tf.cast(MASKS[mask], tf.bool)
    if state:
        call["initial_state"] = [draw(3, 4, seed=5), draw(3, 4, seed=6)][: len(ours.state_size)]
    found, found_gradients = differentiate(ours, draw(3, 5, 3), **call)
    expected, expected_gradients = differentiate(theirs, draw(3, 5, 3), **call)
    assert_close(found, expected, OUTPUT_BOUND)
    assert_close(found_gradients, expected_gradients, GRADIENT_BOUND)


@each_layer
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("zero", [True, False])
def test_masks(name, mask, zero):
    ours, theirs = pair(name, return_sequences=True, return_state=True, zero_output_for_mask=zero)
    states = [draw(3, 4, seed=5), draw(3, 4, seed=6)][: len(ours.state_size)]
    compare(ours, theirs, draw(3, 5, 3), mask=tf.cast(MASKS[mask], tf.bool), initial_state=states)


@each_layer
@pytest.mark.parametrize("source", ["Masking", "Embedding"])
def test_masks_from_other_layers(name, source):
    """Functional models whose batch and time dimensions are unknown."""
    ours, theirs = pair(name, return_sequences=True)
    x = draw(3, 5, 3) * np.array(MASKS["holes"])[:, :, None]
    shape, dtype = (None, 3), "float64"
    before = keras.layers.Masking(dtype="float64")
    if source == "Embedding":
        x = np.array([[1, 2, 0, 0, 0], [3, 0, 1, 0, 2], [0, 0, 4, 4, 1]])
        shape, dtype = (None,), "int64"
        before = keras.layers.Embedding(5, 3, mask_zero=True, dtype="float64")
    results = []
    for layer in (ours, theirs):
        inputs = keras.Input(shape, dtype=dtype)
        hidden = layer(before(inputs))
        model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D(dtype="float64")(hidden))
        results.append([model.predict(x[:, :time], verbose=0) for time in (5, 3)])
    assert_close(*results, OUTPUT_BOUND)


@each_layer
def test_stateful(name):
    ours, theirs = pair(name, stateful=True, return_sequences=True)
    for seed in (1, 2):
        compare(ours, theirs, draw(3, 5, 3, seed=seed))
    with pytest.raises(ValueError, match="batch size"):
        ours(draw(2, 5, 3))
    before = np.asarray(ours(draw(3, 5, 3)))
    ours.reset_state()
    theirs.reset_state()
    compare(ours, theirs, draw(3, 5, 3))
    assert not np.array_equal(before, np.asarray(ours(draw(3, 5, 3))))


@each_layer
def test_regularizers_constraints_and_initializers(name):
    options = {
        f"{w}_regularizer": keras.regularizers.L2(0.1 * i) for i, w in enumerate(("kernel", "recurrent", "bias"), 1)
    }
    options |= {"activity_regularizer": "l1", "kernel_constraint": "max_norm", "recurrent_initializer": "he_normal"}
    options |= {"bias_initializer": "ones", "kernel_initializer": keras.initializers.RandomNormal(seed=4)}
    ours, theirs = pair(name, **options)
    assert_close(ours.get_weights(), theirs.get_weights(), 0.0)
    compare(ours, theirs, draw(3, 5, 3))
    assert len(ours.losses) == 4
    if name == "SimpleRNN":  # Keras takes its activity_regularizer and forgets it
        assert len(theirs.losses) == 3
    else:
        assert_close(ours.losses, theirs.losses, OUTPUT_BOUND)
    assert isinstance(ours.trainable_variables[0].constraint, keras.constraints.MaxNorm)


@each_cell
@pytest.mark.parametrize("nested", [True, False])
def test_cells(name, nested):
    ours, theirs = pair(name)
    states = [draw(3, 4, seed=5), draw(3, 4, seed=6)] if name == "LSTMCell" else [draw(3, 4, seed=5)]
    states = states if nested or name == "LSTMCell" else states[0]
    assert_close(ours(draw(3, 3), states), theirs(draw(3, 3), states), OUTPUT_BOUND)
    assert_close(ours.get_initial_state(2), theirs.get_initial_state(2), 0.0)


@each_layer
def test_bad_input(name):
    layer = getattr(rnn_tf, name)
    with pytest.raises(ValueError, match="expected a positive integer, got 0"):
        layer(0)
    with pytest.raises(ValueError, match=r"engine should be one of auto, .*got 'warp'"):
        layer(4, engine="warp")
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        layer(4)(draw(3, 5))
    with pytest.raises(ValueError, match="speed"):
        layer(4, speed=1)
    if name != "SimpleRNN":
        with pytest.raises(ValueError, match="argument `use_cudnn`"):
            layer(4, use_cudnn="often")
        with pytest.raises(ValueError, match="use_cudnn=True was specified"):
            layer(4, use_cudnn=True)(draw(3, 5, 3))
        compare(*pair(name, use_cudnn=False), draw(3, 5, 3))


# Models and wrappers


def model_of(package, name, kind):
    keras.utils.set_random_seed(0)
    layers = [
        getattr(package, name)(4, return_sequences=True, dtype="float64"),
        getattr(package, name)(2, dtype="float64"),
    ]
    if kind == "Sequential":
        return keras.Sequential([keras.Input((None, 3), dtype="float64"), *layers])
    if kind == "Functional":
        inputs = keras.Input((None, 3), dtype="float64")
        return keras.Model(inputs, layers[1](layers[0](inputs)))

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(dtype="float64")
            self.first, self.second = layers

        def call(self, x):
            return self.second(self.first(x))

    return Subclassed()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SimpleRNN", "Sequential"),
        ("GRU", "Functional"),
        *(("LSTM", kind) for kind in ("Sequential", "Functional", "Subclassed")),
    ],
)
def test_fit_evaluate_predict(name, kind):
    """Three epochs of training end at the same weights, losses and predictions."""
    x, y, results = draw(8, 5, 3), draw(8, 2, seed=2), []
    for package in (rnn_tf, keras.layers):
        model = model_of(package, name, kind)
        model.compile("sgd", "mse", jit_compile=False)
        keras.utils.set_random_seed(1)
        losses = model.fit(x, y, batch_size=4, epochs=3, verbose=0).history["loss"]
        losses.append(model.evaluate(x, y, verbose=0))
        results.append([losses, model.predict(x, verbose=0), model.get_weights()])
    # Keras reports a loss as a float32 mean.
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert_close(results[0][1:], results[1][1:], GRADIENT_BOUND)


@each_layer
def test_symbolic_initial_state(name):
    """An encoder's final state into a decoder, in a Functional model."""
    results = []
    for package in (rnn_tf, keras.layers):
        keras.utils.set_random_seed(0)
        source, target = (keras.Input((None, 3), dtype="float64") for _ in range(2))
        _, *state = getattr(package, name)(4, return_state=True, dtype="float64")(source)
        decoded = getattr(package, name)(4, return_sequences=True, dtype="float64")(target, initial_state=state)
        model = keras.Model([source, target], decoded)
        results.append(model.predict([draw(2, 5, 3), draw(2, 3, 3, seed=2)], verbose=0))
    assert_close(*results, OUTPUT_BOUND)


@each_layer
def test_fit_with_xla(name):
    x, y, results = draw(4, 5, 3), draw(4, 2, seed=2), []
    for jit in (True, False):
        model = model_of(rnn_tf, name, "Sequential")
        model.compile("sgd", "mse", jit_compile=jit)
        model.fit(x, y, batch_size=4, epochs=2, verbose=0)
        results.append(model.get_weights())
    assert_close(*results, GRADIENT_BOUND)


@each_layer
@pytest.mark.parametrize("mask", [None, "right", "holes"])
def test_bidirectional(name, mask):
    call = {} if mask is None else {"mask": tf.cast(MASKS[mask], tf.bool)}
    wrapped = []
    for package in (rnn_tf, keras.layers):
        keras.utils.set_random_seed(0)
        layer = getattr(package, name)(4, return_sequences=True, return_state=True, dtype="float64")
        wrapped.append(keras.layers.Bidirectional(layer, dtype="float64"))
        wrapped[-1].build((3, 5, 3))
    compare(*wrapped, draw(3, 5, 3), **call)


@each_cell
@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.3, 0.4)])
def test_stacked_cells_in_keras_own_layer(name, rates):
    wrapped = []
    for package in (rnn_tf, keras.layers):
        keras.utils.set_random_seed(0)
        cells = [
            getattr(package, name)(units, dropout=rates[0], recurrent_dropout=rates[1], seed=units, dtype="float64")
            for units in (4, 2)
        ]
        stack = keras.layers.StackedRNNCells(cells, dtype="float64")
        wrapped.append(keras.layers.RNN(stack, return_sequences=True, return_state=True, dtype="float64"))
        wrapped[-1].build((3, 5, 3))
    compare(*wrapped, draw(3, 5, 3), training=True)


@each_layer
def test_time_distributed(name):
    wrapped = []
    for package in (rnn_tf, keras.layers):
        keras.utils.set_random_seed(0)
        wrapped.append(keras.layers.TimeDistributed(getattr(package, name)(4, dtype="float64"), dtype="float64"))
        wrapped[-1].build((2, 3, 5, 3))
    compare(*wrapped, draw(2, 3, 5, 3))


# Saving


@each_layer
def test_configuration(name):
    """There and back, and read by Keras's own class."""
    ours = getattr(rnn_tf, name)(
        4,
        activation="relu",
        dropout=0.2,
        seed=5,
        return_sequences=True,
        kernel_regularizer="l2",
        go_backwards=True,
        name="a",
    )
    config = ours.get_config()
    assert getattr(rnn_tf, name).from_config(config).get_config() == config
    theirs = getattr(keras.layers, name).from_config(dict(config))
    assert {**theirs.get_config(), "seed": 5} == config
    chosen = getattr(rnn_tf, name)(4, engine="reference", return_all_states=True)
    again = getattr(rnn_tf, name).from_config(chosen.get_config())
    assert (again.engine, again.return_all_states) == ("reference", True)
    cell = getattr(rnn_tf, f"{name}Cell")(4, recurrent_dropout=0.1)
    assert getattr(rnn_tf, f"{name}Cell").from_config(cell.get_config()).get_config() == cell.get_config()


def test_saved_models_load_in_a_new_process(tmp_path):
    """Knowing nothing but the packages: no custom_objects."""
    x = draw(2, 5, 3)
    np.save(tmp_path / "x.npy", x)
    for name in NAMES:
        model = model_of(rnn_tf, name, "Functional")
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", model.predict(x, verbose=0))
    program = f"""
import sys, numpy as np, keras, rnn_tf
folder = {str(tmp_path)!r}
x = np.load(folder + "/x.npy")
for name in {NAMES!r}:
    model = keras.saving.load_model(folder + "/" + name + ".keras")
    assert isinstance(model.layers[1], getattr(rnn_tf, name))
    assert np.array_equal(model.predict(x, verbose=0), np.load(folder + "/" + name + ".npy"))
print("same")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.strip() == "same", ran.stderr


@each_layer
def test_export_and_serve(name, tmp_path):
    model = model_of(rnn_tf, name, "Functional")
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    for batch, time in ((1, 4), (3, 6)):
        x = draw(batch, time, 3)
        assert_close(served.serve(tf.constant(x)), model(x), OUTPUT_BOUND)


# Precision, derivatives, distribution


@each_layer
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(name, policy):
    """Variables in float32, outputs in the lower precision, no further from float64 than twice Keras's own and a few units."""
    ours, theirs = pair(name, dtype=policy, return_sequences=True)
    exact = getattr(keras.layers, name)(4, return_sequences=True, dtype="float64")
    exact.build((3, 5, 3))
    exact.set_weights(ours.get_weights())
    x = draw(3, 5, 3)
    found, expected, truth = (np.asarray(tf.cast(layer(x), tf.float64)) for layer in (ours, theirs, exact))
    assert ours(x).dtype == policy.removeprefix("mixed_")
    assert {v.dtype for v in ours.trainable_variables} == {"float32"}
    unit = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}[policy]
    assert deviation(found, truth) <= 2 * deviation(expected, truth) + 4 * unit


@each_layer
@pytest.mark.parametrize(("engine", "graph"), [("fused", False), ("fused", True), ("reference", False)])
def test_second_derivatives(name, engine, graph):
    """Nested tapes, to rounding against Keras."""

    def second(layer):
        x, weights = tf.constant(draw(2, 3, 3)), [v.value for v in layer.trainable_variables]

        def compute():
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    output = tf.reduce_sum(layer(x) ** 2)
                first = inner.gradient(output, [x, *weights])
                combined = tf.add_n([tf.reduce_sum(d * draw(*d.shape, seed=i)) for i, d in enumerate(first)])
            return outer.gradient(combined, [x, *weights])

        return (tf.function(compute) if graph else compute)()

    ours, theirs = pair(name)
    ours.engine = engine
    assert_close(second(ours), second(theirs), GRADIENT_BOUND)


@each_layer
@each_engine
def test_forward_mode(name, engine):
    """The directional derivative from forward mode is the one from reverse mode."""
    ours, theirs = pair(name, return_sequences=True)
    ours.engine = engine
    x, direction, cotangent = tf.constant(draw(2, 3, 3)), tf.constant(draw(2, 3, 3, seed=2)), draw(2, 3, 4, seed=3)
    with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
        outputs = ours(x)
    tangent = accumulator.jvp(outputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(theirs(x) * cotangent)
    expected = tf.reduce_sum(tape.gradient(total, x) * direction)
    assert float(tf.reduce_sum(tangent * cotangent)) == pytest.approx(float(expected), rel=1e-12)


def test_mirrored_strategy():
    """Two logical devices with half of the batch each find the gradients that one finds with the whole."""
    program = f"""
import numpy as np, tensorflow as tf, keras, rnn_tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).standard_normal((4, 5, 3))

def gradients(layer, x):
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(x) ** 2)
    return tape.gradient(total, [v.value for v in layer.trainable_variables])

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name in {NAMES!r}:
    with strategy.scope():
        keras.utils.set_random_seed(0)
        layer = getattr(rnn_tf, name)(4, dtype="float64")
        layer.build((None, 5, 3))
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(x[2 * context.replica_id_in_sync_group :][:2]))
    found = strategy.run(lambda part: tf.distribute.get_replica_context().all_reduce("sum", gradients(layer, part)), (parts,))
    keras.utils.set_random_seed(0)
    alone = getattr(rnn_tf, name)(4, dtype="float64")
    alone.build((None, 5, 3))
    for a, b in zip(found, gradients(alone, tf.constant(x)), strict=True):
        for replica in strategy.experimental_local_results(a):
            deviation = np.abs(replica - b).max() / np.abs(b).max()
            assert deviation <= {GRADIENT_BOUND}, (name, deviation)
    assert strategy.num_replicas_in_sync == 2
print("same")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.strip() == "same", ran.stderr


# What Keras lacks


@each_layer
@pytest.mark.parametrize("mask", [None, "right", "holes"])
@pytest.mark.parametrize("backwards", [False, True])
def test_every_state_at_every_step(name, mask, backwards):
    """Against stepping with Keras's cell; a skipped step holds the state; in the order of the input."""
    ours = getattr(rnn_tf, name)(
        4, return_sequences=True, return_all_states=True, go_backwards=backwards, dtype="float64"
    )
    theirs = getattr(keras.layers, f"{name}Cell")(4, dtype="float64")
    x = draw(3, 5, 3)
    valid = np.array(MASKS[mask] if mask else np.ones((3, 5)), bool)
    _, *states = ours(x, mask=tf.constant(valid) if mask else None)
    theirs.build((3, 3))
    theirs.set_weights(ours.get_weights())
    count = len(ours.state_size)
    state, expected = theirs.get_initial_state(3), []
    for t in reversed(range(5)) if backwards else range(5):
        _, after = theirs(x[:, t], state)
        state = [np.where(valid[:, t, None], new, old) for new, old in zip(after, state, strict=True)]
        expected.append(state)
    assert len(states) == 2 * count
    assert_close(states[:count], expected[-1], OUTPUT_BOUND)
    expected = expected[::-1] if backwards else expected
    assert_close(states[count:], [np.stack(each, 1) for each in zip(*expected, strict=True)], OUTPUT_BOUND)


@each_layer
def test_every_state_in_a_functional_model(name):
    inputs = keras.Input((None, 3), dtype="float64")
    layer = getattr(rnn_tf, name)(4, return_all_states=True, dtype="float64")
    outputs = layer(keras.layers.Masking(dtype="float64")(inputs))
    count = len(layer.state_size)
    assert [tuple(o.shape) for o in outputs] == [(None, 4)] * (1 + count) + [(None, None, 4)] * count
    model = keras.Model(inputs, outputs)
    assert [o.shape for o in model.predict(draw(2, 6, 3), verbose=0)] == [(2, 4)] * (1 + count) + [(2, 6, 4)] * count


def test_options_come_in_every_combination():
    """The random combinations reach what they claim to: every value of every option, for each layer."""
    for name in NAMES:
        seen = set()
        for seed in range(14):
            random = np.random.default_rng((seed, NAMES.index(name)))
            seen |= {(k, str(v[random.integers(len(v))])) for k, v in options_of(name).items()}
        assert seen == set(
            itertools.chain.from_iterable([(k, str(v)) for v in vs] for k, vs in options_of(name).items())
        )
