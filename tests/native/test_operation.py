"""TensorFlow's operations around the kernels: first and second derivatives beside those of `fused`, lengths, errors."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

import rnn_tf
from rnn_common.parity.contract import GRADIENT_BOUND, deviation
from rnn_tf import operation
from rnn_tf.cells.base import swapped
from rnn_tf.engines import native

if why := operation.absent():
    pytest.skip(why, allow_module_level=True)


def draw(*shape, seed=1):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape))


def derivatives(layer, x, mask, taped):
    """Of the first order, and of a sum of those; the forward pass outside of a tape where it is not `taped`."""
    sources = [x, *(v.value for v in layer.trainable_variables)]

    @tf.function(autograph=False)
    def first():
        outputs, *state = layer(x, mask=mask)
        loss = tf.reduce_sum(outputs**2) + sum(tf.reduce_sum(tf.sin(h)) for h in state)
        return tf.gradients(loss, sources)

    if not taped:
        return first()
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as inner:
            inner.watch(sources)
            outputs, *state = layer(x, mask=mask)
            loss = tf.reduce_sum(outputs**2) + sum(tf.reduce_sum(tf.sin(h)) for h in state)
        gradients = inner.gradient(loss, sources)
        total = sum(tf.reduce_sum(tf.cos(d)) for d in gradients)
    return [*gradients, *outer.gradient(total, sources)]


@pytest.mark.parametrize("masked", [False, True], ids=["batch major", "masked"])
@pytest.mark.parametrize("taped", [False, True], ids=["graph", "tapes"])
@pytest.mark.parametrize(("cell", "options"), [("GRU", {"reset_after": False}), ("LSTM", {}), ("SimpleRNN", {})])
def test_derivatives(cell, options, taped, masked):
    """In a graph without a tape nothing is kept for the backward pass, which then runs forward again.

    Data with a mask come with the time first, others as they are.
    """
    mask = tf.constant([[True, True, True, True], [True, False, True, False], [False] * 4])
    x, mask = draw(3, 4, 2), mask if masked else None
    results = []
    for engine in ("native", "fused"):
        keras.utils.set_random_seed(0)
        layer = getattr(rnn_tf, cell)(
            3, return_sequences=True, return_state=True, dtype="float64", engine=engine, **options
        )
        layer.build((None, None, 2))
        results.append(derivatives(layer, x, mask, taped))
    for found, expected in zip(*results, strict=True):
        assert deviation(np.asarray(found), np.asarray(expected)) <= GRADIENT_BOUND


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": draw(4, 3)}, "x should have three axes"),
        ({"state": (draw(3, 5),)}, "should be"),
        ({"weights": (draw(2, 9), draw(3, 8))}, r"recurrent_kernel should be \[3,9\]"),
        ({"weights": (draw(2, 9), draw(3, 9), draw(9))}, r"bias should be \[2,9\]"),
        ({"lengths": (tf.constant([1, 2, 5], tf.int64),)}, "lengths should be from 0 to 4, got 5"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    call = native._Call(3, False, draw(4, 3, 2), (draw(3, 3),), (draw(2, 9), draw(3, 9)), ())
    call.forward(keep=True)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        call._replace(**change).forward(keep=True)


@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("all_states", [False, True])
def test_the_order_of_axes_changes_no_bit(cell, all_states):
    layer = getattr(rnn_tf, cell)(5, dtype="float64")
    layer.build((None, None, 2))
    x, weights = draw(3, 4, 2), tuple(v.value for v in layer.weights)
    state = (draw(3, 5, seed=2), draw(3, 5, seed=3))[: 1 + (cell == "LSTM")]
    found = []
    for batch_major in (False, True):
        ordered = (lambda given: given) if batch_major else swapped
        with tf.GradientTape() as tape:
            tape.watch((x, *state, *weights))
            history, final, _ = native.forward(
                layer.cell.recurrence(None, None), weights, ordered(x), state, None, all_states, batch_major=batch_major
            )
            history = [ordered(h) for h in history]
            loss = sum(tf.reduce_sum(h * draw(*h.shape, seed=4)) for h in (*history, *final))
        found.append([*history, *final, *tape.gradient(loss, (x, *state, *weights))])
    assert len(history) == (2 if all_states and cell == "LSTM" else 1)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
