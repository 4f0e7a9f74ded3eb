"""A cell of your own: the LSTM with peepholes, whose gates see the cell state (Gers & Schmidhuber 2000, IJCNN).

    i_t = σ(W_ii x_t + W_hi h_{t−1} + p_i ⊙ c_{t−1} + b_i)
    f_t = σ(W_if x_t + W_hf h_{t−1} + p_f ⊙ c_{t−1} + b_f)
    c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t
    o_t = σ(W_io x_t + W_ho h_{t−1} + p_o ⊙ c_t + b_o)
    h_t = o_t ⊙ tanh(c_t)

The peepholes p are vectors, which neither framework packs. Hold the three versions below against each other:

    rnn-parity compare --cell examples/peephole_lstm.py:PEEPHOLE_LSTM
"""

from typing import NamedTuple

import numpy as np

from rnn_common.cells import Bias, Cell, InputMatrix, RecurrentMatrix, Vector
from rnn_common.equations import sigmoid


class PeepholeWeights(NamedTuple):
    W_ii: InputMatrix
    W_if: InputMatrix
    W_ic: InputMatrix
    W_io: InputMatrix
    W_hi: RecurrentMatrix
    W_hf: RecurrentMatrix
    W_hc: RecurrentMatrix
    W_ho: RecurrentMatrix
    p_i: Vector
    p_f: Vector
    p_o: Vector
    b_i: Bias = 0.0
    b_f: Bias = 0.0
    b_c: Bias = 0.0
    b_o: Bias = 0.0


def numpy_step(w, x_t, state):
    h, c = state
    i_t = sigmoid(x_t @ w.W_ii.T + h @ w.W_hi.T + w.p_i * c + w.b_i)
    f_t = sigmoid(x_t @ w.W_if.T + h @ w.W_hf.T + w.p_f * c + w.b_f)
    c_tilde = np.tanh(x_t @ w.W_ic.T + h @ w.W_hc.T + w.b_c)
    c_t = f_t * c + i_t * c_tilde
    o_t = sigmoid(x_t @ w.W_io.T + h @ w.W_ho.T + w.p_o * c_t + w.b_o)
    return o_t * np.tanh(c_t), c_t


def torch_step(w, x_t, state):
    from torch import sigmoid, tanh

    from rnn_torch import apply

    h, c = state
    i_t = sigmoid(apply(w.W_ii, x_t) + apply(w.W_hi, h) + w.p_i * c + w.b_i)
    f_t = sigmoid(apply(w.W_if, x_t) + apply(w.W_hf, h) + w.p_f * c + w.b_f)
    c_tilde = tanh(apply(w.W_ic, x_t) + apply(w.W_hc, h) + w.b_c)
    c_t = f_t * c + i_t * c_tilde
    o_t = sigmoid(apply(w.W_io, x_t) + apply(w.W_ho, h) + w.p_o * c_t + w.b_o)
    return o_t * tanh(c_t), c_t


def tf_step(w, x_t, state):
    from tensorflow import sigmoid, tanh

    from rnn_tf import apply

    h, c = state
    i_t = sigmoid(apply(w.W_ii, x_t) + apply(w.W_hi, h) + w.p_i * c + w.b_i)
    f_t = sigmoid(apply(w.W_if, x_t) + apply(w.W_hf, h) + w.p_f * c + w.b_f)
    c_tilde = tanh(apply(w.W_ic, x_t) + apply(w.W_hc, h) + w.b_c)
    c_t = f_t * c + i_t * c_tilde
    o_t = sigmoid(apply(w.W_io, x_t) + apply(w.W_ho, h) + w.p_o * c_t + w.b_o)
    return o_t * tanh(c_t), c_t


PEEPHOLE_LSTM = Cell("PeepholeLSTM", ("h", "c"), PeepholeWeights, numpy=numpy_step, torch=torch_step, tf=tf_step)


if __name__ == "__main__":
    import torch

    import rnn_torch

    layer = rnn_torch.layer_of(PEEPHOLE_LSTM)(12, 32, num_layers=2, bidirectional=True, batch_first=True)
    output, (h_n, c_n) = layer(torch.randn(4, 20, 12))
    print(layer)
    print("output", tuple(output.shape), "h_n", tuple(h_n.shape), "c_n", tuple(c_n.shape))
    print(layer.explain(torch.randn(4, 20, 12)))
