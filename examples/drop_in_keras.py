"""Swap the import in Keras: the same `fit`, with `keras.layers.GRU` and with `rnn_tf.GRU`, gives the same losses.

The sequences have several lengths, so that there is a mask, and are read in both directions: what stands around the layer does
not change. Both models start from the same seed, and so from the same weights. They are in float32, where rounding differs
from the seventh digit on.
"""

import keras
import numpy as np

import rnn_tf


def train(gru, epochs=5):
    """The loss of every epoch."""
    random = np.random.default_rng(0)
    x = random.standard_normal((64, 12, 3)).astype("float32")
    y = (x[..., 0].sum(1) > 0).astype("float32")
    for sequence, length in zip(x, random.integers(4, 13, len(x)), strict=True):
        sequence[length:] = 0  # padding, which the mask leaves out

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 3)),
            keras.layers.Masking(),
            keras.layers.Bidirectional(gru(16)),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    return np.array(model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history["loss"])


if __name__ == "__main__":
    theirs, ours = train(keras.layers.GRU), train(rnn_tf.GRU)
    print(f"keras.layers.GRU   loss {theirs[0]:.6f} to {theirs[-1]:.6f}")
    print(f"rnn_tf.GRU         loss {ours[0]:.6f} to {ours[-1]:.6f}")
    print(f"largest relative difference over {len(ours)} epochs: {np.max(np.abs(ours - theirs) / theirs):.1e}")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours[-1] < ours[0]
