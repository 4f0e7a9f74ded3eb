"""TensorFlow's operations around the kernels: first and second derivatives beside those of `fused`, masks, errors."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

import rnn_tf
from rnn_common.parity.contract import GRADIENT_BOUND, deviation
from rnn_tf import operation
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


# Which of four steps each of five sequences has.
MASKS = {
    "none": None,
    "all": [[1, 1, 1, 1]] * 5,
    "behind": [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]],
    "in front": [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]],
    "between": [[1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 1, 0], [0, 0, 1, 0]],
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("taped", [False, True], ids=["graph", "tapes"])
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("GRU", {"reset_after": False}),
        ("GRU", {}),
        ("LSTM", {}),
        ("LSTM", {"return_all_states": True}),
        ("SimpleRNN", {}),
    ],
)
def test_derivatives(cell, options, taped, mask):
    """In a graph without a tape nothing is kept for the backward pass, which then runs forward again."""
    x, valid = draw(5, 4, 2), None if MASKS[mask] is None else tf.constant(np.array(MASKS[mask], bool))
    results = []
    for engine in ("native", "fused"):
        keras.utils.set_random_seed(0)
        layer = getattr(rnn_tf, cell)(
            3, return_sequences=True, return_state=True, dtype="float64", engine=engine, **options
        )
        layer.build((None, None, 2))
        assert layer.explain(x, valid).engine == engine
        results.append(derivatives(layer, x, valid, taped))
    for found, expected in zip(*results, strict=True):
        assert deviation(np.asarray(found), np.asarray(expected)) <= GRADIENT_BOUND


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_gaps_change_no_bit(cell, dtype):
    """Valid steps with others between give what they give by themselves; the state is held, and its gradient with it."""
    valid = np.array(MASKS["between"], bool)
    x, state = draw(5, 4, 2).numpy(), tuple(draw(5, 3, seed=2 + i) for i in range(1 + (cell == "LSTM")))
    layer = getattr(rnn_tf, cell)(3, dtype=dtype)
    layer.build((None, None, 2))
    alone = np.stack([np.resize(row[steps], row.shape) for row, steps in zip(x, valid, strict=True)])
    in_front = np.sort(~valid, 1) == 0
    given = ((x, valid), (alone, in_front))
    found = []
    for sequences, mask in given:
        sequences = tf.constant(sequences, dtype)
        initial = tuple(tf.cast(h, dtype) for h in state)
        with tf.GradientTape() as tape:
            tape.watch((sequences, *initial))
            (history,), final, _ = native.forward(
                layer.cell.recurrence(None, None), layer.cell.packed(), sequences, initial, tf.constant(mask)[..., None]
            )
            at = history[tf.constant(mask)]
            loss = tf.reduce_sum(at**2) + sum(tf.reduce_sum(h**3) for h in final)
        d_x, *others = tape.gradient(loss, (sequences, *initial, *(v.value for v in layer.weights)))
        assert not np.any(d_x.numpy()[~mask])
        held = np.maximum(np.cumsum(mask, 1) - 1, 0)
        states = np.take_along_axis(history.numpy(), np.argsort(~mask, 1, kind="stable")[..., None], 1)
        expected = np.where(
            np.cumsum(mask, 1)[..., None] > 0, np.take_along_axis(states, held[..., None], 1), initial[0][:, None]
        )
        np.testing.assert_array_equal(history, expected)
        found.append([at, *final, d_x.numpy()[mask], *others])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": draw(4, 3)}, "x should have three axes"),
        ({"state": (draw(3, 5),)}, "should be"),
        ({"weights": (draw(2, 9), draw(3, 8))}, r"recurrent_kernel should be \[3,9\]"),
        ({"weights": (draw(2, 9), draw(3, 9), draw(9))}, r"bias should be \[2,9\]"),
        ({"mask": (tf.fill([3, 3], True),)}, r"valid should be \[3,4\], got \[3,3\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    call = native._Call(3, draw(3, 4, 2), (draw(3, 3),), (draw(2, 9), draw(3, 9)), ())
    call.forward(keep=True)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        call._replace(**change).forward(keep=True)
