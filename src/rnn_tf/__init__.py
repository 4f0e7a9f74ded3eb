"""SimpleRNN, LSTM and GRU for TensorFlow: drop-in for `keras.layers`, written from the equations, twin of `rnn_torch`."""

import rnn_common  # noqa: F401  # isort: skip  Triton before TensorFlow: see rnn_common.loading.
import keras

from rnn_common import __version__
from rnn_common.copying import copy_weights
from rnn_tf.activations import hard_sigmoid_keras2
from rnn_tf.cells import GRUCell, LSTMCell, SimpleRNNCell
from rnn_tf.cells.base import apply
from rnn_tf.engines import ENGINES
from rnn_tf.exchange import fill, load, load_optimiser, save
from rnn_tf.layers import GRU, LSTM, SimpleRNN
from rnn_tf.own import layer_of

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"rnn_tf needs Keras's backend to be tensorflow, got {keras.backend.backend()}")

__all__ = [
    "ENGINES",
    "GRU",
    "LSTM",
    "GRUCell",
    "LSTMCell",
    "SimpleRNN",
    "SimpleRNNCell",
    "__version__",
    "apply",
    "copy_weights",
    "fill",
    "hard_sigmoid_keras2",
    "layer_of",
    "load",
    "load_optimiser",
    "save",
]
