"""A cell of your own: minGRU, without a recurrent matrix (Feng et al. 2024, arXiv 2410.01201).

    z_t = σ(W_iz x_t + b_z)
    h̃_t = W_ih x_t + b_h
    h_t = (1 − z_t) ⊙ h_{t−1} + z_t ⊙ h̃_t

Hold the three versions below against each other:

    rnn-parity compare --cell examples/min_gru.py:MIN_GRU
"""

from typing import NamedTuple

from rnn_common.cells import Bias, Cell, InputMatrix
from rnn_common.equations import sigmoid


class MinGRUWeights(NamedTuple):
    W_iz: InputMatrix
    W_ih: InputMatrix
    b_z: Bias = 0.0
    b_h: Bias = 0.0


def numpy_step(w, x_t, state):
    (h,) = state
    z_t = sigmoid(x_t @ w.W_iz.T + w.b_z)
    h_tilde = x_t @ w.W_ih.T + w.b_h
    return ((1 - z_t) * h + z_t * h_tilde,)


def torch_step(w, x_t, state):
    import torch

    from rnn_torch import apply

    (h,) = state
    z_t = torch.sigmoid(apply(w.W_iz, x_t) + w.b_z)
    h_tilde = apply(w.W_ih, x_t) + w.b_h
    return ((1 - z_t) * h + z_t * h_tilde,)


def tf_step(w, x_t, state):
    import tensorflow as tf

    from rnn_tf import apply

    (h,) = state
    z_t = tf.sigmoid(apply(w.W_iz, x_t) + w.b_z)
    h_tilde = apply(w.W_ih, x_t) + w.b_h
    return ((1 - z_t) * h + z_t * h_tilde,)


MIN_GRU = Cell("MinGRU", ("h",), MinGRUWeights, numpy=numpy_step, torch=torch_step, tf=tf_step)


if __name__ == "__main__":
    import torch

    import rnn_torch

    layer = rnn_torch.layer_of(MIN_GRU)(12, 32, batch_first=True)
    output, h_n = layer(torch.randn(4, 20, 12))
    print(layer)
    print("output", tuple(output.shape), "h_n", tuple(h_n.shape))
