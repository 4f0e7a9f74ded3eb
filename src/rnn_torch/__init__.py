"""SimpleRNN, LSTM and GRU for PyTorch: drop-in for `torch.nn`, written from the equations, twin of `rnn_tf`."""

import common  # noqa: F401  # isort: skip  Triton before TensorFlow: see common.loading.

from rnn_torch.cells import GRUCell, LSTMCell, SimpleRNNCell
from rnn_torch.engines import ENGINES
from rnn_torch.layers import GRU, LSTM, SimpleRNN

__all__ = ["ENGINES", "GRU", "LSTM", "GRUCell", "LSTMCell", "SimpleRNN", "SimpleRNNCell"]
