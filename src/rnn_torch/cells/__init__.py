"""The cells, a page each: the step as the equations have it, its fast form with the derivative, and the drop-in cell.

A step takes the weights by the document's names, a batch of inputs `x_t (batch, input)` and the state, a tuple of
`(batch, hidden)`, and returns the state after it.
"""

from rnn_torch.cells import gru, gru_v3, lstm, simple_rnn
from rnn_torch.cells.base import PAGES
from rnn_torch.cells.gru import GRUCell
from rnn_torch.cells.lstm import LSTMCell
from rnn_torch.cells.simple_rnn import SimpleRNNCell

__all__ = ["GRUCell", "LSTMCell", "SimpleRNNCell"]

PAGES |= {"SimpleRNN": simple_rnn, "LSTM": lstm, "GRU": gru, "GRU v3": gru_v3}
