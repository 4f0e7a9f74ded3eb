"""SimpleRNN, LSTM and GRU for PyTorch: drop-in for `torch.nn`, written from the equations, twin of `rnn_tf`."""

import rnn_common  # noqa: F401  # isort: skip  Triton before TensorFlow: see rnn_common.loading.

from rnn_common import __version__
from rnn_common.copying import copy_weights
from rnn_torch.activations import hard_sigmoid_keras2
from rnn_torch.cells import GRUCell, LSTMCell, SimpleRNNCell
from rnn_torch.cells.base import apply
from rnn_torch.engines import ENGINES
from rnn_torch.exchange import fill, load, load_optimiser, save
from rnn_torch.layers import GRU, LSTM, SimpleRNN
from rnn_torch.own import layer_of

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
